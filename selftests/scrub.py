#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What a packet keeps of its sender's notes when it comes out at the other end.
"""

import socket
import time

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_ge, ksft_lt, ksft_run
from lib.py import ksft_variants
from lib.py import BROADCAST, MARK, Mode, Namespace, PRIORITY, PacketSocket, Port
from lib.py import Received, Scrub, cases, egress_dropped, frame, namespaces
from lib.py import operational, pair, tc
from lib.py.packet import SO_RCVMARK

ETH_P_ALL = 3
HOUR = 3600 * 1_000_000_000
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


def places(count: int) -> list[Namespace]:
    spaces = namespaces(count)
    return [spaces[0], spaces[-1]]


def scrub_variants() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(f"{mode.name}_{scrub.name}_{other.name}", mode, scrub, other)
        for mode in Mode
        for scrub in Scrub
        for other in Scrub
    ]


def expected(scrub: Scrub) -> tuple[int, int]:
    return (0, 0) if scrub == Scrub.DEFAULT else (MARK, PRIORITY)


@ksft_variants(scrub_variants())
def test_across(mode: Mode, scrub: Scrub, peer_scrub: Scrub) -> None:
    """Mark and priority, by the sending device's setting."""
    primary, peer = pair(*places(2), mode=mode, scrub=scrub, peer_scrub=peer_scrub)
    ksft_eq(notes(through(primary, peer)), expected(scrub))
    ksft_eq(notes(through(peer, primary)), expected(peer_scrub))


@ksft_variants(scrub_variants())
def test_within(mode: Mode, scrub: Scrub, peer_scrub: Scrub) -> None:
    """Within one namespace both stay, whatever the setting."""
    primary, peer = pair(*places(1), mode=mode, scrub=scrub, peer_scrub=peer_scrub)
    ksft_eq(notes(through(primary, peer)), (MARK, PRIORITY))
    ksft_eq(notes(through(peer, primary)), (MARK, PRIORITY))


def test_default() -> None:
    primary, peer = pair(*places(2))
    ksft_eq(notes(through(primary, peer)), (0, 0))
    ksft_eq(notes(through(peer, primary)), (0, 0))


def test_moved() -> None:
    """Where the devices are now counts, not where they were made."""
    ns, other = namespaces(2)
    primary, peer = pair(ns, ns)
    ksft_eq(notes(through(primary, peer)), (MARK, PRIORITY))
    moved = peer.move(other)
    operational(primary, moved)
    ksft_eq(notes(through(primary, moved)), (0, 0))


def test_mark_over_ip() -> None:
    """For a socket of the other namespace, not for packet sockets alone."""
    for scrub in Scrub:
        primary, peer = pair(*places(2), scrub=scrub)
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
    primary, peer = pair(*places(2), scrub=scrub)
    start = time.time_ns()
    received = through(primary, peer, txtime=start + HOUR)
    ksft_ge(received.time, start)
    ksft_lt(received.time, start + HOUR // 2)


def test_time_within() -> None:
    """Within one namespace it stays, and is taken for the time of arrival."""
    primary, peer = pair(*places(1))
    later = time.time_ns() + HOUR
    ksft_eq(through(primary, peer, txtime=later).time, later)


def type_variants() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(
            f"{mode.name}_{count}ns_{name}", mode, count, destination, kind
        )
        for mode in Mode
        for count in (1, 2)
        for name, destination, kind in (
            ("host", None, socket.PACKET_HOST),
            ("other", STRANGER, socket.PACKET_OTHERHOST),
            ("broadcast", BROADCAST, socket.PACKET_BROADCAST),
            ("multicast", MULTICAST, socket.PACKET_MULTICAST),
        )
    ]


@ksft_variants(type_variants())
def test_packet_type(
    mode: Mode, count: int, destination: bytes | None, kind: int
) -> None:
    """As the receiving device's address makes it."""
    primary, peer = pair(*places(count), mode=mode)
    for sender, receiver in ((primary, peer), (peer, primary)):
        ksft_eq(through(sender, receiver, destination).type, kind)


def test_content() -> None:
    """The frame itself is not touched."""
    primary, peer = pair(*places(2), mode=Mode.L2)
    sent = frame(peer.address, bytes(range(256)), 1514)
    with primary.packets() as out, peer.packets() as into:
        out.send(sent)
        ksft_eq(into.receive().data, sent)


def test_seen_leaving() -> None:
    """Whoever listens at the sender sees the packet with its notes."""
    primary, peer = pair(*places(2))
    with PacketSocket(primary.ns.name, primary.name, ETH_P_ALL) as tap:
        through(primary, peer)
        received = tap.receive()
    ksft_eq(received.type, socket.PACKET_OUTGOING)
    ksft_eq(notes(received), (MARK, PRIORITY))


def leaves(ns: Namespace, sender: Namespace) -> bool:
    """Whether a packet to elsewhere comes out of the device at the end."""
    before = Port(ns, "end").stats["tx_packets"]
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.sendto(b"x", ("198.51.100.9", 7000))
        except PermissionError:
            # The sender is the one that is told.
            pass
    for _ in range(50):
        if Port(ns, "end").stats["tx_packets"] > before:
            return True
        time.sleep(0.01)
    return False


@ksft_variants(
    [
        KsftNamedVariant("no_ingress_hook", False),
        KsftNamedVariant("ingress_hook", True),
    ]
)
def test_netfilter_egress(ingress: bool) -> None:
    """A packet that came through a pair is marked to pass by the chains of
    netfilter for packets that leave, until an ingress hook resets that.  Such
    a hook may be anywhere in the system."""
    ns, router = namespaces(2)
    primary, peer = pair(ns, router)
    primary.configure("192.0.2.1/24")
    peer.configure("192.0.2.2/24")
    ns.ip("route add default via 192.0.2.2")
    router.sysctl("net/ipv4/ip_forward", 1)
    router.ip("link add end type dummy")
    router.ip("link set end up")
    router.ip("addr add 198.51.100.1/24 dev end")
    if ingress:
        tc("qdisc add dev end clsact", ns=router.name)
    ksft_eq((leaves(router, router), leaves(router, ns)), (True, True))
    with egress_dropped(router.name, "end"):
        ksft_eq((leaves(router, router), leaves(router, ns)), (False, not ingress))


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
