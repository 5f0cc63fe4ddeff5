#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What a packet is made of where a pair's programs redirect it to: memory of its
sender, and headers.
"""

import os
import select
import socket
import struct

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, ETH_HLEN, HOOKS_BY_MODE, INGRESS, MODES, Mode, Policy
from lib.py import Port, bare_packets, cases, grown, insn, ip_frame, made, namespaces
from lib.py import protocol_of, redirect, send_frame, sent, tun, way

SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
IP_RECVERR = 11
EXTENDED_ERROR = struct.Struct("=IBBBBII")
ORIGIN_ZEROCOPY = 5
IN_PLACE, COPIED = 0, 1
MTU = 9000
ADDRESS, PORT = "192.0.2.2", 7000
UDP_HEADERS = ETH_HLEN + 20 + 8
LENGTHS = (1, 100, 4096, 8000)
PACKETS = [ip_frame(bytes(6), to) for to in ("198.51.100.2", "2001:db8:1::2")]


def completion(client: socket.socket) -> int:
    """How the kernel is done with the only packet sent since the last time."""
    _, control, _, _ = client.recvmsg(0, 256, socket.MSG_ERRQUEUE)
    ((level, kind, data),) = control
    ksft_eq((level, kind), (socket.SOL_IP, IP_RECVERR))
    error, origin, _, code, _, first, last = EXTENDED_ERROR.unpack_from(data)
    ksft_eq((error, origin, first), (0, ORIGIN_ZEROCOPY, last))
    return code


def payload(length: int) -> bytes:
    return (bytes(range(256)) * 32)[:length]


def fates(port: Port, neighbour: Port) -> set[int]:
    """Sends packets of all lengths by a device to a neighbour there."""
    port.configure("192.0.2.1/24")
    port.ns.rtnl.change(port.name, {"mtu": MTU})
    port.ns.ip(
        f"neigh add {ADDRESS} lladdr {neighbour.address.hex(':')} dev {port.name}"
    )
    with (
        port.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        grown(port=(port, all_sent())),
    ):
        client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        client.connect((ADDRESS, PORT))
        found = set()
        for length in LENGTHS:
            client.send(payload(length), MSG_ZEROCOPY)
            found.add(completion(client))
    return found


def all_sent() -> dict[str, int]:
    return sent(len(LENGTHS)) | {"tx_bytes": sum(LENGTHS) + UDP_HEADERS * len(LENGTHS)}


@ksft_variants(HOOKS_BY_MODE)
def test_memory_out(kind: AttachType, mode: Mode) -> None:
    """Data are still the sender's memory where another device sends them."""
    each = way(kind, mode=mode)
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect(end.link.index))
    with grown(receiver=(each.receiver, {}), end=(end, all_sent())):
        ksft_eq(fates(each.sender, end), {IN_PLACE})


@ksft_variants(
    [
        KsftNamedVariant(f"{case.name}_{fate}", *case.params, fate)
        for case in HOOKS_BY_MODE
        for fate in ("pass", "redirect")
    ]
)
def test_memory_in(kind: AttachType, mode: Mode, fate: str) -> None:
    """Whoever receives them has a copy, be it by way of another device."""
    each = way(kind, mode=mode)
    if fate == "pass":
        last, program = each.receiver, insn.verdict(Policy.PASS)
    else:
        last = made(each.receiver.ns, "end")
        program = redirect(last.link.index, INGRESS)
    each.hook.attach(program)
    last.configure(f"{ADDRESS}/24")
    with last.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, PORT))
        ksft_eq(fates(each.sender, last), {COPIED})
        for length in LENGTHS:
            ksft_eq(server.recv(MTU) == payload(length), True)


def test_memory_of_dummy() -> None:
    """A device that does without a copy, with no pair before it."""
    (ns,) = namespaces(1)
    end = made(ns, "end")
    ksft_eq(fates(end, end), {IN_PLACE})


def read(descriptor: int) -> bytes:
    """The next packet that a device without MAC header sends; b"" for none."""
    ready, _, _ = select.select([descriptor], [], [], 0.2)
    return os.read(descriptor, 1 << 16) if ready else b""


@ksft_variants(HOOKS_BY_MODE)
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


@ksft_variants(HOOKS_BY_MODE)
def test_bare_ingress(kind: AttachType, mode: Mode) -> None:
    """As if it had been received without one."""
    each = way(kind, mode=mode)
    bare, descriptor = tun(each.receiver.ns)
    each.hook.attach(redirect(bare.link.index, INGRESS))
    for data in PACKETS:
        with (
            bare.packets(protocol_of(data)) as into,
            grown(sender=(each.sender, sent()), receiver=(each.receiver, {})),
        ):
            ksft_eq(send_frame(each, data), [True])
            ksft_eq(into.receive().data, data[ETH_HLEN:])
    ksft_eq(read(descriptor), b"")


@ksft_variants([KsftNamedVariant("egress", 0), KsftNamedVariant("ingress", INGRESS)])
def test_bare_short(flags: int) -> None:
    """A frame of nothing but its header is dropped, and nobody's drop: the
    sender has sent it."""
    each = way()
    bare, descriptor = tun(each.receiver.ns)
    each.hook.attach(redirect(bare.link.index, flags))
    data = PACKETS[0][:ETH_HLEN]
    with (
        bare.packets(protocol_of(data)) as into,
        grown(
            sender=(each.sender, sent(1, ETH_HLEN)),
            receiver=(each.receiver, {}),
            bare=(bare, {}),
        ),
    ):
        ksft_eq(send_frame(each, data), [True])
        ksft_eq((read(descriptor), into.empty()), (b"", True))


@ksft_variants(MODES)
def test_bare_sent(mode: Mode) -> None:
    """What the pair is to send without an Ethernet header goes on as it is; a
    device that needs one drops it."""
    each = way(mode=mode)
    bare, descriptor = tun(each.receiver.ns)
    end = made(each.receiver.ns, "end")
    source = bare_packets(each.sender.ns, each.sender.name)
    for data in PACKETS:
        packet = data[ETH_HLEN:]
        for to, growth, expected in (
            (bare, sent(1, len(packet)), packet),
            (end, {}, b""),
        ):
            link = each.hook.link(redirect(to.link.index))
            with grown(
                sender=(each.sender, sent(1, len(packet))),
                receiver=(each.receiver, {}),
                to=(to, growth),
            ):
                os.write(source, packet)
                ksft_eq(read(descriptor), expected)
            link.close()


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
