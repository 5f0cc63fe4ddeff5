#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Creation of netkit devices: names, indices and addresses, and where they go.
"""

from pathlib import Path

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_in, ksft_ne, ksft_run
from lib.py import ksft_true, ksft_variants
from lib.py import Attrs, IFF_UP, MODES, Mode, Namespace, Pairing, Policy, Port, Scrub
from lib.py import cases, cmd, namespaces, netkit, ns_fd, pair, single

NAME_ENUM, NAME_USER = 1, 3
ADDRESS_PERMANENT, ADDRESS_RANDOM, ADDRESS_SET = 0, 1, 3
ZERO = "00:00:00:00:00:00"
MAC_PRIMARY = bytes.fromhex("020000000001")
MAC_PEER = bytes.fromhex("020000000002")


def sysfs(ns: Namespace, device: str, attribute: str) -> int:
    # The namespace's own sysfs, which "ip netns exec" mounts.
    path = Path("/sys/class/net", device, attribute)
    return int(cmd(f"cat {path}", ns=ns.name).stdout)


def test_default_names() -> None:
    """Without names the devices are nk%d, and the peer comes first."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink(netkit())
    ksft_eq(ns.devices(), {"nk0", "nk1"})
    ksft_eq(ns.rtnl.getlink("nk0").data["primary"], 0)
    ksft_eq(ns.rtnl.getlink("nk1").data["primary"], 1)
    for name in ("nk0", "nk1"):
        ksft_eq(sysfs(ns, name, "name_assign_type"), NAME_ENUM)


def test_default_name_of_single() -> None:
    (ns,) = namespaces(1)
    for name in ("nk0", "nk1"):
        ns.rtnl.newlink(netkit(pairing=Pairing.SINGLE))
        ksft_eq(ns.rtnl.getlink(name).data["primary"], 1)
    ksft_eq(ns.devices(), {"nk0", "nk1"})


def test_default_name_of_peer() -> None:
    """The primary's name says nothing about its peer's."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "given"} | netkit())
    ksft_eq(ns.devices(), {"given", "nk0"})
    ksft_eq(sysfs(ns, "given", "name_assign_type"), NAME_USER)
    ksft_eq(sysfs(ns, "nk0", "name_assign_type"), NAME_ENUM)


def test_default_name_of_primary() -> None:
    (ns,) = namespaces(1)
    ns.rtnl.newlink(netkit(peer_info={"ifname": "given"}))
    ksft_eq(ns.devices(), {"given", "nk0"})
    ksft_eq(ns.rtnl.getlink("nk0").data["primary"], 1)
    ksft_eq(sysfs(ns, "given", "name_assign_type"), NAME_USER)
    ksft_eq(sysfs(ns, "nk0", "name_assign_type"), NAME_ENUM)


def test_template_names() -> None:
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "in%d"} | netkit(peer_info={"ifname": "in%d"}))
    ksft_eq(ns.devices(), {"in0", "in1"})
    ksft_eq(ns.rtnl.getlink("in0").data["primary"], 0)


@ksft_variants(
    [
        KsftNamedVariant("no_data", {"linkinfo": {"kind": "netkit"}}),
        KsftNamedVariant("empty_data", netkit()),
        KsftNamedVariant("unknown_attribute", netkit(unknown=1)),
    ]
)
def test_defaults(attrs: Attrs) -> None:
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "nk"} | dict(attrs))
    link = ns.rtnl.getlink("nk")
    ksft_eq(
        link.data,
        {
            "primary": 1,
            "policy": Policy.PASS,
            "mode": Mode.L3,
            "scrub": Scrub.DEFAULT,
            "headroom": 0,
            "tailroom": 0,
            "pairing": Pairing.PAIR,
            "peer-policy": Policy.PASS,
            "peer-scrub": Scrub.DEFAULT,
        },
    )
    ksft_eq((link["num-rx-queues"], link["num-tx-queues"]), (1, 1))


@ksft_variants(
    [
        KsftNamedVariant("mode", "mode", Mode.L2),
        KsftNamedVariant("policy", "policy", Policy.DROP),
        KsftNamedVariant("peer_policy", "peer-policy", Policy.DROP),
        KsftNamedVariant("scrub", "scrub", Scrub.NONE),
        KsftNamedVariant("peer_scrub", "peer-scrub", Scrub.NONE),
        KsftNamedVariant("headroom", "headroom", 0xFFFF),
        KsftNamedVariant("tailroom", "tailroom", 0xFFFF),
    ]
)
def test_attribute(name: str, value: int) -> None:
    """Each attribute alone, and what is not given keeps its default."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "plain"} | netkit())
    ns.rtnl.newlink({"ifname": "nk"} | netkit(**{name: value}))
    expected = dict(ns.rtnl.getlink("plain").data)
    ksft_ne(expected[name], value)
    ksft_eq(ns.rtnl.getlink("nk").data, expected | {name: value})


def test_longer_attribute() -> None:
    """An attribute longer than its type is read from its beginning."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink(
        {"ifname": "nk"} | netkit(mode=bytes(8), headroom=b"\x22\x00\xff\xff")
    )
    data = ns.rtnl.getlink("nk").data
    ksft_eq((data["mode"], data["headroom"]), (Mode.L2, 0x22))


def test_last_one_counts() -> None:
    """Of an attribute given twice, as in C's table of attributes."""
    (ns,) = namespaces(1)
    twice = b"".join(
        bytes.fromhex("08000500") + bytes((mode, 0, 0, 0))
        for mode in (Mode.L3, Mode.L2)
    )
    ns.rtnl.newlink({"ifname": "nk", "linkinfo": {"kind": "netkit", "data": twice}})
    ksft_eq(ns.rtnl.getlink("nk").data["mode"], Mode.L2)


def test_address_random_in_l2() -> None:
    """Random ones for both, and locally administered."""
    (ns,) = namespaces(1)
    ports = pair(ns, ns, up=False, mode=Mode.L2)
    for port in ports:
        ksft_eq(port.address[0] & 3, 2, "unicast, locally administered")
        ksft_eq(sysfs(ns, port.name, "addr_assign_type"), ADDRESS_RANDOM)
    ksft_ne(ports[0].address, ports[1].address)


def test_address_zero_in_l3() -> None:
    (ns,) = namespaces(1)
    for port in pair(ns, ns, up=False, mode=Mode.L3):
        ksft_eq(port.link.address, ZERO)
        ksft_eq(sysfs(ns, port.name, "addr_assign_type"), ADDRESS_PERMANENT)


@ksft_variants(MODES)
def test_address_of_single(mode: Mode) -> None:
    (ns,) = namespaces(1)
    port = single(ns, up=False, mode=mode)
    ksft_eq(port.link.address == ZERO, mode == Mode.L3)


@ksft_variants(
    [
        KsftNamedVariant("both", MAC_PRIMARY, MAC_PEER),
        KsftNamedVariant("primary", MAC_PRIMARY, None),
        KsftNamedVariant("peer", None, MAC_PEER),
    ]
)
def test_address_given(primary: bytes | None, peer: bytes | None) -> None:
    """A given address is taken; the other device's is random then."""
    (ns,) = namespaces(1)
    attrs = {"ifname": "nk0"} | ({"address": primary} if primary else {})
    info = {"ifname": "nk1"} | ({"address": peer} if peer else {})
    ns.rtnl.newlink(attrs | netkit(mode=Mode.L2, peer_info=info))
    for name, given in (("nk0", primary), ("nk1", peer)):
        ksft_eq(
            sysfs(ns, name, "addr_assign_type"),
            ADDRESS_SET if given else ADDRESS_RANDOM,
        )
        if given:
            ksft_eq(Port(ns, name).address, given)
    ksft_ne(Port(ns, "nk0").address, Port(ns, "nk1").address)


def test_address_without_peer_info() -> None:
    """The primary's address is not the peer's."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "nk", "address": MAC_PRIMARY} | netkit(mode=Mode.L2))
    ksft_eq(Port(ns, "nk").address, MAC_PRIMARY)
    ksft_ne(Port(ns, "nk0").address, MAC_PRIMARY)


@ksft_variants(
    [
        # primary's index asked for, peer's index asked for, and got
        KsftNamedVariant("both", 41, 42, True, True),
        KsftNamedVariant("primary", 41, 0, True, False),
        KsftNamedVariant("peer", 0, 42, False, False),
    ]
)
def test_ifindex(index: int, peer_index: int, obeyed: bool, peer_obeyed: bool) -> None:
    """A peer's index is heeded only beside an index of the primary."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink(
        {"ifname": "nk0"}
        | netkit(peer_info={"ifname": "nk1", "ifi-index": peer_index}),
        index,
    )
    ksft_eq(ns.rtnl.getlink("nk0").index == 41, obeyed)
    ksft_eq(ns.rtnl.getlink("nk1").index == 42, peer_obeyed)


def test_same_ifindex_elsewhere() -> None:
    """Indices are a matter of each namespace."""
    ns, other = namespaces(2)
    with ns_fd(other.name) as fd:
        ns.rtnl.newlink(
            {"ifname": "nk0"}
            | netkit(peer_info={"ifname": "nk0", "ifi-index": 41, "net-ns-fd": fd}),
            41,
        )
    ksft_eq(ns.rtnl.getlink("nk0").index, 41)
    ksft_eq(other.rtnl.getlink("nk0").index, 41)


def test_namespaces_given() -> None:
    """Each device where it was asked to be, neither where the request came."""
    caller, ns, other = namespaces(3)
    with ns_fd(ns.name) as fd, ns_fd(other.name) as peer_fd:
        caller.rtnl.newlink(
            {"ifname": "here", "net-ns-fd": fd}
            | netkit(peer_info={"ifname": "there", "net-ns-fd": peer_fd})
        )
    ksft_eq(caller.devices(), set())
    ksft_eq(ns.devices(), {"here"})
    ksft_eq(other.devices(), {"there"})


@ksft_variants(
    [
        # Without a peer's namespace of its own.
        KsftNamedVariant("with_peer_info", {"peer_info": {"ifname": "nk1"}}, "caller"),
        KsftNamedVariant("without", {}, "target"),
    ]
)
def test_peer_namespace_default(data: Attrs, where: str) -> None:
    """A peer of which nothing is said follows the primary.

    One that is described is created where the request came from.
    """
    caller, target = namespaces(2)
    with ns_fd(target.name) as fd:
        caller.rtnl.newlink({"ifname": "nk", "net-ns-fd": fd} | netkit(**data))
    ksft_in("nk", target.devices())
    ksft_eq(len(caller.devices()), 1 if where == "caller" else 0)
    ksft_eq(len(target.devices()), 1 if where == "caller" else 2)


@ksft_variants(
    [
        KsftNamedVariant("most_rx", {"num-rx-queues": 1024}, {}),
        KsftNamedVariant("most_rx_peer", {}, {"num-rx-queues": 1024}),
        KsftNamedVariant("tx", {"num-tx-queues": 1}, {"num-tx-queues": 1}),
        KsftNamedVariant("each_its_own", {"num-rx-queues": 3}, {"num-rx-queues": 5}),
    ]
)
def test_queues(attrs: Attrs, info: Attrs) -> None:
    (ns,) = namespaces(1)
    ns.rtnl.newlink(
        {"ifname": "nk0"}
        | dict(attrs)
        | netkit(peer_info={"ifname": "nk1"} | dict(info))
    )
    for name, wish in (("nk0", attrs), ("nk1", info)):
        link = ns.rtnl.getlink(name)
        ksft_eq(link["num-rx-queues"], wish.get("num-rx-queues", 1))
        ksft_eq(link["num-tx-queues"], 1)


def test_queues_without_peer_info() -> None:
    """A peer of which nothing is said gets the primary's numbers."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink({"ifname": "nk", "num-rx-queues": 4} | netkit())
    ksft_eq(ns.rtnl.getlink("nk0")["num-rx-queues"], 4)


@ksft_variants(
    [
        KsftNamedVariant("mtu", "mtu", 9000),
        KsftNamedVariant("gso_max_size", "gso-max-size", 100000),
        KsftNamedVariant("gso_max_segs", "gso-max-segs", 17),
        KsftNamedVariant("gro_max_size", "gro-max-size", 90000),
        KsftNamedVariant("group", "group", 7),
        KsftNamedVariant("txqlen", "txqlen", 77),
    ]
)
def test_link_attribute_of_each(name: str, value: int) -> None:
    """Attributes of any link go to the device they were given for."""
    (ns,) = namespaces(1)
    ns.rtnl.newlink(
        {"ifname": "nk0", name: value} | netkit(peer_info={"ifname": "nk1"})
    )
    ns.rtnl.newlink(
        {"ifname": "nk2"} | netkit(peer_info={"ifname": "nk3", name: value})
    )
    has = {link: ns.rtnl.getlink(f"nk{link}")[name] == value for link in range(4)}
    ksft_eq(has, {0: True, 1: False, 2: False, 3: True})


def test_created_up() -> None:
    """Flags of the request are the primary's."""
    (ns,) = namespaces(1, ipv6=True)
    ns.rtnl.newlink(
        {"ifname": "nk0"} | netkit(peer_info={"ifname": "nk1"}), flags=IFF_UP
    )
    ksft_true(ns.rtnl.getlink("nk0").flags & IFF_UP)
    ksft_eq(ns.rtnl.getlink("nk1").flags & IFF_UP, 0)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
