#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Redirection by a pair's programs, and who counts what.

Whatever becomes of a packet that a program redirects, its sender has sent it.
"""

import socket
import struct

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_gt, ksft_lt
from lib.py import ksft_pr, ksft_run, ksft_variants
from lib.py import AttachType, BROADCAST, EGRESS, HOOKS_AND_MODES, INGRESS
from lib.py import KMEMLEAK, Map, Mode, Policy, Port, Program, Segment, Way
from lib.py import cases, frame, grown, insn, ip_frame, kernel_memory, leaks, made
from lib.py import namespaces, next_hop, pair, protocol_of, received, redirect
from lib.py import redirect_neigh, second_pair, send, send_frame, sent, veth, way, ways
from lib.py.insn import Helper, Reg
from lib.py.packet import ETH_P_IP

NOWHERE = 9999
# On a Segment, and nowhere.
ROUTED = {4: "198.51.100.2", 6: "2001:db8:1::2"}
UNROUTED = {4: "203.0.113.2", 6: "2001:db8:2::2"}
FLOOD = 10000


def clone_redirect(index: int, flags: int, value: int) -> Program:
    code = [insn.mov(Reg.R2, index), insn.mov(Reg.R3, flags)]
    code += [insn.call(Helper.CLONE_REDIRECT), insn.mov(Reg.R0, value), insn.ret()]
    return Program(code)


@ksft_variants(HOOKS_AND_MODES)
def test_egress(kind: AttachType, mode: Mode) -> None:
    """Sent by a device beside the other end, which does not see the packet."""
    each = way(kind, mode=mode)
    (third,) = namespaces(1)
    near, far = veth(each.receiver.ns, third)
    each.hook.attach(redirect(near.link.index))
    with far.packets() as into:
        with grown(
            sender=(each.sender, sent()),
            receiver=(each.receiver, {}),
            near=(near, sent()),
            far=(far, received()),
        ):
            ksft_eq(send(each), [True])
        ksft_eq(into.receive().data, frame(each.receiver.address))


@ksft_variants(HOOKS_AND_MODES)
def test_ingress(kind: AttachType, mode: Mode) -> None:
    """Received by another device, whose address decides what type it is of."""
    each = way(kind, mode=mode)
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect(end.link.index, INGRESS))
    with (
        end.packets() as into,
        grown(sender=(each.sender, sent(2)), receiver=(each.receiver, {})),
    ):
        for destination, kind_of in (
            (end.address, socket.PACKET_HOST),
            (each.receiver.address[:-1] + b"\0", socket.PACKET_OTHERHOST),
        ):
            ksft_eq(send(each, destination=destination), [True])
            got = into.receive()
            ksft_eq((got.data, got.type), (frame(destination), kind_of))


def test_back() -> None:
    """Out of the very device that it was sent to, and so to its sender."""
    each = way()
    each.hook.attach(redirect(each.receiver.link.index))
    with (
        each.sender.packets() as into,
        grown(
            sender=(each.sender, sent() | received()), receiver=(each.receiver, sent())
        ),
    ):
        ksft_eq(send(each), [True])
        ksft_eq(into.receive().data, frame(each.receiver.address))


@ksft_variants([KsftNamedVariant("egress", 0), KsftNamedVariant("ingress", INGRESS)])
def test_missing(flags: int) -> None:
    """Devices are looked for where the other end is, not where the sender is."""
    each = way()
    # Of an index that is free on the other side.
    each.sender.ns.rtnl.newlink(
        {"ifname": "far", "linkinfo": {"kind": "dummy"}}, NOWHERE - 1
    )
    far = Port(each.sender.ns, "far")
    far.up()
    for index in (NOWHERE, 0, NOWHERE - 1, (1 << 31) - 1):
        link = each.hook.link(redirect(index, flags))
        with grown(
            sender=(each.sender, sent(3)), receiver=(each.receiver, {}), far=(far, {})
        ):
            ksft_eq(send(each, 3), [True] * 3, str(index))
        link.close()


@ksft_variants(
    [
        KsftNamedVariant("egress", 0, {"tx_dropped": 2}),
        KsftNamedVariant("ingress", INGRESS, {"rx_dropped": 2}),
    ]
)
def test_down(flags: int, growth: dict[str, int]) -> None:
    """A drop of the device that is down, none of the sender's."""
    each = way()
    end = made(each.receiver.ns, "end", up=False)
    each.hook.attach(redirect(end.link.index, flags))
    with grown(
        sender=(each.sender, sent(2)), receiver=(each.receiver, {}), end=(end, growth)
    ):
        ksft_eq(send(each, 2), [True] * 2)


def test_bad_flags() -> None:
    """The helper answers drop then, which is what the sender gets."""
    each = way()
    end = made(each.receiver.ns, "end")
    for flags, helper in (
        (EGRESS, Helper.REDIRECT),
        (1 << 20, Helper.REDIRECT),
        (INGRESS, Helper.REDIRECT_PEER),
    ):
        link = each.hook.link(redirect(end.link.index, flags, helper))
        with grown(
            sender=(each.sender, {"tx_dropped": 1}),
            receiver=(each.receiver, {}),
            end=(end, {}),
        ):
            ksft_eq(send(each), [False])
        link.close()


@ksft_variants(
    [
        KsftNamedVariant("pass", Policy.PASS, True),
        KsftNamedVariant("drop", Policy.DROP, False),
    ]
)
def test_clone(value: Policy, taken: bool) -> None:
    """A copy goes elsewhere; the packet does what the program says."""
    each = way()
    end = made(each.receiver.ns, "end")
    each.hook.attach(clone_redirect(end.link.index, 0, value))
    with grown(
        sender=(each.sender, sent() if taken else {"tx_dropped": 1}),
        receiver=(each.receiver, received() if taken else {}),
        end=(end, sent()),
    ):
        ksft_eq(send(each), [taken])


def test_neigh() -> None:
    """A packet of IP's own, with the addresses of the neighbour's entry and the
    device."""
    each = way()
    (third,) = namespaces(1)
    near, far = veth(each.receiver.ns, third)
    near.configure("198.51.100.1/24")
    near.ns.ip(f"neigh add 198.51.100.2 lladdr {Segment.LLADDR.hex(':')} dev v0")
    each.sender.configure("192.0.2.1/24")
    each.sender.ns.ip(f"route add default dev {each.sender.name}")
    each.sender.ns.ip(
        f"neigh add 198.51.100.2 lladdr {each.receiver.address.hex(':')} "
        f"dev {each.sender.name}"
    )
    each.hook.attach(redirect_neigh(near.link.index))
    length = 14 + 20 + 8 + 26
    with (
        far.packets(ETH_P_IP) as into,
        each.sender.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        with grown(
            sender=(each.sender, sent(1, length)),
            receiver=(each.receiver, {}),
            near=(near, sent(1, length)),
            far=(far, received(1, length)),
        ):
            client.sendto(bytes(26), ("198.51.100.2", 7000))
        header = into.receive().data[:14]
    ksft_eq(header, Segment.LLADDR + near.address + ETH_P_IP.to_bytes(2))


def test_neigh_not_ip() -> None:
    """There is no neighbour for what is neither IPv4 nor IPv6."""
    each = way()
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect_neigh(end.link.index))
    with grown(
        sender=(each.sender, sent()), receiver=(each.receiver, {}), end=(end, {})
    ):
        ksft_eq(send(each), [True])


def passed_on(each: Way, to: str, segment: Segment) -> None:
    """The packet as it was, to the neighbour, and nothing else."""
    data = ip_frame(each.receiver.address, to)
    with segment.far.packets(protocol_of(data)) as into:
        with grown(
            sender=(each.sender, sent()),
            receiver=(each.receiver, {}),
            near=(segment.near, sent()),
            far=(segment.far, received()),
        ):
            ksft_eq(send_frame(each, data), [True])
        ksft_eq(into.receive().data, segment.header(data))


def dropped(each: Way, data: bytes, segment: Segment, growth: dict[str, int]) -> None:
    """Which the sender has sent all the same."""
    with grown(
        sender=(each.sender, sent()),
        receiver=(each.receiver, {}),
        near=(segment.near, growth),
        far=(segment.far, {}),
    ):
        ksft_eq(send_frame(each, data), [True])


@ksft_variants(HOOKS_AND_MODES)
def test_neigh_found(kind: AttachType, mode: Mode) -> None:
    """The neighbour is who has the address that the packet is sent to."""
    each = way(kind, mode=mode)
    segment = Segment(each.receiver.ns)
    each.hook.attach(redirect_neigh(segment.near.link.index))
    for address in ROUTED.values():
        segment.know(address)
        passed_on(each, address, segment)


def test_neigh_next_hop() -> None:
    """The neighbour is whom the program names, and no route is asked for."""
    each = way()
    segment = Segment(each.receiver.ns)
    index = segment.near.link.index
    segment.know(*ROUTED.values())
    hops = {version: next_hop(address) for version, address in ROUTED.items()}
    for version, hop in (
        (4, hops[4]),
        # Also of the other version, and with something behind it.
        (4, hops[6]),
        (4, hops[4] + bytes(12)),
        (6, hops[6]),
        (6, hops[6] + bytes(4)),
    ):
        link = each.hook.link(redirect_neigh(index, hop))
        passed_on(each, UNROUTED[version], segment)
        link.close()
    # IPv4 leads to no next hop of IPv6, and other families to none at all.
    for version, hop in (
        (6, hops[4]),
        (6, bytes(20)),
        (4, bytes(20)),
        (4, struct.pack("=I16x", socket.AF_PACKET)),
    ):
        link = each.hook.link(redirect_neigh(index, hop))
        data = ip_frame(each.receiver.address, UNROUTED[version])
        dropped(each, data, segment, {"tx_dropped": 1})
        link.close()


def test_neigh_no_size() -> None:
    """A next hop of which nothing is to be read is none."""
    each = way()
    segment = Segment(each.receiver.ns)
    segment.know(*ROUTED.values())
    hop = next_hop(UNROUTED[4])
    each.hook.attach(redirect_neigh(segment.near.link.index, hop, 0))
    for address in ROUTED.values():
        passed_on(each, address, segment)


def test_neigh_bad_arguments() -> None:
    """The helper answers drop then."""
    each = way()
    segment = Segment(each.receiver.ns)
    segment.know(*ROUTED.values())
    hop = next_hop(ROUTED[4])
    for size, flags in ((1, 0), (19, 0), (20, INGRESS), (20, 1 << 18), (0, 1 << 16)):
        link = each.hook.link(redirect_neigh(segment.near.link.index, hop, size, flags))
        for address in ROUTED.values():
            with grown(
                sender=(each.sender, {"tx_dropped": 1}),
                receiver=(each.receiver, {}),
                near=(segment.near, {}),
            ):
                data = ip_frame(each.receiver.address, address)
                ksft_eq(send_frame(each, data), [False])
        link.close()


def test_neigh_unrouted() -> None:
    """A drop of the device; of nobody, where the frame is for many."""
    each = way()
    segment = Segment(each.receiver.ns)
    segment.know(*ROUTED.values())
    each.hook.attach(redirect_neigh(segment.near.link.index))
    # Without a route to elsewhere IPv4 takes anybody for a neighbour.
    for address in ("255.255.255.255", "224.0.0.1", UNROUTED[6]):
        data = ip_frame(each.receiver.address, address)
        dropped(each, data, segment, {"tx_dropped": 1})
    for address in ROUTED.values():
        dropped(each, ip_frame(BROADCAST, address), segment, {})
        passed_on(each, address, segment)
    segment.near.down()
    for address in ROUTED.values():
        data = ip_frame(each.receiver.address, address)
        dropped(each, data, segment, {"tx_dropped": 1})


@ksft_variants([KsftNamedVariant(f"ipv{number}", number) for number in (4, 6)])
def test_neigh_unresolved(version: int) -> None:
    """Kept until somebody answers, or is told of; dropped when nobody does."""
    each = way()
    segment = Segment(each.receiver.ns)
    segment.solicit(1)
    each.hook.attach(redirect_neigh(segment.near.link.index))
    data = ip_frame(each.receiver.address, ROUTED[version])
    # Without an address of its own it cannot ask by IPv6.
    asked = {4: 1, 6: 0}[version]
    with segment.far.packets(protocol_of(data)) as into:
        with grown(
            sender=(each.sender, sent(2)),
            receiver=(each.receiver, {}),
            near=(segment.near, sent(asked, 42)),
            far=(segment.far, received(asked, 42)),
        ):
            ksft_eq(send_frame(each, data, 2), [True] * 2)
        with grown(
            sender=(each.sender, {}),
            near=(segment.near, sent(2)),
            far=(segment.far, received(2)),
        ):
            segment.know(ROUTED[version])
        for _ in range(2):
            ksft_eq(into.receive().data, segment.header(data))
        segment.forget(ROUTED[version])
        segment.solicit(0)
        dropped(each, data, segment, {})
        segment.know(ROUTED[version])
        passed_on(each, ROUTED[version], segment)
        ksft_eq(into.receive().data, segment.header(data))
        ksft_eq(into.empty(), True)


def test_next_pair() -> None:
    """Through the programs of both pairs, and out of a third device."""
    each = way()
    (third,) = namespaces(1)
    near, far = second_pair(each.receiver.ns, third)
    end = made(third, "end")
    counted = Map()
    each.hook.attach(insn.counter(counted, -1))
    each.hook.attach(redirect(near.link.index))
    second = ways(near, far)[AttachType.PRIMARY].hook
    second.attach(insn.counter(counted, -1))
    link = second.link(redirect(end.link.index))
    with grown(
        sender=(each.sender, sent(2)),
        receiver=(each.receiver, {}),
        near=(near, sent(2)),
        far=(far, {}),
        end=(end, sent(2)),
    ):
        ksft_eq(send(each, 2), [True] * 2)
    link.close()
    with grown(
        sender=(each.sender, sent()),
        near=(near, sent()),
        far=(far, received()),
        end=(end, {}),
    ):
        ksft_eq(send(each), [True])
    ksft_eq(counted[0], 6)


def test_loop() -> None:
    """Back and forth, until the kernel has had enough."""
    primary, peer = pair(*namespaces(2))
    both_ways = ways(primary, peer)
    for each in both_ways.values():
        each.hook.attach(redirect(each.receiver.link.index))
    with primary.packets() as into:
        ksft_eq(send(both_ways[AttachType.PRIMARY]), [True])
        ksft_eq(into.empty(), True)
    turns = [port.stats["tx_packets"] for port in (primary, peer)]
    ksft_gt(min(turns), 1)
    ksft_lt(max(turns), 16)
    # A packet afterwards is none the worse.
    both_ways[AttachType.PRIMARY].hook.detach(None)
    with grown(primary=(primary, sent()), peer=(peer, received())):
        send(both_ways[AttachType.PRIMARY])


def flood(each: Way, program: Program, to: str = UNROUTED[4]) -> None:
    link = each.hook.link(program)
    before = each.sender.stats["tx_packets"]
    data = ip_frame(each.receiver.address, to)
    ksft_eq(set(send_frame(each, data, FLOOD // 4)), {True})
    ksft_eq(each.sender.stats["tx_packets"] - before, FLOOD // 4)
    link.close()


def test_no_leak() -> None:
    """Many packets later the kernel holds no more than before."""
    each = way()
    end = made(each.receiver.ns, "end")
    down = made(each.receiver.ns, "down", up=False)
    segment = Segment(each.receiver.ns)
    segment.solicit(0)
    neigh = redirect_neigh(segment.near.link.index)

    def all_fates() -> None:
        flood(each, redirect(end.link.index))
        flood(each, redirect(NOWHERE))
        flood(each, redirect(down.link.index, INGRESS))
        flood(each, redirect(each.receiver.link.index, 0, Helper.REDIRECT_PEER))
        # No route, no neighbour.
        flood(each, neigh, UNROUTED[6])
        flood(each, neigh, ROUTED[4])
        flood(each, neigh, ROUTED[6])

    all_fates()
    if KMEMLEAK.exists():
        ksft_eq(leaks(), "")
        return
    # What others hold in one of the rounds they need not in the next.
    for _ in range(3):
        before = kernel_memory()
        all_fates()
        kept = kernel_memory() - before
        ksft_pr(f"kept: {kept} bytes")
        # One of the fates alone would hold more in each, if it did.
        if kept < FLOOD // 4 * 512:
            break
    ksft_lt(kept, FLOOD // 4 * 512)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
