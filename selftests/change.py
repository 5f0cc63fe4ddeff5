#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Changes of netkit devices: the two policies, through the primary, and no more.
"""

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import Attrs, Mode, Pairing, Policy, Port, Scrub, cases, namespaces, netkit
from lib.py import pair, refused, single

DATA = "linkinfo.data"

# In the order in which they are looked at.
FIXED: dict[str, int | Attrs] = {
    "mode": Mode.L3,
    "scrub": Scrub.DEFAULT,
    "peer-scrub": Scrub.DEFAULT,
    "peer-info": {},
    "headroom": 0,
    "tailroom": 0,
    "pairing": Pairing.PAIR,
}


def fixed_variants() -> list[KsftNamedVariant]:
    """The values that the device has: they are refused all the same."""
    return [KsftNamedVariant(name, name, value) for name, value in FIXED.items()]


def policies(port: Port) -> tuple[object, object]:
    data = port.link.data
    return data["policy"], data.get("peer-policy")


def default_pair() -> tuple[Port, Port]:
    (ns,) = namespaces(1)
    return pair(ns, ns, up=False)


@ksft_variants(
    [
        KsftNamedVariant("policy", {"policy": Policy.DROP}, (Policy.DROP, Policy.PASS)),
        KsftNamedVariant(
            "peer_policy", {"peer-policy": Policy.DROP}, (Policy.PASS, Policy.DROP)
        ),
        KsftNamedVariant(
            "both",
            {"policy": Policy.DROP, "peer-policy": Policy.DROP},
            (Policy.DROP, Policy.DROP),
        ),
        KsftNamedVariant("none", {}, (Policy.PASS, Policy.PASS)),
    ]
)
def test_policy(data: Attrs, expected: tuple[int, int]) -> None:
    """Seen from both ends, and back again."""
    primary, peer = default_pair()
    primary.change(**data)
    ksft_eq(policies(primary), expected)
    ksft_eq(policies(peer), expected[::-1])
    primary.change(**dict.fromkeys(data, Policy.PASS))
    ksft_eq(policies(primary), (Policy.PASS, Policy.PASS))


def test_policy_across_namespaces() -> None:
    primary, peer = pair(*namespaces(2), up=False)
    primary.change(peer_policy=Policy.DROP)
    ksft_eq(policies(peer), (Policy.DROP, Policy.PASS))


def test_policy_with_link_attribute() -> None:
    """The rest of the request is carried out too."""
    primary, _ = default_pair()
    primary.ns.rtnl.change("nk0", {"mtu": 2000} | netkit(policy=Policy.DROP))
    ksft_eq((policies(primary)[0], primary.link["mtu"]), (Policy.DROP, 2000))


@ksft_variants(["policy", "peer-policy"])
def test_bad_policy(name: str) -> None:
    primary, _ = default_pair()
    for value in (0xFFFFFFFF, 1, 3, Policy.REDIRECT):
        with refused() as answers:
            primary.change(**{name: value})
        ksft_eq(answers, [("EINVAL", f"{DATA}.{name}")])
    ksft_eq(policies(primary), (Policy.PASS, Policy.PASS))


def test_partly() -> None:
    """The policy is in force before the peer's is refused."""
    primary, _ = default_pair()
    with refused() as answers:
        primary.change(policy=Policy.DROP, peer_policy=1)
    ksft_eq(answers, [("EINVAL", f"{DATA}.peer-policy")])
    ksft_eq(policies(primary), (Policy.DROP, Policy.PASS))


def test_not_at_all() -> None:
    """The policy comes first, wherever in the request it stands."""
    primary, _ = default_pair()
    with refused() as answers:
        primary.change(peer_policy=Policy.DROP, policy=1)
    ksft_eq(answers, [("EINVAL", f"{DATA}.policy")])
    ksft_eq(policies(primary), (Policy.PASS, Policy.PASS))


@ksft_variants(fixed_variants())
def test_fixed(name: str, value: int | Attrs) -> None:
    primary, _ = default_pair()
    with refused() as answers:
        primary.change(**{"policy": Policy.DROP, name: value})
    ksft_eq(answers, [("EACCES", f"{DATA}.{name}")])
    ksft_eq(policies(primary), (Policy.PASS, Policy.PASS))


def test_fixed_order() -> None:
    """Of several the first of the list is named, not of the request."""
    primary, _ = default_pair()
    names = list(FIXED)
    for first, name in enumerate(names):
        wished = {other: FIXED[other] for other in reversed(names[first:])}
        with refused() as answers:
            primary.change(**wished)
        ksft_eq(answers, [("EACCES", f"{DATA}.{name}")])


@ksft_variants(
    [
        KsftNamedVariant("primary", "primary", 1, "EINVAL"),
        KsftNamedVariant("mode", "mode", 2, "ERANGE"),
        KsftNamedVariant("policy", "policy", b"\0", "ERANGE"),
    ]
)
def test_malformed(name: str, value: int | bytes, error: str) -> None:
    """The table of attributes is looked at before the device is."""
    for port in default_pair():
        with refused() as answers:
            port.change(**{name: value})
        ksft_eq(answers, [(error, f"{DATA}.{name}")])


@ksft_variants(
    [
        KsftNamedVariant("nothing", {}),
        KsftNamedVariant("policy", {"policy": Policy.DROP}),
        KsftNamedVariant("peer_policy", {"peer-policy": Policy.DROP}),
        KsftNamedVariant("bad_policy", {"policy": 1}),
        KsftNamedVariant("mode", {"mode": Mode.L3}),
    ]
)
def test_through_peer(data: Attrs) -> None:
    """Not even a request without a wish passes, and no attribute is named."""
    primary, peer = default_pair()
    with refused() as answers:
        peer.change(**data)
    ksft_eq(answers, [("EACCES", None)])
    ksft_eq(policies(primary), (Policy.PASS, Policy.PASS))


@ksft_variants(
    [
        KsftNamedVariant("policy", {"policy": Policy.PASS}, "EOPNOTSUPP", None),
        KsftNamedVariant("bad_policy", {"policy": 1}, "EOPNOTSUPP", None),
        KsftNamedVariant(
            "peer_policy", {"peer-policy": Policy.PASS}, "EOPNOTSUPP", None
        ),
        KsftNamedVariant("bad_peer_policy", {"peer-policy": 1}, "EOPNOTSUPP", None),
        KsftNamedVariant("mode", {"mode": Mode.L3}, "EACCES", f"{DATA}.mode"),
        KsftNamedVariant(
            "pairing", {"pairing": Pairing.SINGLE}, "EACCES", f"{DATA}.pairing"
        ),
    ]
)
def test_single(data: Attrs, error: str, attribute: str | None) -> None:
    port = single(namespaces(1)[0], up=False)
    with refused() as answers:
        port.change(**data)
    ksft_eq(answers, [(error, attribute)])
    ksft_eq(policies(port), (Policy.PASS, None))


def test_single_nothing() -> None:
    """A request without a wish passes, unlike through a peer."""
    port = single(namespaces(1)[0], up=False)
    with refused() as answers:
        port.change()
    ksft_eq(answers, [])


def test_other_kind() -> None:
    """The attributes of another kind of device are refused by the core."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "dummy", "linkinfo": {"kind": "dummy"}})
    with refused() as answers:
        Port(ns, "dummy").change(policy=Policy.DROP)
    ksft_eq(answers, [("EOPNOTSUPP", None)])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
