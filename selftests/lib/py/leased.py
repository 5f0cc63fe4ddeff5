# SPDX-License-Identifier: GPL-2.0

"""
A container whose device has leased queues of a NIC, for its AF_XDP sockets.
"""

import os
import random
from dataclasses import dataclass
from functools import cache

from net.lib.py import defer, ksft_busy_wait, ksft_eq, ksft_pr, ksft_true

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


@cache
def _random() -> random.Random:
    """Of a seed that is printed; to repeat a run, it is taken from the environment."""
    seed = int(os.environ.get("NETKIT_SEED", random.getrandbits(32)))
    ksft_pr(f"NETKIT_SEED={seed}")
    return random.Random(seed)


def frames_to(
    destination: bytes, count: int = 1, protocol: int = ETH_P_TEST
) -> list[bytes]:
    """Frames of all lengths, none like another one."""
    lengths = [60, 1514, *(_random().randint(60, 1514) for _ in range(count))]
    return [
        frame(destination, _random().randbytes(length - 14), length, protocol)
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

    def pass_by(self) -> None:
        """What is sent from far away to the NIC comes by another queue, to the host."""
        frames = frames_to(self.nic.address)
        with self.nic.packets() as into, self.remote.packets() as out:
            out.send(frames[0])
            same([into.receive().data], frames)

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


def leased() -> Leased:
    host, remote, container = namespaces(3)
    nic, far = simnic(host, remote)
    return Leased(nic, far, lessee(container, nic, QUEUE), Redirection(nic))
