# SPDX-License-Identifier: GPL-2.0

"""
Pods that receive with zero copy, from queues of a NIC that they have leased.
"""

import math
import select
import socket
import string
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from net.lib.py import KsftSkipEx, ksft_busy_wait, ksft_eq, ksft_ge, ksft_gt
from net.lib.py import NetNSEnter, defer

from .netkit import Mode, Port, namespaces, operational, single
from .pods import Host, Pod
from .rtnl import error_name
from .simnic import lease, queue_get, simnic

RECEIVE = Path(__file__).parents[2] / "zcrx_receive"
FAILED = 255
ALPHABET = string.ascii_lowercase.encode()

GATEWAY = "192.0.2.1"
REMOTE = "192.0.2.2"
PODS = "198.51.100.0/24"
PORT = 7000
SIZE = 256 << 10
# Of payload in a packet.
SEGMENT = 1448
# More if some are sent again.
PACKETS = math.ceil(SIZE / SEGMENT)


def pattern(length: int, start: int = 0) -> bytes:
    """What a receiver expects from some byte on."""
    skip = start % len(ALPHABET)
    return (ALPHABET * (2 + length // len(ALPHABET)))[skip : skip + length]


def _receive(device: Port, queue: int, *args: str) -> subprocess.Popen[str]:
    if not RECEIVE.exists():
        raise KsftSkipEx(f"{RECEIVE} was not built")
    with NetNSEnter(device.ns.name):
        return subprocess.Popen(
            [RECEIVE, device.name, str(queue), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def open_ring(device: Port, queue: int) -> str:
    """Opens a ring on a queue and closes it: the name of the error, or ""."""
    ring = _receive(device, queue)
    output, _ = ring.communicate(timeout=60)
    if ring.returncode == FAILED:
        raise RuntimeError(output)
    return error_name(ring.returncode) if ring.returncode else ""


class Receiver:
    """A ring on a queue, and who waits there for a connection."""

    def __init__(self, device: Port, queue: int) -> None:
        self._process = _receive(device, queue, str(PORT))
        defer(self.kill)
        assert self._process.stdout is not None
        told, _, _ = select.select([self._process.stdout], [], [], 30)
        ksft_eq(self._process.stdout.readline() if told else "", "ready\n")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self) -> str:
        """Waits until the connection has ended: how many bytes came by it, or
        what was wrong with them."""
        output, _ = self._process.communicate(timeout=120)
        return output.strip()


class Load:
    """What flows through a connection in the background, for as long as it can."""

    CHUNK = 1024
    PAUSE = 0.002

    def __init__(self, connection: socket.socket) -> None:
        # Closed, it is forgotten: sent again to somebody else, it would be counted.
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._connection = connection
        self._sent = 0
        self._ended = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._sending = self._thread.submit(self._send)
        defer(self.stop)

    def _send(self) -> None:
        while not self._ended.wait(self.PAUSE):
            self._connection.sendall(pattern(self.CHUNK, self._sent))
            self._sent += self.CHUNK

    def finish(self) -> int:
        """Ends the connection behind what was sent: how many bytes these are."""
        self._ended.set()
        self._sending.result()
        self._connection.shutdown(socket.SHUT_WR)
        return self._sent

    def stop(self) -> None:
        """Whether or not the receiver is there, and what is between."""
        self._ended.set()
        # Ends what waits for somebody to take it.
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.shutdown()
        self._connection.close()


def beside(pod: Pod, rx_queues: int = 2) -> Port:
    """A single device in a pod, beside the pair that connects it."""
    return single(pod.ns, mode=Mode.L2, link={"num-rx-queues": rx_queues})


class Node:
    """A host with a NIC and pods, and somebody far away who talks to these.

    What comes for a pod, a program delivers there, or else the host's stack.
    """

    def __init__(self, pods: int = 1, rx_queues: int = 2, deliver: bool = True) -> None:
        host, far, *spaces = namespaces(2 + pods)
        self.nic, self.far = simnic(host, far)
        self.nic.configure(f"{GATEWAY}/24")
        self.far.configure(f"{REMOTE}/24")
        far.ip(f"route add {PODS} via {GATEWAY}")
        self.host = Host(host)
        self.pods = [
            Pod(f"pod{number}", ns, f"198.51.100.{number}", rx_queues)
            for number, ns in enumerate(spaces, 1)
        ]
        self.host.connect(*self.pods)
        if deliver:
            self.host.deliver_from(self.nic)
        # What is not steered elsewhere comes by the first queue.
        self.nic.ns.ethtool(f"-X {self.nic.name} equal 1")
        self.split_headers("on")

    def nic_up(self) -> None:
        operational(self.nic, self.far)

    def split_headers(self, how: str, threshold: int = 0) -> None:
        self.nic.ns.ethtool(
            f"-G {self.nic.name} tcp-data-split {how} hds-thresh {threshold}"
        )

    def steer(self, pod: Pod, queue: int) -> int:
        """What is sent to a pod comes by this queue. Returns the rule's number."""
        output = self.nic.ns.ethtool(
            f"-N {self.nic.name} flow-type tcp4 dst-ip {pod.address} action {queue}"
        )
        return int(output.split()[-1])

    def unsteer(self, rule: int) -> None:
        self.nic.ns.ethtool(f"-N {self.nic.name} delete {rule}")

    def lend(self, pod: Pod, device: Port, queue: int) -> int:
        """Leases a queue to a pod, with what is sent there."""
        leased = lease(device, self.nic, queue)
        self.steer(pod, queue)
        return leased

    def connection(self, pod: Pod) -> socket.socket:
        made = self.far.ns.socket(socket.AF_INET, socket.SOCK_STREAM)
        defer(made.close)
        made.connect((pod.address, PORT))
        return made

    def send(self, pod: Pod, size: int = SIZE) -> None:
        # A receiver that gives up says why.
        with self.connection(pod) as connection, suppress(ConnectionError):
            connection.sendall(pattern(size))

    def unreadable(self, queue: int) -> int:
        """How many packets have come into memory of a ring."""
        return self.nic.counters[f"rx{queue}_unreadable"]

    def transfer(self, pod: Pod, device: Port, leased: int, queue: int) -> None:
        """What is sent arrives as it was, in memory that only the ring reads."""
        receiver = Receiver(device, leased)
        before = self.nic.counters
        self.send(pod)
        ksft_eq(receiver.finish(), str(SIZE))
        self.by_ring(before, queue)
        self.released(queue)

    def by_ring(self, before: dict[str, int], *queues: int, size: int = SIZE) -> None:
        """What has come since then has come by these queues, all of it into memory
        that only a ring reads, and is so many bytes of payload each at least."""
        after = self.nic.counters
        packets = {
            name: after[name] - before.get(name, 0)
            for name in after
            if name.endswith(("_unreadable", "_split"))
        }
        for queue in queues:
            ours = packets.pop(f"rx{queue}_unreadable")
            ksft_ge(ours, math.ceil(size / SEGMENT), "packets in a ring's memory")
            ksft_eq(packets.pop(f"rx{queue}_split"), ours)
        ksft_eq(set(packets.values()), {0}, "by other queues")

    def copy(self, pod: Pod, queue: int) -> None:
        """What comes by a queue without a ring arrives in the ordinary way."""
        before = self.nic.counters
        data = pattern(1 << 14)
        with pod.ns.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((pod.address, PORT))
            server.listen()
            self.send(pod, len(data))
            with server.accept()[0] as accepted:
                ksft_eq(accepted.recv(len(data), socket.MSG_WAITALL), data)
        after = self.nic.counters
        ksft_gt(after[f"rx{queue}_bytes"] - before[f"rx{queue}_bytes"], len(data))
        ksft_eq(after[f"rx{queue}_unreadable"], before[f"rx{queue}_unreadable"])

    def flowing(self, queue: int, packets: int = 32) -> None:
        """Waits until so many more packets have come into the memory of a ring."""
        before = self.unreadable(queue)
        ksft_busy_wait(
            lambda: self.unreadable(queue) >= before + packets,
            deadline=30,
            comment="nothing flows",
        )

    def bound(self, queue: int) -> bool:
        return "io-uring" in queue_get(self.nic, queue)

    def released(self, queue: int) -> None:
        """Waits until a queue has memory of its own again: a ring goes slowly."""
        ksft_busy_wait(
            lambda: not self.bound(queue), deadline=60, comment="the ring stays"
        )
