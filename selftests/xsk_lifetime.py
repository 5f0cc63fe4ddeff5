#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
AF_XDP sockets on leased queues when something of what they need goes or moves.
"""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_in
from lib.py import ksft_run, ksft_true, ksft_variants
from lib.py import Bind, ETH_P_TEST, Fix, IFF_UP, LEASED, Leased, Monitor, Nic, QUEUE
from lib.py import XdpSocket, answer, cases, defer, frames_to, ip, leased, lessee
from lib.py import namespaces, needs, ns_fd, operational, same, single, unload
from lib.py.simnic import LOADED

FLAGS = [
    KsftNamedVariant("zerocopy", Bind.ZEROCOPY),
    KsftNamedVariant("copy", Bind.COPY),
]


class Busy:
    """Frames both ways between a socket and far away, all the time, whatever
    happens to what is between: those that arrive are as they were sent.  Nobody
    else may use the socket's rings."""

    BURST = 8
    PAUSE = 0.001
    PROTOCOL = ETH_P_TEST + 1
    # What those who wake a socket are told while what it needs is not there.
    ANSWERS = frozenset({"", "ENETDOWN", "ENXIO"})

    def __init__(self, at: Leased, sock: XdpSocket) -> None:
        self._socket = sock
        self._remote = at.remote
        self._out = at.remote.packets()
        self._frames = frames_to(at.device.address, self.BURST)
        # Not for those who wait far away for frames of their own.
        self._into = at.remote.packets(self.PROTOCOL)
        self._replies = frames_to(at.remote.address, self.BURST, self.PROTOCOL)
        self._idle = self.BURST
        self._received = self._returned = 0
        self._strange: list[bytes] = []
        self._answers: set[str] = set()
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(2)

    def __enter__(self) -> Self:
        defer(self._stop)
        self._sending = self._threads.submit(answer, self._send)
        self._using = self._threads.submit(self._use)
        self.flowing()
        return self

    def _send(self) -> None:
        with self._out as out, self._into as into:
            while not self._ended.wait(self.PAUSE):
                for data in self._frames:
                    out.send(data)
                while not into.empty():
                    self._compare([into.receive().data], self._replies)
                    self._returned += 1

    def _use(self) -> None:
        while not self._ended.wait(self.PAUSE):
            self._take()
            self._finish()
            self._socket.queue(*self._replies[: self._idle])
            self._idle = 0
            self._answers.add(answer(self._socket.wake_tx))

    def _take(self) -> None:
        came = self._socket.received()
        self._socket.fill(len(came))
        self._compare(came, self._frames)
        self._received += len(came)

    def _finish(self) -> int:
        self._idle += self._socket.completed()
        return self._idle

    def _compare(self, came: list[bytes], sent: list[bytes]) -> None:
        self._strange += [data for data in came if data not in sent]

    def _unchanged(self) -> None:
        ksft_eq(len(self._strange), 0, "frames with other contents")

    def flowing(self, count: int = 4 * BURST) -> None:
        """Waits until so many more frames have come each way; by copying, none go
        out."""
        received, returned = self._received + count, self._returned + count
        zerocopy = self._socket.is_zerocopy
        ksft_busy_wait(
            lambda: (
                self._received >= received
                and (self._returned >= returned or not zerocopy)
            ),
            deadline=30,
            comment="nothing flows",
        )

    def _stop(self) -> None:
        self._ended.set()
        self._threads.shutdown()

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._using.result()
        # The far port may be gone.
        ksft_in(self._sending.result(), {""} if LOADED.exists() else self.ANSWERS)
        self._unchanged()
        ksft_eq(self._answers - self.ANSWERS, set())

    def settle(self, nic: Nic) -> None:
        """Ends what is on its way, so that others can use the socket."""
        self.lose(nic)
        self._take()
        self._unchanged()
        ksft_busy_wait(
            lambda: self._finish() == self.BURST,
            deadline=30,
            comment="frames are not completed",
        )

    def lose(self, nic: Nic) -> None:
        """What is on its way is lost: ports that are set down drop it."""
        nic.down()
        self._remote.down()
        operational(nic, self._remote)


def cut_off(sock: XdpSocket) -> None:
    """The socket has lost its device, and says so."""
    ksft_eq(sock.error, "ENETDOWN")
    for wake in (sock.wake_tx, sock.wake_rx):
        ksft_eq(answer(wake), "ENXIO")


@ksft_variants(FLAGS)
def test_closed(flags: Bind) -> None:
    """The lease stays; frames are the NIC's until there is another socket."""
    at = leased()
    sock = at.socket(flags)
    ksft_eq(at.users, {"lease", "xsk"})
    at.arrive(sock)
    at.close(sock)
    frames = frames_to(at.device.address)
    with at.nic.packets() as into, at.remote.packets() as out:
        out.send(frames[0])
        same([into.receive().data], frames)
    at.works(at.socket())


@ksft_variants(FLAGS)
def test_device_deleted(flags: Bind) -> None:
    """The queue is free at once, while the socket is open."""
    at = leased()
    sock = at.socket(flags)
    with Busy(at, sock) as busy:
        at.device.ns.rtnl.dellink({"ifname": at.device.name})
        cut_off(sock)
        ksft_eq(at.users, set())
    busy.lose(at.nic)
    again = replace(at, device=lessee(at.device.ns, at.nic, QUEUE))
    again.works(again.socket())


@contextmanager
def first_on_one_processor() -> Iterator[None]:
    """This thread runs there as soon as it can; those that it starts run there too,
    when it waits."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(0, policy, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, processors)


@ksft_variants(FLAGS)
def test_closed_while_deleted(flags: Bind) -> None:
    """What a socket leaves to be cleared up later, as its device is going, is
    taken from the NIC all the same."""
    needs(Fix.XSK_CLOSED)
    at = leased()
    sock = at.socket(flags)
    at.arrive(sock)
    ns, name = at.device.ns, at.device.name
    # The deletion tells that the device is down, then waits for a grace period, and
    # only then takes it from its socket.
    with Monitor(ns.name) as links, ThreadPoolExecutor(1) as threads:
        with first_on_one_processor():
            deletion = threads.submit(ns.rtnl.dellink, {"ifname": name})
            while all(link.flags & IFF_UP for _, link in links.seen()):
                links.wait()
            ksft_eq(sock.error, "")
            sock.close()
        deletion.result()
    ksft_eq(at.users, set())
    again = replace(at, device=lessee(ns, at.nic, QUEUE))
    again.works(again.socket())


def test_device_deleted_shared() -> None:
    """So it is with all sockets of the queue."""
    at = leased()
    first = at.socket()
    second = XdpSocket(at.device, LEASED, shared=first)
    at.device.ns.rtnl.dellink({"ifname": at.device.name})
    for sock in (first, second):
        cut_off(sock)
    ksft_eq(at.users, set())


@ksft_variants(FLAGS)
def test_unloaded(flags: Bind) -> None:
    """With the NIC go the devices that have its queues, and no others."""
    at = leased()
    sock = at.socket(flags)
    (other,) = namespaces(1)
    single(other)
    with Busy(at, sock):
        unload()
        cut_off(sock)
    ksft_eq(at.device.ns.devices(), set())
    ksft_eq(other.devices(), {"nk0"})
    sock.close()


def test_namespace_deleted() -> None:
    """It keeps what it has while somebody uses it, and gives the queue back then."""
    at = leased()
    sock = at.socket()
    with ns_fd(at.device.ns.name):
        at.device.ns.delete()
        ksft_eq(at.users, {"lease", "xsk"})
        at.close(sock)
        ksft_eq(at.users, {"lease"})
    ksft_busy_wait(
        lambda: at.users == set(), deadline=60, comment="the queue is not free"
    )


def test_nic_down() -> None:
    """The socket waits for it."""
    at = leased()
    sock = at.socket()
    with Busy(at, sock) as busy:
        at.nic.down()
        ksft_eq((sock.error, sock.is_zerocopy), ("", True))
        operational(at.nic, at.remote)
        busy.flowing()
    busy.settle(at.nic)
    at.works(sock)


def test_bound_down() -> None:
    """A socket may come before the NIC is set up."""
    at = leased()
    at.nic.down()
    sock = at.socket()
    ksft_true(sock.is_zerocopy)
    operational(at.nic, at.remote)
    at.works(sock)


def test_closed_down() -> None:
    """And go before it is again."""
    at = leased()
    sock = at.socket()
    at.nic.down()
    sock.close()
    operational(at.nic, at.remote)
    at.wait_free()
    at.works(at.socket())


def test_nic_moved() -> None:
    """Neither lease nor socket care in which namespace the NIC is."""
    # The module goes first at the end, or the NIC would still be there.
    (other,) = namespaces(1)
    at = leased()
    sock = at.socket()
    with Busy(at, sock) as busy:
        moved = replace(at, nic=at.nic.move(other))
        operational(moved.nic, at.remote)
        ksft_eq(moved.users, {"lease", "xsk"})
        busy.flowing()
    busy.settle(moved.nic)
    moved.works(sock)
    moved.close(sock)


def test_nic_namespace_deleted() -> None:
    """The NIC is in the first one again, and from there goes where it is told."""
    (other,) = namespaces(1)
    at = leased()
    sock = at.socket()
    at.nic.ns.delete()
    ksft_busy_wait(
        lambda: any(link["ifname"] == at.nic.name for link in ip("link", json=True)),
        deadline=60,
        comment="the NIC is not back",
    )
    ip(f"link set {at.nic.name} netns {other.name}")
    moved = replace(at, nic=Nic(other, at.nic.name))
    operational(moved.nic, at.remote)
    moved.works(sock)
    moved.close(sock)


def test_device_moved() -> None:
    """The lease goes along; the socket is left behind."""
    at = leased()
    (other,) = namespaces(1)
    sock = at.socket()
    moved = replace(at, device=at.device.move(other))
    cut_off(sock)
    moved.device.up()
    ksft_eq(at.users, {"lease"})
    moved.works(moved.socket())


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
