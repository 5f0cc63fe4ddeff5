#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Netkit devices on the move between namespaces, and the end of them.

IPv6 is on, as it is for everybody: of all users of a device it has most to do
with it when it comes, is renamed, moved and deleted.
"""

from collections.abc import Sequence

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_gt
from lib.py import ksft_run, ksft_variants
from lib.py import IFF_UP, MODES, Mode, Monitor, Namespace, Pairing, Port, RTM_DELLINK
from lib.py import cases, emptied, frame, namespaces, netkit, operational, pair
from lib.py import sending, single

GROUP = 7


def delete(port: Port) -> None:
    port.ns.rtnl.dellink({"ifname": port.name})


def passing(taken: Sequence[int]) -> None:
    """Waits until each device has taken some of what is sent."""
    ksft_busy_wait(lambda: min(taken) > 10, deadline=60, comment="nothing passes")
    ksft_gt(min(taken), 10)


def works(primary: Port, peer: Port) -> None:
    for sender, receiver in ((primary, peer), (peer, primary)):
        with sender.packets() as out, receiver.packets() as into:
            ksft_eq(out.send(frame(receiver.address)), True)
            ksft_eq(into.receive().data, frame(receiver.address))


@ksft_variants(MODES)
def test_move_peer(mode: Mode) -> None:
    """Away, on and back; down at first, and no less of a pair."""
    ns, second, third = namespaces(3, ipv6=True)
    primary, peer = pair(ns, ns, mode=mode)
    data, address = peer.link.data, peer.address
    for to in (second, third, ns):
        peer = peer.move(to)
        ksft_eq((peer.link.flags & IFF_UP, primary.link["carrier"]), (0, 0))
        peer.up()
        ksft_eq((primary.link["carrier"], peer.link["carrier"]), (1, 1))
        peer.wait_ipv6()
        ksft_eq((peer.link.data, peer.address), (data, address))
        works(primary, peer)


def test_move_both() -> None:
    ns, second, third = namespaces(3, ipv6=True)
    primary, peer = pair(ns, ns)
    primary, peer = primary.move(second), peer.move(third)
    ksft_eq(ns.devices(), set())
    operational(primary, peer)
    works(primary, peer)


def test_link_follows() -> None:
    """Index and namespace of the other end are told anew after a move."""
    ns, other = namespaces(2, ipv6=True)
    primary, peer = pair(ns, ns)
    # So that the peer's old index is taken where it goes.
    other.rtnl.newlink(
        {"ifname": "taken", "linkinfo": {"kind": "dummy"}}, peer.link.index
    )
    before = peer.link.index
    peer = peer.move(other)
    ksft_eq(peer.link.index == before, False)
    for port, partner in ((primary, peer), (peer, primary)):
        ksft_eq(port.link["link"], partner.link.index)
        ksft_eq(port.ns.nsid(partner.ns), port.link["link-netnsid"])
    peer = peer.move(ns)
    ksft_eq(
        (primary.link["link"], primary.link.attrs.get("link-netnsid")),
        (peer.link.index, None),
    )


@ksft_variants(["up", "down"])
def test_rename(state: str) -> None:
    ns, other = namespaces(2, ipv6=True)
    primary, peer = pair(ns, other, up=state == "up")
    for port, name in ((primary, "eth0"), (peer, "eth0")):
        port.ns.ip(f"link set {port.name} name {name}")
    primary, peer = Port(ns, "eth0"), Port(other, "eth0")
    ksft_eq(
        (primary.link["link"], peer.link["link"]), (peer.link.index, primary.link.index)
    )
    operational(primary, peer)
    for port in (primary, peer):
        port.wait_ipv6()
    works(primary, peer)


@ksft_variants(
    [
        KsftNamedVariant(f"{side}_{count}ns", side, count)
        for side in (0, 1)
        for count in (1, 2)
    ]
)
def test_delete(side: int, count: int) -> None:
    """From either end both go."""
    spaces = namespaces(count, ipv6=True)
    ports = pair(spaces[0], spaces[-1])
    for port in ports:
        port.wait_ipv6()
    delete(ports[side])
    for ns in spaces:
        ksft_eq(ns.devices(), set())


@ksft_variants(
    [
        KsftNamedVariant("primary", 0),
        KsftNamedVariant("peer", 1),
    ]
)
def test_delete_namespace(side: int) -> None:
    """The device elsewhere goes too, and the name is free again."""
    spaces = namespaces(2, ipv6=True)
    for port in pair(*spaces):
        port.wait_ipv6()
    left = spaces[1 - side]
    spaces[side].delete()
    emptied(left)
    pair(left, left)


def test_delete_both_namespaces() -> None:
    """At once, and a third device tells when it is done."""
    ns, second, third = namespaces(3, ipv6=True)
    pair(second, third)
    for number, other in enumerate((second, third)):
        other.rtnl.newlink({"ifname": "w0"} | netkit())
        Port(other, "w0").ns.ip(f"link set w0 name w{number + 1}")
        Port(other, f"w{number + 1}").move(ns)
    ksft_eq(ns.devices(), {"w1", "w2"})
    for other in (second, third):
        other.delete()
    emptied(ns)


def test_delete_namespace_of_both() -> None:
    """A pair within the namespace, beside one that leads out of it."""
    ns, other = namespaces(2, ipv6=True)
    other.rtnl.newlink({"ifname": "a0"} | netkit(peer_info={"ifname": "a1"}))
    pair(ns, other)
    other.delete()
    emptied(ns)


@ksft_variants(
    [
        KsftNamedVariant(f"{side}_{count}ns", side, count)
        for side in (0, 1)
        for count in (1, 2)
    ]
)
def test_delete_under_traffic(side: int, count: int) -> None:
    for _ in range(3):
        spaces = namespaces(count, ipv6=True)
        ports = pair(spaces[0], spaces[-1])
        with sending(*ports) as taken:
            passing(taken)
            delete(ports[side])
        for ns in spaces:
            ksft_eq(ns.devices(), set())


def test_delete_namespace_under_traffic() -> None:
    """One end sends; the other's namespace goes."""
    for _ in range(3):
        ns, other = namespaces(2, ipv6=True)
        primary, _ = pair(ns, other)
        with sending(primary) as taken:
            passing(taken)
            other.delete()
            emptied(ns)


def test_move_under_traffic() -> None:
    """A device that is moved goes down; the other end sends on."""
    ns, other = namespaces(2, ipv6=True)
    primary, peer = pair(ns, ns)
    with sending(primary):
        for to in (other, ns, other):
            peer = peer.move(to)
            peer.up()
            with peer.packets() as into:
                into.receive()
    works(primary, peer)


def grouped(ns: Namespace, number: int, primary: bool, peer: bool) -> None:
    groups = ({"group": GROUP} if primary else {}, {"group": GROUP} if peer else {})
    ns.rtnl.newlink(
        {"ifname": f"a{number}"}
        | groups[0]
        | netkit(peer_info={"ifname": f"b{number}"} | groups[1])
    )


@ksft_variants(
    [
        KsftNamedVariant("primaries", True, False),
        KsftNamedVariant("peers", False, True),
        KsftNamedVariant("both", True, True),
    ]
)
def test_delete_group(primary: bool, peer: bool) -> None:
    """In one go, with partners within the group or outside of it."""
    (ns,) = namespaces(1, ipv6=True)
    for number in range(10):
        grouped(ns, number, primary, peer)
    single(ns, link={"group": GROUP})
    ns.rtnl.newlink({"ifname": "stays"} | netkit(pairing=Pairing.SINGLE))
    ns.rtnl.dellink({"group": GROUP})
    ksft_eq(ns.devices(), {"stays"})


def test_delete_group_order() -> None:
    """A device whose partner took it along before is told of when its turn comes."""
    ns, other = namespaces(2, ipv6=True)
    names = [f"{side}{number}" for side in "ab" for number in range(3)]
    for number in range(3):
        grouped(ns, number, primary=True, peer=True)
    # Who comes last into a namespace is the last one there.
    for name in names[3:]:
        Port(ns, name).move(other).move(ns)
    with Monitor(ns.name) as monitor:
        ns.rtnl.dellink({"group": GROUP})
        gone = [link.name for kind, link in monitor.seen() if kind == RTM_DELLINK]
    ksft_eq(gone, names)


def test_delete_with_upper() -> None:
    """A VLAN device, a bridge and addresses go along or let go."""
    ns, other = namespaces(2, ipv6=True)
    primary, peer = pair(ns, other, mode=Mode.L2)
    ns.ip("link add br0 type bridge")
    ns.ip("link set nk0 master br0")
    other.ip("link add link nk1 name vlan5 type vlan id 5")
    other.ip("link set vlan5 up")
    peer.configure("192.0.2.1/24")
    delete(primary)
    ksft_eq((ns.devices(), other.devices()), ({"br0"}, set()))


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
