# SPDX-License-Identifier: GPL-2.0

"""
A container whose device has leased queues of a NIC, for its AF_XDP sockets.
"""

import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from net.lib.py import defer, ksft_busy_wait, ksft_eq, ksft_true

from .bpf import answer
from .netkit import Mode, Namespace, Port, namespaces, single
from .packet import ETH_P_TEST, frame
from .simnic import Nic, lease, queue_get, simnic
from .xsk import Bind, Redirection, XdpSocket

# Which queue of the NIC the container has, and what its device calls it.
QUEUE = 2
LEASED = 1


def lessee(ns: Namespace, nic: Nic, *queues: int) -> Port:
    """A single device with these queues of a NIC, which it numbers from 1 on.

    Frames to its address go to the first of them.
    """
    device = single(ns, mode=Mode.L2, link={"num-rx-queues": 1 + len(queues)})
    ksft_eq(
        [lease(device, nic, queue) for queue in queues],
        list(range(1, 1 + len(queues))),
    )
    nic.steer(device.address, queues[0])
    return device


def frames_to(
    destination: bytes, count: int = 1, protocol: int = ETH_P_TEST
) -> list[bytes]:
    """Frames of all lengths, none like another one."""
    lengths = [60, 1514, *(random.randint(60, 1514) for _ in range(count))]
    return [
        frame(destination, random.randbytes(length - 14), length, protocol)
        for length in lengths[:count]
    ]


def same(got: list[bytes], expected: list[bytes]) -> None:
    """Frames are what they should be; too long to be shown if they are not."""
    ksft_eq([len(data) for data in got], [len(data) for data in expected])
    ksft_true(got == expected, "the frames have other contents")


@dataclass(frozen=True)
class Leased:
    """The device, the NIC and what is far away; all in their own namespaces."""

    nic: Nic
    remote: Nic
    device: Port
    redirection: Redirection
    queue: int = QUEUE
    number: int = LEASED

    def socket(
        self,
        flags: Bind = Bind.ZEROCOPY,
        buffers: int = 32,
        shared: XdpSocket | None = None,
    ) -> XdpSocket:
        """A socket that gets what comes by the queue."""
        made = XdpSocket(self.device, self.number, flags, shared)
        defer(self.close, made)
        made.fill(buffers)
        self.redirection[self.queue] = made
        return made

    def arrive(self, at: XdpSocket, count: int = 4) -> None:
        """What is sent from far away comes to a socket, as it was."""
        frames = frames_to(self.device.address, count)
        with self.remote.packets() as out:
            for data in frames:
                out.send(data)
        same(at.receive(count), frames)

    def leave(self, sender: XdpSocket, count: int = 4) -> None:
        """What a socket sends comes far away, as it was."""
        frames = frames_to(self.remote.address, count)
        with self.remote.packets() as into:
            sender.send(*frames)
            same([into.receive().data for _ in frames], frames)
        sender.complete(count)

    @property
    def users(self) -> set[str]:
        """What the queue is in use for."""
        return {"lease", "xsk"} & set(queue_get(self.nic, self.queue))

    def close(self, sock: XdpSocket) -> None:
        """Closes a socket if it is open, and waits until its queue is free of it.

        What the socket had goes a little later than itself.  Of a device that
        goes in between, the kernel does not get it back from the NIC.
        """
        if sock.fileno() >= 0:
            sock.close()
            self.wait_free()

    def wait_free(self) -> None:
        ksft_busy_wait(
            lambda: "xsk" not in self.users, deadline=30, comment="a pool is left"
        )

    def works(self, sock: XdpSocket) -> None:
        """Both ways."""
        self.arrive(sock)
        self.leave(sock)


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
        self._threads = [
            threading.Thread(target=work) for work in (self._send, self._use)
        ]

    def __enter__(self) -> Self:
        defer(self._stop)
        for thread in self._threads:
            thread.start()
        self.flowing()
        return self

    def _send(self) -> None:
        # Until the far port has gone.
        with self._out as out, self._into as into, suppress(OSError):
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

    def _finish(self) -> None:
        self._idle += self._socket.completed()

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
        for thread in self._threads:
            thread.join()

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._unchanged()
        ksft_eq(self._answers - self.ANSWERS, set())

    def settle(self, nic: Nic) -> None:
        """Takes what is still on its way, so that others can use the socket."""
        self.rest(nic)
        self._take()
        self._finish()
        self._unchanged()
        ksft_eq(self._idle, self.BURST)

    def rest(self, nic: Nic) -> None:
        """Waits until nothing is on its way any more."""

        def resting() -> bool:
            before = nic.counters, self._remote.counters
            time.sleep(0.1)
            return (nic.counters, self._remote.counters) == before

        ksft_busy_wait(resting, deadline=30, comment="frames are on their way")


def leased() -> Leased:
    host, remote, container = namespaces(3)
    nic, far = simnic(host, remote)
    return Leased(nic, far, lessee(container, nic, QUEUE), Redirection(nic))
