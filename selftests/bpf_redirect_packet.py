#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What a packet is made of where a pair's programs redirect it to: memory of its
sender, and headers.
"""

import mmap
import os
import select
import socket
import struct

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, ETH_HLEN, HOOKS_AND_MODES, Hook, INGRESS, Mode
from lib.py import NetNSEnter, Port, Segment, bare_packets, cases, defer, grown
from lib.py import ip_frame, made, namespaces, protocol_of, redirect, redirect_neigh
from lib.py import send_frame, sent, tun, way
from lib.py.packet import ETH_P_IP, PACKET_VNET_HDR, SOL_PACKET, VNET_HEADER

SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
IP_RECVERR = 11
EXTENDED_ERROR = struct.Struct("=IBBBBII")
ORIGIN_ZEROCOPY = 5
IN_PLACE = 0
MTU = 9000
ADDRESS, PORT = "192.0.2.2", 7000
UDP_HEADERS = ETH_HLEN + 20 + 8
LENGTHS = (1, 100, 4096, 8000)
NEIGHBOUR = "198.51.100.2"
PACKETS = [ip_frame(bytes(6), to) for to in (NEIGHBOUR, "2001:db8:1::2")]
# The same packet, as it is sent and as its sender changes it then.
BEFORE, AFTER = (PACKETS[0][:-8] + payload for payload in (b"original", b"modified"))
# Unlike the others.
LAST = ip_frame(bytes(6), "198.51.100.3")


def completion(client: socket.socket) -> int:
    """How the kernel is done with the only packet sent since the last time."""
    _, control, _, _ = client.recvmsg(0, 256, socket.MSG_ERRQUEUE)
    ((level, kind, data),) = control
    ksft_eq((level, kind), (socket.SOL_IP, IP_RECVERR))
    error, origin, _, code, _, first, last = EXTENDED_ERROR.unpack_from(data)
    ksft_eq((error, origin, first), (0, ORIGIN_ZEROCOPY, last))
    return code


def test_memory_out() -> None:
    """Data of a socket are still its memory where another device sends them."""
    each = way()
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect(end.link.index))
    each.sender.configure("192.0.2.1/24")
    each.sender.ns.rtnl.change(each.sender.name, {"mtu": MTU})
    each.sender.ns.ip(
        f"neigh add {ADDRESS} lladdr {end.address.hex(':')} dev {each.sender.name}"
    )
    expected = sent(len(LENGTHS)) | {
        "tx_bytes": sum(LENGTHS) + UDP_HEADERS * len(LENGTHS)
    }
    with (
        each.sender.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        grown(
            sender=(each.sender, expected),
            receiver=(each.receiver, {}),
            end=(end, expected),
        ),
    ):
        client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        client.connect((ADDRESS, PORT))
        for length in LENGTHS:
            client.send(bytes(length), MSG_ZEROCOPY)
            ksft_eq(completion(client), IN_PLACE, str(length))


class Ring:
    """A packet socket that sends what lies in memory shared with its owner."""

    VERSION, TX_RING = 10, 13
    V2, HEADER = 1, 32
    FRAME, FRAMES = 2048, 2
    # Whose a frame is: the owner's, and twice the kernel's.
    AVAILABLE, SEND_REQUEST, SENDING = 0, 1, 2
    # What the kernel copies at once: enough for those who read the headers.
    COPIED = ETH_HLEN + 20

    def __init__(self, port: Port) -> None:
        with NetNSEnter(port.ns.name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        defer(self._socket.close)
        size = self.FRAME * self.FRAMES
        for option, value in (
            (self.VERSION, self.V2),
            (PACKET_VNET_HDR, 1),
            (self.TX_RING, struct.pack("=IIII", size, 1, self.FRAME, self.FRAMES)),
        ):
            self._socket.setsockopt(SOL_PACKET, option, value)
        self._memory = mmap.mmap(self._socket.fileno(), size)
        defer(self._memory.close)
        self._socket.bind((port.name, ETH_P_IP))

    def write(self, number: int, data: bytes) -> None:
        content = VNET_HEADER.pack(0, 0, self.COPIED, 0, 0, 0) + data
        start = number * self.FRAME
        self._memory[start + self.HEADER : start + self.HEADER + len(content)] = content
        # Behind the status.
        struct.pack_into("=I", self._memory, start + 4, len(content))

    def send(self, number: int) -> None:
        struct.pack_into("=I", self._memory, number * self.FRAME, self.SEND_REQUEST)
        self._socket.send(b"", socket.MSG_DONTWAIT)

    def status(self, number: int) -> int:
        return struct.unpack_from("=I", self._memory, number * self.FRAME)[0]


def waiting(port: Port, segment: Segment) -> tuple[int, bytes]:
    """Has a device send a packet that must wait until a neighbour is known.

    Returns whose its memory is meanwhile, and what arrives in the end, after the
    sender has written there.
    """
    segment.solicit(1)
    ring = Ring(port)
    # The first one does not count: it is copied for the neighbour solicitation.
    for number in range(2):
        ring.write(number, BEFORE)
        ring.send(number)
    status = ring.status(1)
    ring.write(1, AFTER)
    with segment.far.packets(ETH_P_IP) as into:
        segment.know(NEIGHBOUR)
        _, came = (into.receive().data for _ in range(2))
    return status, came


@ksft_variants(
    [
        KsftNamedVariant(f"{case.name}_{fate}", *case.params, fate)
        for case in HOOKS_AND_MODES
        for fate in ("pass", "redirect")
    ]
)
def test_memory_kept(kind: AttachType, mode: Mode, fate: str) -> None:
    """Who keeps a packet that came through a pair keeps a copy, and the sender
    has its memory back."""
    each = way(kind, mode=mode)
    segment = Segment(each.receiver.ns)
    onward = redirect_neigh(segment.near.link.index)
    if fate == "redirect":
        each.hook.attach(onward)
    else:
        Hook.of(each.receiver, AttachType.TCX_INGRESS).attach(onward)
    ksft_eq(waiting(each.sender, segment), (Ring.AVAILABLE, segment.header(BEFORE)))


def test_memory_kept_of_dummy() -> None:
    """Without a pair it is the sender's memory that is kept: it is not the core
    that gives it back."""
    (ns,) = namespaces(1)
    segment = Segment(ns)
    end = made(ns, "end")
    onward = redirect_neigh(segment.near.link.index)
    Hook.of(end, AttachType.TCX_EGRESS).attach(onward)
    ksft_eq(waiting(end, segment), (Ring.SENDING, segment.header(AFTER)))


def read(descriptor: int) -> bytes:
    """The next packet that a device without MAC header sends; b"" for none."""
    ready, _, _ = select.select([descriptor], [], [], 30)
    return os.read(descriptor, 1 << 16) if ready else b""


@ksft_variants(HOOKS_AND_MODES)
def test_bare(kind: AttachType, mode: Mode) -> None:
    """Out of a device that has no use for the Ethernet header: without it."""
    each = way(kind, mode=mode)
    bare, descriptor = tun(each.receiver.ns)
    each.hook.attach(redirect(bare.link.index))
    for data in PACKETS:
        expected = data[ETH_HLEN:]
        with grown(
            sender=(each.sender, sent()),
            receiver=(each.receiver, {}),
            bare=(bare, sent(1, len(expected))),
        ):
            ksft_eq(send_frame(each, data), [True])
            ksft_eq(read(descriptor), expected)


@ksft_variants(HOOKS_AND_MODES)
def test_bare_ingress(kind: AttachType, mode: Mode) -> None:
    """As if it had been received without one."""
    each = way(kind, mode=mode)
    bare, descriptor = tun(each.receiver.ns)
    link = each.hook.link(redirect(bare.link.index, INGRESS))
    for data in PACKETS:
        with (
            bare.packets(protocol_of(data)) as into,
            grown(sender=(each.sender, sent()), receiver=(each.receiver, {})),
        ):
            ksft_eq(send_frame(each, data), [True])
            ksft_eq(into.receive().data, data[ETH_HLEN:])
    link.close()
    # Had one of them been sent, it would come before this one.
    each.hook.attach(redirect(bare.link.index))
    send_frame(each, LAST)
    ksft_eq(read(descriptor), LAST[ETH_HLEN:])


@ksft_variants([KsftNamedVariant("egress", 0), KsftNamedVariant("ingress", INGRESS)])
def test_bare_short(flags: int) -> None:
    """A frame of nothing but its header is dropped, and nobody's drop: the
    sender has sent it."""
    each = way()
    bare, descriptor = tun(each.receiver.ns)
    with bare.packets(protocol_of(LAST)) as into:
        link = each.hook.link(redirect(bare.link.index, flags))
        with grown(
            sender=(each.sender, sent(1, ETH_HLEN)),
            receiver=(each.receiver, {}),
            bare=(bare, {}),
        ):
            ksft_eq(send_frame(each, LAST[:ETH_HLEN]), [True])
        link.close()
        # Had it been sent or received, it would come before these.
        for way_out in (0, INGRESS):
            link = each.hook.link(redirect(bare.link.index, way_out))
            send_frame(each, LAST)
            link.close()
        ksft_eq((read(descriptor), into.receive().data), (LAST[ETH_HLEN:],) * 2)


def test_bare_sent() -> None:
    """What the pair is to send without an Ethernet header goes on as it is; a
    device that needs one drops it."""
    each = way()
    bare, descriptor = tun(each.receiver.ns)
    end = made(each.receiver.ns, "end")
    source = bare_packets(each.sender.ns, each.sender.name)
    for data in PACKETS:
        packet = data[ETH_HLEN:]
        for to, growth in ((end, {}), (bare, sent(1, len(packet)))):
            link = each.hook.link(redirect(to.link.index))
            with grown(
                sender=(each.sender, sent(1, len(packet))),
                receiver=(each.receiver, {}),
                to=(to, growth),
            ):
                os.write(source, packet)
                if to == bare:
                    ksft_eq(read(descriptor), packet)
            link.close()


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
