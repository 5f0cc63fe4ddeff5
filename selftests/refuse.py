#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Creation requests that are refused: errno, the attribute pointed at, and
nothing left behind in any namespace.
"""

from collections.abc import Iterator
from typing import NamedTuple

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import Attrs, Mode, Namespace, Pairing, Policy, Scrub, Value, netkit, ns_fd
from lib.py import cases, refused

DATA = "linkinfo.data"
PEER = "linkinfo.data.peer-info"
MAC = bytes.fromhex("020000000001")
MULTICAST = bytes.fromhex("010000000001")
U32_MAX = (1 << 32) - 1


class Refusal(NamedTuple):
    """A request and the answer to it."""

    name: str
    attrs: Attrs
    error: str
    attribute: str | None = None
    index: int = 0


def l2(**data: Value) -> Attrs:
    return netkit(mode=Mode.L2, **data)


def lone(**data: Value) -> Attrs:
    return netkit(pairing=Pairing.SINGLE, **data)


def out_of_range() -> Iterator[Refusal]:
    """What the table of attributes refuses."""
    for name in ("mode", "scrub", "peer-scrub", "pairing"):
        for value in (2, U32_MAX):
            yield Refusal(
                f"{name}_{value}", netkit(**{name: value}), "ERANGE", f"{DATA}.{name}"
            )
    for value in (0, 1):
        yield Refusal(
            f"primary_{value}", netkit(primary=value), "EINVAL", f"{DATA}.primary"
        )
    yield Refusal("primary_empty", netkit(primary=b""), "EINVAL", f"{DATA}.primary")


def too_short() -> Iterator[Refusal]:
    sizes = {
        "peer-info": 16,
        "policy": 4,
        "peer-policy": 4,
        "mode": 4,
        "scrub": 4,
        "peer-scrub": 4,
        "headroom": 2,
        "tailroom": 2,
        "pairing": 4,
    }
    for name, size in sizes.items():
        for length in (0, size - 1):
            yield Refusal(
                f"{name}_{length}",
                netkit(**{name: bytes(length)}),
                "ERANGE",
                f"{DATA}.{name}",
            )


def bad_policy() -> Iterator[Refusal]:
    """Only pass and drop are; next, redirect and the rest are not."""
    values = (Policy.NEXT & U32_MAX, 1, 3, Policy.REDIRECT, 8)
    for name in ("policy", "peer-policy"):
        for value in values:
            yield Refusal(
                f"{name}_{value}", netkit(**{name: value}), "EINVAL", f"{DATA}.{name}"
            )
    yield Refusal(
        "first_of_two", netkit(peer_policy=1, policy=1), "EINVAL", f"{DATA}.policy"
    )
    yield Refusal(
        "before_address",
        {"address": MAC} | netkit(policy=1),
        "EINVAL",
        f"{DATA}.policy",
    )
    yield Refusal("of_single", lone(policy=1), "EINVAL", f"{DATA}.policy")


def not_for_single() -> Iterator[Refusal]:
    for name, value in (
        ("peer-info", {}),
        ("peer-info", {"ifname": "nk1"}),
        ("peer-scrub", Scrub.DEFAULT),
        ("peer-scrub", Scrub.NONE),
        ("peer-policy", Policy.PASS),
        ("peer-policy", Policy.DROP),
        ("scrub", Scrub.DEFAULT),
        ("scrub", Scrub.NONE),
        ("policy", Policy.DROP),
    ):
        label = value if isinstance(value, int) else len(value)
        yield Refusal(f"{name}_{label}", lone(**{name: value}), "EOPNOTSUPP")
    yield Refusal("address", {"address": MAC} | lone(), "EOPNOTSUPP")


def bad_address() -> Iterator[Refusal]:
    addresses = (
        ("short", bytes(5), "EINVAL", False),
        ("empty", b"", "EINVAL", False),
        ("long", bytes(7), "EINVAL", False),
        ("too_long", bytes(33), "ERANGE", True),
        ("zero", bytes(6), "EADDRNOTAVAIL", False),
        ("multicast", MULTICAST, "EADDRNOTAVAIL", False),
        ("broadcast", b"\xff" * 6, "EADDRNOTAVAIL", False),
    )
    for name, value, error, pointed in addresses:
        yield Refusal(
            f"{name}_primary",
            {"address": value} | l2(),
            error,
            "address" if pointed else None,
        )
        yield Refusal(
            f"{name}_peer",
            l2(peer_info={"address": value}),
            error,
            f"{PEER}.address" if pointed else None,
        )


def no_address_in_l3() -> Iterator[Refusal]:
    for mode, data in (("default", {}), ("l3", {"mode": Mode.L3})):
        yield Refusal(
            f"{mode}_primary", {"address": MAC} | netkit(**data), "EOPNOTSUPP"
        )
        yield Refusal(
            f"{mode}_primary_beside_peer_info",
            {"address": MAC} | netkit(peer_info={}, **data),
            "EOPNOTSUPP",
        )
        yield Refusal(
            f"{mode}_peer", netkit(peer_info={"address": MAC}, **data), "EOPNOTSUPP"
        )


def both_sides(
    name: str, attrs: Attrs, error: str, attribute: str | None = None
) -> Iterator[Refusal]:
    """An attribute of any link, on the primary and on the peer."""
    yield Refusal(f"{name}_primary", dict(attrs) | netkit(), error, attribute)
    yield Refusal(
        f"{name}_peer",
        netkit(peer_info=attrs),
        error,
        f"{PEER}.{attribute}" if attribute else None,
    )


def bad_link_attribute() -> Iterator[Refusal]:
    for name, value, error in (
        ("num-rx-queues", 0, "EINVAL"),
        ("num-rx-queues", 1025, "EOPNOTSUPP"),
        ("num-rx-queues", 4096, "EOPNOTSUPP"),
        ("num-rx-queues", 4097, "EINVAL"),
        ("num-tx-queues", 0, "EINVAL"),
        ("num-tx-queues", 2, "EOPNOTSUPP"),
        ("num-tx-queues", 4097, "EINVAL"),
        ("mtu", 67, "EINVAL"),
        ("mtu", 65536, "EINVAL"),
        ("gso-max-size", 524281, "EINVAL"),
        ("gso-ipv4-max-size", 524281, "EINVAL"),
        ("gso-max-segs", 65536, "EINVAL"),
        ("gro-max-size", 524281, "EINVAL"),
        ("broadcast", bytes(5), "EINVAL"),
    ):
        label = value if isinstance(value, int) else len(value)
        yield from both_sides(f"{name}_{label}", {name: value}, error)
    yield from both_sides("long_name", {"ifname": "n" * 16}, "ERANGE", "ifname")
    yield from both_sides("read_only", {"tso-max-size": 1}, "EINVAL", "tso-max-size")
    yield from both_sides("no_such_fd", {"net-ns-fd": 1 << 20}, "EBADF")
    yield from both_sides("no_such_pid", {"net-ns-pid": 1 << 30}, "ESRCH")
    yield Refusal("queues_of_single", {"num-rx-queues": 1025} | lone(), "EOPNOTSUPP")
    # Fails once both devices are registered.
    yield Refusal("no_such_master", {"master": 1 << 20} | netkit(), "EINVAL")


def bad_name() -> Iterator[Refusal]:
    for name in ("a/b", "a:b", "a b", ".", "..", "%d%d", "%s"):
        yield from both_sides(f"{name!r}", {"ifname": name}, "EINVAL")
    yield Refusal(
        "same_for_both", {"ifname": "nk"} | netkit(peer_info={"ifname": "nk"}), "EEXIST"
    )
    yield from both_sides("taken", {"ifname": "taken"}, "EEXIST")


def bad_index() -> Iterator[Refusal]:
    yield Refusal("taken_primary", netkit(), "EEXIST", index=77)
    yield Refusal("taken_peer", netkit(peer_info={"ifi-index": 77}), "EBUSY", index=78)
    yield Refusal(
        "same_for_both", netkit(peer_info={"ifi-index": 78}), "EBUSY", index=78
    )
    yield Refusal("negative_primary", netkit(), "EINVAL", index=-1)
    # Looked at even where it would not be used.
    yield Refusal("negative_peer", netkit(peer_info={"ifi-index": -1}), "EINVAL", PEER)


def variants(cases: Iterator[Refusal]) -> list[KsftNamedVariant]:
    return [KsftNamedVariant(case.name, case) for case in cases]


def remains(world: list[Namespace]) -> list[list[tuple[int, str]]]:
    return [sorted((link.index, link.name) for link in ns.rtnl.links()) for ns in world]


def check(
    world: list[Namespace],
    ns: Namespace,
    attrs: Attrs,
    error: str,
    attribute: str | None = None,
    index: int = 0,
) -> None:
    before = remains(world)
    with refused() as answers:
        ns.rtnl.newlink(attrs, index)
    ksft_eq(answers, [(error, attribute)])
    ksft_eq(remains(world), before)


def check_case(world: list[Namespace], case: Refusal) -> None:
    check(world, world[0], case.attrs, case.error, case.attribute, case.index)


@ksft_variants(variants(out_of_range()))
def test_range(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(too_short()))
def test_short(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(bad_policy()))
def test_policy(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(not_for_single()))
def test_single(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(bad_address()))
def test_address(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(no_address_in_l3()))
def test_l3_address(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(bad_link_attribute()))
def test_link(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(bad_name()))
def test_name(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


@ksft_variants(variants(bad_index()))
def test_index(world: list[Namespace], case: Refusal) -> None:
    check_case(world, case)


def test_peer_name_elsewhere(world: list[Namespace]) -> None:
    """Taken in the peer's namespace, free in the primary's."""
    with ns_fd(world[0].name) as fd:
        check(
            world,
            world[1],
            netkit(peer_info={"ifname": "taken", "net-ns-fd": fd}),
            "EEXIST",
        )


def test_primary_name_with_peer_elsewhere(world: list[Namespace]) -> None:
    """The peer, there already, goes again."""
    with ns_fd(world[1].name) as fd:
        check(
            world,
            world[0],
            {"ifname": "a/b"} | netkit(peer_info={"ifname": "nk", "net-ns-fd": fd}),
            "EINVAL",
        )


def test_master_with_peer_elsewhere(world: list[Namespace]) -> None:
    """Both, there already, go again."""
    with ns_fd(world[1].name) as fd:
        check(
            world,
            world[0],
            {"master": 77} | netkit(peer_info={"ifname": "nk", "net-ns-fd": fd}),
            "EOPNOTSUPP",
        )


def main() -> None:
    # Shared: a request that is refused leaves nothing for the next one.
    world = [Namespace(), Namespace()]
    world[0].rtnl.newlink({"ifname": "taken", "linkinfo": {"kind": "dummy"}}, 77)
    try:
        ksft_run(cases(globals()), args=(world,))
    finally:
        for ns in world:
            ns.delete()
    ksft_exit()


if __name__ == "__main__":
    main()
