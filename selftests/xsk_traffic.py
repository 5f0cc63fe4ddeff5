#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What passes between AF_XDP sockets on leased queues and the wire.
"""

from dataclasses import replace

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_true
from lib.py import ksft_variants
from lib.py import BROADCAST, Bind, LEASED, Leased, Nic, QUEUE, Redirection, XdpSocket
from lib.py import answer, cases, frame, frames_to, leased, lessee, namespaces, same
from lib.py import simnic

OTHER = bytes.fromhex("020000000002")


def rx(queue: int, frames: list[bytes], **more: int) -> dict[str, int]:
    """What a queue counts that gets these frames and redirects them."""
    counts = {
        "packets": len(frames),
        "bytes": sum(map(len, frames)),
        "xdp_redirect": len(frames),
    }
    return {f"rx{queue}_{name}": n for name, n in (counts | more).items()}


def tx(queue: int, frames: list[bytes]) -> dict[str, int]:
    return {
        f"tx{queue}_packets": len(frames),
        f"tx{queue}_bytes": sum(map(len, frames)),
        f"tx{queue}_xsk": len(frames),
    }


def send(nic: Nic, frames: list[bytes]) -> None:
    with nic.packets() as out:
        for data in frames:
            ksft_true(out.send(data))


@ksft_variants(
    [KsftNamedVariant("zerocopy", Bind.ZEROCOPY), KsftNamedVariant("any", Bind.ANY)]
)
def test_receive(flags: Bind) -> None:
    """By that queue of the NIC only, and past the device's own counters."""
    at = leased()
    sock = at.socket(flags)
    ksft_true(sock.is_zerocopy)
    frames = frames_to(at.device.address, 8)
    before = at.device.stats
    with at.nic.counting(**rx(QUEUE, frames, xsk=8)):
        send(at.remote, frames)
        same(sock.receive(8), frames)
    ksft_eq(at.device.stats, before)


def test_transmit() -> None:
    """By that queue of the NIC only, and past the device's own counters."""
    at = leased()
    sock = at.socket()
    frames = frames_to(at.remote.address, 8)
    before = at.device.stats
    with at.nic.counting(**tx(QUEUE, frames)), at.remote.packets() as into:
        sock.send(*frames)
        same([into.receive().data for _ in frames], frames)
        sock.complete(8)
    ksft_eq(at.device.stats, before)


def test_many() -> None:
    """All rings are used up several times."""
    at = leased()
    sock = at.socket()
    for _ in range(8):
        at.arrive(sock, 32)
        sock.fill(32)
        at.leave(sock, 32)


def test_copy_receive() -> None:
    """The NIC's own memory is copied from."""
    at = leased()
    sock = at.socket(Bind.COPY)
    ksft_eq(sock.is_zerocopy, False)
    frames = frames_to(at.device.address, 8)
    with at.nic.counting(**rx(QUEUE, frames)):
        send(at.remote, frames)
        same(sock.receive(8), frames)


def test_copy_transmit() -> None:
    """Nothing is sent: for that the device would need a transmit queue."""
    at = leased()
    sock = at.socket(Bind.COPY)
    before = at.device.stats
    with at.remote.packets() as into:
        with at.nic.counting():
            sock.send(*frames_to(at.remote.address))
        frames = frames_to(at.remote.address)
        send(at.nic, frames)
        same([into.receive().data], frames)
    ksft_eq(sock.completed(), 0)
    ksft_eq(at.device.stats, before)


def test_copy_unleased() -> None:
    """What is sent on the device's own queue becomes packets, and is dropped."""
    at = leased()
    sock = XdpSocket(at.device, 0, Bind.ANY)
    ksft_eq(sock.is_zerocopy, False)
    with at.nic.counting():
        ksft_eq(answer(sock.send, *frames_to(at.remote.address)), "EBUSY")
        sock.complete(1)
    stats = at.device.stats
    ksft_eq((stats["tx_dropped"], stats["tx_packets"]), (1, 0))


def test_packets() -> None:
    """A device with a lease drops packets like one without."""
    at = leased()
    at.socket()
    with at.nic.counting(), at.device.packets() as out:
        for destination in (BROADCAST, at.remote.address):
            ksft_eq(out.send(frame(destination)), False)
    stats = at.device.stats
    ksft_eq((stats["tx_dropped"], stats["tx_packets"]), (2, 0))


def test_others() -> None:
    """What goes to other queues is the host's."""
    at = leased()
    sock = at.socket()
    at.pass_by()
    ksft_eq(sock.received(), [])
    at.works(sock)


def test_two_containers() -> None:
    """Each has its own queue and gets its own frames only."""
    host, remote, *containers = namespaces(4)
    nic, far = simnic(host, remote)
    redirection = Redirection(nic)
    ends = [
        Leased(nic, far, lessee(ns, nic, queue), redirection, queue)
        for ns, queue in zip(containers, (1, 3))
    ]
    socks = [at.socket() for at in ends]
    frames = [frames_to(at.device.address, 6) for at in ends]
    with nic.counting(**rx(1, frames[0], xsk=6), **rx(3, frames[1], xsk=6)):
        for each in zip(*frames):
            send(far, list(each))
        for sock, own in zip(socks, frames):
            same(sock.receive(6), own)
    for at, sock in zip(ends, socks):
        out = frames_to(far.address, 2)
        with nic.counting(**tx(at.queue, out)), far.packets() as into:
            sock.send(*out)
            same([into.receive().data for _ in out], out)


@ksft_variants([KsftNamedVariant("own", False), KsftNamedVariant("shared", True)])
def test_two_queues(shares: bool) -> None:
    """Of one device, each with a socket; these may share their memory."""
    host, remote, container = namespaces(3)
    nic, far = simnic(host, remote)
    device = lessee(container, nic, 1, 3)
    nic.steer(OTHER, 3)
    at = Leased(nic, far, device, Redirection(nic), 1)
    first = at.socket()
    other = replace(at, queue=3, number=2)
    second = other.socket(shared=first if shares else None)
    for sock, queue, address in ((first, 1, device.address), (second, 3, OTHER)):
        ksft_true(sock.is_zerocopy)
        frames = frames_to(address, 4)
        with nic.counting(**rx(queue, frames, xsk=4)):
            send(far, frames)
            same(sock.receive(4), frames)
        frames = frames_to(far.address, 4)
        with nic.counting(**tx(queue, frames)):
            sock.send(*frames)
            sock.complete(4)


def test_shared_queue() -> None:
    """Two sockets on one queue: both send, and the program says who receives."""
    at = leased()
    first = at.socket()
    second = XdpSocket(at.device, LEASED, shared=first)
    for sock in (second, first):
        at.redirection[QUEUE] = sock
        ksft_true(sock.is_zerocopy)
        at.works(sock)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
