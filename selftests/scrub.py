#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What a packet keeps of its sender's notes when it comes out at the other end.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_ge
from lib.py import ksft_lt, ksft_not_in, ksft_run, ksft_variants
from lib.py import AttachType, BROADCAST, Fix, Hook, INGRESS, KernelLog, LEASED, MARK
from lib.py import Map, Mode, NetNSEnter, PRIORITY, PacketSocket, Policy, Port
from lib.py import ProgType, Program, QUEUE, Received, Scrub, cases, frame, insn, lease
from lib.py import made, namespaces, needs, operational, pair, redirect, redirecting
from lib.py import send, simnic, ways
from lib.py.bpf import F
from lib.py.insn import Helper, Reg
from lib.py.packet import SO_RCVMARK
from net.lib.py import Netlink, YnlFamily
from net.lib.py.ynl import SPEC_PATH

ETH_P_ALL = 3
XDP_PASS = 2
HOUR = 3600 * 1_000_000_000
NFPROTO_NETDEV, NFNL_SUBSYS_NFTABLES = 5, 10
NF_NETDEV_EGRESS, NF_DROP = 1, 0
STRANGER = bytes.fromhex("020000000042")
MULTICAST = bytes.fromhex("010000000001")


def through(
    sender: Port,
    receiver: Port,
    destination: bytes | None = None,
    txtime: int | None = None,
) -> Received:
    """A marked frame as the receiver sees it."""
    with sender.packets() as out, receiver.packets() as into:
        out.setsockopt(socket.SO_MARK, MARK)
        out.setsockopt(socket.SO_PRIORITY, PRIORITY)
        out.send(frame(destination or receiver.address), txtime)
        return into.receive()


def notes(received: Received) -> tuple[int | None, int | None]:
    return received.mark, received.priority


def expected(scrub: Scrub) -> tuple[int, int]:
    return (0, 0) if scrub == Scrub.DEFAULT else (MARK, PRIORITY)


@ksft_variants(
    [
        KsftNamedVariant("L2", Mode.L2, Scrub.NONE, Scrub.DEFAULT),
        KsftNamedVariant("L3", Mode.L3, Scrub.DEFAULT, Scrub.NONE),
    ]
)
def test_across(mode: Mode, scrub: Scrub, peer_scrub: Scrub) -> None:
    """Mark and priority, by the sending device's setting."""
    primary, peer = pair(*namespaces(2), mode=mode, scrub=scrub, peer_scrub=peer_scrub)
    ksft_eq(notes(through(primary, peer)), expected(scrub))
    ksft_eq(notes(through(peer, primary)), expected(peer_scrub))


@ksft_variants(
    [
        KsftNamedVariant("L2", Mode.L2, Scrub.NONE, Scrub.DEFAULT),
        KsftNamedVariant("L3", Mode.L3, Scrub.DEFAULT, Scrub.NONE),
    ]
)
def test_within(mode: Mode, scrub: Scrub, peer_scrub: Scrub) -> None:
    """Within one namespace both stay, whatever the setting."""
    (ns,) = namespaces(1)
    primary, peer = pair(ns, ns, mode=mode, scrub=scrub, peer_scrub=peer_scrub)
    ksft_eq(notes(through(primary, peer)), (MARK, PRIORITY))
    ksft_eq(notes(through(peer, primary)), (MARK, PRIORITY))


def test_moved() -> None:
    """Where the devices are now counts, not where they were made."""
    ns, other = namespaces(2)
    primary, peer = pair(ns, ns)
    ksft_eq(notes(through(primary, peer)), (MARK, PRIORITY))
    moved = peer.move(other)
    operational(primary, moved)
    ksft_eq(notes(through(primary, moved)), (0, 0))
    ksft_eq(notes(through(moved, primary)), (0, 0))


def test_mark_over_ip() -> None:
    """For a socket of the other namespace, not for packet sockets alone."""
    for scrub in Scrub:
        primary, peer = pair(*namespaces(2), scrub=scrub)
        primary.configure("192.0.2.1/24")
        peer.configure("192.0.2.2/24")
        with (
            primary.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
            peer.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        ):
            server.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
            server.bind(("192.0.2.2", 7000))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            client.sendto(b"x", ("192.0.2.2", 7000))
            _, control, _, _ = server.recvmsg(16, 64)
        mark = int.from_bytes(control[0][2], "little")
        ksft_eq(mark, expected(scrub)[0], scrub.name)


@ksft_variants(
    [
        KsftNamedVariant("default", Scrub.DEFAULT),
        KsftNamedVariant("none", Scrub.NONE),
    ]
)
def test_time_across(scrub: Scrub) -> None:
    """A time noted by the sender does not pass, whatever the setting."""
    primary, peer = pair(*namespaces(2), scrub=scrub)
    start = time.time_ns()
    received = through(primary, peer, txtime=start + HOUR)
    ksft_ge(received.time, start)
    ksft_lt(received.time, start + HOUR // 2)


def test_time_within() -> None:
    """Within one namespace it stays, and is taken for the time of arrival."""
    (ns,) = namespaces(1)
    primary, peer = pair(ns, ns)
    later = time.time_ns() + HOUR
    ksft_eq(through(primary, peer, txtime=later).time, later)


@ksft_variants(
    [
        KsftNamedVariant("L2_2ns", Mode.L2, 2),
        KsftNamedVariant("L3_1ns", Mode.L3, 1),
    ]
)
def test_packet_type(mode: Mode, count: int) -> None:
    """As the receiving device's address makes it."""
    spaces = namespaces(count)
    primary, peer = pair(spaces[0], spaces[-1], mode=mode)
    for sender, receiver in ((primary, peer), (peer, primary)):
        for destination, kind in (
            (receiver.address, socket.PACKET_HOST),
            (STRANGER, socket.PACKET_OTHERHOST),
            (BROADCAST, socket.PACKET_BROADCAST),
            (MULTICAST, socket.PACKET_MULTICAST),
        ):
            ksft_eq(through(sender, receiver, destination).type, kind)


def test_content() -> None:
    """The frame itself is not touched."""
    primary, peer = pair(*namespaces(2), mode=Mode.L2)
    sent = frame(peer.address, bytes(range(256)), 1514)
    with primary.packets() as out, peer.packets() as into:
        out.send(sent)
        ksft_eq(into.receive().data, sent)


def test_seen_leaving() -> None:
    """Whoever listens at the sender sees the packet with its notes."""
    primary, peer = pair(*namespaces(2))
    with PacketSocket(primary.ns.name, primary.name, ETH_P_ALL) as tap:
        through(primary, peer)
        received = tap.receive()
    ksft_eq(received.type, socket.PACKET_OUTGOING)
    ksft_eq(notes(received), (MARK, PRIORITY))


@contextmanager
def egress_dropped(port: Port) -> Iterator[None]:
    """Netfilter drops what it sees leave through the device."""
    create = [Netlink.NLM_F_CREATE]
    table = {"nfgen-family": NFPROTO_NETDEV, "name": "test"}
    hook = {"num": NF_NETDEV_EGRESS, "priority": 0, "dev": port.name}
    chain = {"nfgen-family": NFPROTO_NETDEV, "table": "test", "name": "egress"}
    chain |= {"hook": hook, "policy": NF_DROP, "type": "filter"}
    with NetNSEnter(port.ns.name), YnlFamily(f"{SPEC_PATH}/nftables.yaml", "") as nft:

        def batch(*messages: tuple[str, dict, list[int]]) -> None:
            begin = ("batch-begin", {"res-id": NFNL_SUBSYS_NFTABLES}, [])
            nft.do_multi([begin, *messages, ("batch-end", {}, [])])

        batch(("newtable", dict(table), create), ("newchain", chain, create))
        try:
            yield
        finally:
            batch(("deltable", table, []))


def test_netfilter_egress() -> None:
    """Netfilter does not see what programs redirect to a device, as with tc."""
    primary, peer = pair(*namespaces(2))
    end = made(peer.ns, "end")
    ways(primary, peer)[AttachType.PRIMARY].hook.attach(redirect(end.link.index))
    data = frame(BROADCAST)
    with egress_dropped(end), primary.packets() as redirected, end.packets() as own:
        ksft_eq((redirected.send(data), own.send(data)), (True, False))
    ksft_eq(end.stats["tx_packets"], 1)


@ksft_variants(
    [
        KsftNamedVariant("passed", False, False),
        KsftNamedVariant("passed_hook", False, True),
        KsftNamedVariant("redirected", True, False),
        KsftNamedVariant("redirected_hook", True, True),
    ]
)
def test_netfilter_egress_later(redirected: bool, hook: bool) -> None:
    """It sees what has been handed to the stack, which sends it on, whether or not
    there is an ingress hook anywhere."""
    if not hook:
        needs(Fix.NFT_EGRESS)
    host, pod = namespaces(2)
    primary, peer = pair(host, pod, mode=Mode.L2)
    end, entry = made(host, "end"), primary
    if redirected:
        entry = made(host, "entry")
        program = redirect(entry.link.index, INGRESS)
        ways(primary, peer)[AttachType.PEER].hook.attach(program)
    if hook:
        Hook.of(made(pod, "beside"), AttachType.TCX_INGRESS).link(insn.verdict(-1))
    host.ip("link add br0 type bridge mcast_snooping 0")
    host.ip("link set br0 up")
    for port in (entry, end):
        host.ip(f"link set {port.name} master br0")
    # A bridge drops what has no source.
    first, last = (
        BROADCAST + peer.address + frame(BROADCAST, text)[12:] for text in (b"1", b"2")
    )
    with PacketSocket(host.name, end.name, ETH_P_ALL) as tap, peer.packets() as out:
        with egress_dropped(end):
            out.send(first)
        out.send(last)
        ksft_eq(tap.receive().data, last)


# As it is noted, one more than the number of the queue.
@ksft_variants([KsftNamedVariant("leased", 2), KsftNamedVariant("none", 100)])
def test_queue_to_pod(noted: int) -> None:
    """A device that has queues did not receive it by one that a program names."""
    needs(Fix.QUEUE)
    host, remote, pod = namespaces(3)
    nic, _ = simnic(host, remote)
    primary, peer = pair(host, pod, peer_link={"num-rx-queues": 2})
    ksft_eq(lease(peer, nic, QUEUE), LEASED)
    seen = Map()
    program = Program(
        [
            insn.load32(Reg.R3, Reg.R1, insn.XDP_RX_QUEUE),
            insn.add(Reg.R3, 1),
            insn.map_value(Reg.R2, seen),
            insn.store64(Reg.R2, 0, Reg.R3),
            insn.mov(Reg.R0, XDP_PASS),
            insn.ret(),
        ],
        ProgType.XDP,
    )
    Hook.of(peer, AttachType.XDP).link(program, F.XDP_GENERIC)
    hook = ways(primary, peer)[AttachType.PRIMARY].hook
    hook.attach(insn.queue_writer(noted, insn.mov(Reg.R0, Policy.PASS)))
    with KernelLog() as log:
        through(primary, peer)
        ksft_eq(seen[0], 1)
        ksft_not_in("received packet on queue", log.read())


@ksft_variants(["passed", "redirected"])
def test_queue_to_host(how: str) -> None:
    """What the pod's programs note, those of the host find: Cilium's way to keep
    what it limits together."""
    host, pod = namespaces(2)
    primary, peer = pair(host, pod)
    end = made(host, "end")
    then = [insn.mov(Reg.R0, Policy.PASS)]
    finder = Hook.of(primary, AttachType.TCX_INGRESS)
    if how == "redirected":
        then = redirecting(end.link.index)
        finder = Hook.of(end, AttachType.TCX_EGRESS)
    each, seen = ways(primary, peer)[AttachType.PEER], Map()
    each.hook.attach(insn.queue_writer(7, *then))
    finder.link(insn.reporter(seen, insn.SKB_QUEUE_MAPPING, -1))
    ksft_eq(send(each), [True])
    ksft_busy_wait(lambda: seen[0] == 7, comment="the queue was forgotten")


def test_queue_of_nic() -> None:
    """The number of a NIC's queue is not brought into a pod."""
    needs(Fix.QUEUE)
    host, remote, pod = namespaces(3)
    nic, far = simnic(host, remote)
    primary, peer = pair(host, pod)
    seen = Map()
    seen[0] = 100
    hand_over = redirect(primary.link.index, 0, Helper.REDIRECT_PEER)
    Hook.of(nic, AttachType.TCX_INGRESS).link(hand_over)
    reporter = insn.reporter(seen, insn.SKB_QUEUE_MAPPING, -1)
    Hook.of(peer, AttachType.TCX_INGRESS).link(reporter)
    with peer.packets() as into, far.packets() as out:
        out.send(frame(nic.address))
        into.receive()
    ksft_eq(seen[0], 0)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
