#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Traffic through pairs: IPv4 and IPv6, in both modes, and what offloads make
of it.
"""

import random
import socket
import threading
from typing import NamedTuple

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_ge, ksft_gt, ksft_in
from lib.py import ksft_run, ksft_true, ksft_variants
from lib.py import Capture, ETH_HLEN, MODES, Mode, Offloaded, Port, cases, cmd
from lib.py import namespaces, pair, send_segments
from lib.py.packet import ETH_P_IP, ETH_P_IPV6

ETH_P = {socket.AF_INET: ETH_P_IP, socket.AF_INET6: ETH_P_IPV6}
NET_HEADER = {socket.AF_INET: 20, socket.AF_INET6: 40}
GSO_TCP = {socket.AF_INET: 1, socket.AF_INET6: 4}
GSO_UDP_L4 = 5
UDP_HEADER = 8
PORT = 7000
SEGMENT = 1000
SEGMENTS = 10


class Addresses(NamedTuple):
    """Where the two ends of a pair are reached."""

    primary: str
    peer: str
    prefix: int


PLAN = {
    socket.AF_INET: Addresses("192.0.2.1", "192.0.2.2", 24),
    socket.AF_INET6: Addresses("2001:db8::1", "2001:db8::2", 64),
}


def connected(mode: Mode) -> tuple[Port, Port]:
    """A pair between two namespaces, with addresses of both families."""
    primary, peer = pair(*namespaces(2, ipv6=True), mode=mode)
    for plan in PLAN.values():
        primary.configure(f"{plan.primary}/{plan.prefix}")
        peer.configure(f"{plan.peer}/{plan.prefix}")
    return primary, peer


def content(length: int) -> bytes:
    """The same in every run, and no two parts of it alike."""
    return random.Random(length).randbytes(length)


# The mode decides only how neighbours are found, which is for test_ping.
FAMILIES = [
    KsftNamedVariant("L2_AF_INET", Mode.L2, socket.AF_INET),
    KsftNamedVariant("L3_AF_INET6", Mode.L3, socket.AF_INET6),
]


@ksft_variants(MODES)
def test_ping(mode: Mode) -> None:
    primary, peer = connected(mode)
    for plan in PLAN.values():
        for sender, address in ((primary, plan.peer), (peer, plan.primary)):
            output = cmd(f"ping -c 3 -i 0.05 -W 5 {address}", ns=sender.ns.name).stdout
            ksft_in("3 packets transmitted, 3 received, 0% packet loss", output)


@ksft_variants(FAMILIES)
def test_udp(mode: Mode, family: int) -> None:
    primary, peer = connected(mode)
    plan = PLAN[family]
    with (
        peer.ns.socket(family, socket.SOCK_DGRAM) as server,
        primary.ns.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind((plan.peer, PORT))
        for length in (0, 1, 1000, 1400, 5000, 60000):
            sent = content(length)
            client.sendto(sent, (plan.peer, PORT))
            received, source = server.recvfrom(1 << 16)
            ksft_true(received == sent, f"{length} bytes, there")
            server.sendto(received, source)
            ksft_true(client.recv(1 << 16) == sent, f"{length} bytes, back")


def receive_all(server: socket.socket, into: bytearray) -> None:
    connection, _ = server.accept()
    with connection:
        while data := connection.recv(1 << 20):
            into += data


def stream(primary: Port, peer: Port, family: int, length: int) -> None:
    """From the primary to its peer, over TCP, and nothing damaged."""
    address = PLAN[family].peer
    with (
        peer.ns.socket(family, socket.SOCK_STREAM) as server,
        primary.ns.socket(family, socket.SOCK_STREAM) as client,
    ):
        server.bind((address, PORT))
        server.listen()
        into = bytearray()
        receiver = threading.Thread(target=receive_all, args=(server, into))
        receiver.start()
        sent = content(length)
        client.connect((address, PORT))
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        receiver.join(timeout=60)
        ksft_true(into == sent, f"{len(into)} bytes of {length}, or others")


@ksft_variants(FAMILIES)
def test_tcp(mode: Mode, family: int) -> None:
    """Large segments pass as they are, with their checksum still to do."""
    primary, peer = connected(mode)
    with Capture(peer.ns.name, peer.name, ETH_P[family]) as capture:
        stream(primary, peer, family, 2 << 20)
        large = [frame for frame in capture.frames() if frame.length > 1500 + ETH_HLEN]
    ksft_gt(len(large), 0)
    # Of 1500 bytes the headers and TCP's time stamps are not payload.
    mss = 1500 - NET_HEADER[family] - 32
    ksft_eq(
        {(frame.needs_csum, frame.gso_type, frame.gso_size) for frame in large},
        {(True, GSO_TCP[family], mss)},
    )


@ksft_variants(FAMILIES)
def test_tcp_without_offloads(mode: Mode, family: int) -> None:
    """Nothing longer than the MTU then, and every checksum done."""
    primary, peer = connected(mode)
    primary.ns.ethtool("-K nk0 tx off sg off tso off gso off")
    with Capture(peer.ns.name, peer.name, ETH_P[family]) as capture:
        stream(primary, peer, family, 1 << 19)
        frames = capture.frames()
    ksft_eq({(frame.needs_csum, frame.gso_type) for frame in frames}, {(False, 0)})
    ksft_eq(max(frame.length for frame in frames), 1500 + ETH_HLEN)


@ksft_variants([16384, 180000])
def test_gso_max_size(size: int) -> None:
    """The sender's limit is what the other end sees."""
    primary, peer = connected(Mode.L3)
    primary.ns.rtnl.change("nk0", {"gso-max-size": size})
    # TCP sends smaller packets where it takes a slow machine for a long way.
    primary.ns.sysctl("net/ipv4/tcp_tso_rtt_log", 20)
    with Capture(peer.ns.name, peer.name, ETH_P[socket.AF_INET6]) as capture:
        stream(primary, peer, socket.AF_INET6, 8 << 20)
        longest = max(frame.length for frame in capture.frames())
    ksft_ge(size + ETH_HLEN, longest)
    ksft_gt(longest, size * 2 // 3)


@ksft_variants(FAMILIES)
def test_udp_segmentation(mode: Mode, family: int) -> None:
    """Whole with the offload, segments without it."""
    primary, peer = connected(mode)
    header = ETH_HLEN + NET_HEADER[family] + UDP_HEADER
    cmd(f"ping -c 1 -W 5 {PLAN[family].peer}", ns=primary.ns.name)
    for offload, expected in (
        ("on", [(GSO_UDP_L4, SEGMENT, header + SEGMENT * SEGMENTS)]),
        ("off", [(0, 0, header + SEGMENT)] * SEGMENTS),
    ):
        primary.ns.ethtool(f"-K nk0 tx-udp-segmentation {offload}")
        with (
            Capture(peer.ns.name, peer.name, ETH_P[family]) as capture,
            primary.ns.socket(family, socket.SOCK_DGRAM) as client,
        ):
            client.connect((PLAN[family].peer, PORT))
            send_segments(client, SEGMENT, SEGMENTS)
            ksft_eq(
                [
                    (frame.gso_type, frame.gso_size, frame.length)
                    for frame in capture.frames()
                    if frame.length >= header + SEGMENT
                ],
                expected,
            )


@ksft_variants(
    [
        KsftNamedVariant("gre", "gre", 4),
        KsftNamedVariant("ipip", "ipip", 0),
    ]
)
def test_tunnel_segmentation(kind: str, header: int) -> None:
    """A packet in a tunnel passes whole too, with its checksum still to do."""
    primary, peer = connected(Mode.L3)
    ends = PLAN[socket.AF_INET]
    primary.ns.ip(
        f"link add tunnel type {kind} local {ends.primary} remote {ends.peer} dev nk0"
    )
    primary.ns.ip("link set tunnel up")
    Port(primary.ns, "tunnel").configure("198.51.100.1/24")
    with (
        Capture(peer.ns.name, peer.name, ETH_P_IP) as capture,
        primary.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("198.51.100.2", PORT))
        send_segments(client, SEGMENT, SEGMENTS)
        headers = ETH_HLEN + 2 * NET_HEADER[socket.AF_INET] + header + UDP_HEADER
        ksft_eq(
            capture.frames(),
            [Offloaded(True, GSO_UDP_L4, SEGMENT, headers + SEGMENT * SEGMENTS)],
        )


def test_mtu() -> None:
    """The longest packet passes, one byte more is the sender's error."""
    primary, peer = connected(Mode.L2)
    for mtu in (1500, 2000, 65535):
        for port in (primary, peer):
            port.ns.rtnl.change(port.name, {"mtu": mtu})
        address = PLAN[socket.AF_INET].peer
        fits = mtu - NET_HEADER[socket.AF_INET] - UDP_HEADER
        ping = f"ping -c 1 -W 5 -M do {address} -s"
        output = cmd(f"{ping} {fits}", ns=primary.ns.name).stdout
        ksft_in("1 received", output)
        if mtu < 65535:
            failed = cmd(f"{ping} {fits + 1}", ns=primary.ns.name, fail=False)
            ksft_eq(failed.ret, 1)
            ksft_in("message too long", failed.stderr.lower())


def test_receiver_mtu() -> None:
    """A device takes in what is longer than its own MTU."""
    primary, peer = connected(Mode.L3)
    primary.ns.rtnl.change("nk0", {"mtu": 3000})
    with Capture(peer.ns.name, peer.name, ETH_P[socket.AF_INET]) as capture:
        with primary.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(bytes(2900), (PLAN[socket.AF_INET].peer, PORT))
        lengths = [frame.length for frame in capture.frames()]
    ksft_eq(lengths, [2900 + UDP_HEADER + 20 + ETH_HLEN])


@ksft_variants(["802.1Q", "802.1ad"])
def test_vlan(protocol: str) -> None:
    """Tagged traffic between VLAN devices of the same number alone."""
    primary, peer = pair(*namespaces(2), mode=Mode.L2)
    for port, address in ((primary, "192.0.2.1/24"), (peer, "192.0.2.2/24")):
        port.ns.ip(
            f"link add link {port.name} name vlan type vlan proto {protocol} id 5"
        )
        port.ns.ip("link set vlan up")
        Port(port.ns, "vlan").configure(address)
    output = cmd("ping -c 2 -i 0.05 -W 5 192.0.2.2", ns=primary.ns.name).stdout
    ksft_in("2 received", output)
    peer.ns.ip("link del vlan")
    peer.ns.ip(f"link add link nk1 name vlan type vlan proto {protocol} id 6")
    peer.ns.ip("link set vlan up")
    Port(peer.ns, "vlan").configure("192.0.2.2/24")
    failed = cmd("ping -c 1 -W 1 192.0.2.2", ns=primary.ns.name, fail=False)
    ksft_eq(failed.ret, 1)


def test_forwarded() -> None:
    """Through a pair and on through another one, as of a router."""
    client, router, server = namespaces(3)
    first, left = pair(client, router)
    right, last = pair(router, server)
    router.sysctl("net/ipv4/ip_forward", 1)
    first.configure("192.0.2.1/24")
    left.configure("192.0.2.2/24")
    right.configure("198.51.100.1/24")
    last.configure("198.51.100.2/24")
    client.ip("route add default via 192.0.2.2")
    server.ip("route add default via 198.51.100.1")
    output = cmd("ping -c 2 -i 0.05 -W 5 198.51.100.2", ns=client.name).stdout
    ksft_in("2 received", output)
    ksft_in("ttl=63", output)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
