#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Zero-copy reception of io_uring in pods, from queues that were leased.
"""

import re
import socket
import threading
from typing import Self

from lib.py import ksft_eq, ksft_exit, ksft_ge, ksft_gt, ksft_in, ksft_run, ksft_true
from lib.py import cases, lease, queue_get
from lib.py.pods import Pod
from lib.py.zcrx import PACKETS, PORT, SIZE, Node, Receiver, beside, open_ring, pattern

QUEUE = 2
OTHER_QUEUE = 3
LEASES = 10


def test_pair() -> None:
    """From a queue that the pod's own end of the pair has leased."""
    node = Node()
    (pod,) = node.pods
    leased = node.lend(pod, pod.device, QUEUE)
    before = pod.device.stats
    node.transfer(pod, pod.device, leased, QUEUE)
    after = pod.device.stats
    ksft_gt(after["rx_bytes"] - before["rx_bytes"], SIZE)


def test_single() -> None:
    """From a queue of a single device, while the pair carries the packets."""
    node = Node()
    (pod,) = node.pods
    device = beside(pod)
    leased = node.lend(pod, device, QUEUE)
    before = pod.device.stats
    node.transfer(pod, device, leased, QUEUE)
    after = pod.device.stats
    ksft_gt(after["rx_bytes"] - before["rx_bytes"], SIZE)
    ksft_eq(device.stats["rx_packets"], 0)


def test_again() -> None:
    """A lease serves one ring after the other."""
    node = Node()
    (pod,) = node.pods
    leased = node.lend(pod, pod.device, QUEUE)
    for _ in range(3):
        node.transfer(pod, pod.device, leased, QUEUE)


def test_two_pods() -> None:
    """Both at once, each from its own queue."""
    node = Node(pods=2)
    queues = (QUEUE, OTHER_QUEUE)
    receivers = [
        Receiver(pod.device, node.lend(pod, pod.device, queue))
        for pod, queue in zip(node.pods, queues, strict=True)
    ]
    before = node.nic.counters
    connections = [node.connection(pod) for pod in node.pods]
    for start in range(0, SIZE, SIZE // 4):
        for connection in connections:
            connection.sendall(pattern(SIZE // 4, start))
    for connection in connections:
        connection.close()
    ksft_eq([receiver.finish() for receiver in receivers], [str(SIZE)] * 2)
    node.by_ring(before, *queues)


def test_two_leases() -> None:
    """Of one device, each with a ring of its own."""
    node = Node(rx_queues=3)
    (pod,) = node.pods
    queues = (QUEUE, OTHER_QUEUE)
    leased = [lease(pod.device, node.nic, queue) for queue in queues]
    ksft_eq(leased, [1, 2])
    for queue, number in zip(queues, leased, strict=True):
        rule = node.steer(pod, queue)
        node.transfer(pod, pod.device, number, queue)
        node.unsteer(rule)


def test_other_queue() -> None:
    """What comes by a queue that was not leased is copied, and arrives."""
    node = Node()
    (pod,) = node.pods
    receiver = Receiver(pod.device, lease(pod.device, node.nic, QUEUE))
    node.send(pod)
    ksft_eq(receiver.finish(), str(SIZE))
    ksft_eq(node.unreadable(QUEUE), 0)


def test_bound() -> None:
    """What the kernel tells of the queue as long as there is a ring."""
    node = Node()
    (pod,) = node.pods
    leased = node.lend(pod, pod.device, QUEUE)
    ksft_true(not node.bound(QUEUE))
    receiver = Receiver(pod.device, leased)
    ksft_true(node.bound(QUEUE))
    ksft_in("lease", queue_get(node.nic, QUEUE))
    ksft_eq(open_ring(pod.device, leased), "EEXIST")
    receiver.kill()
    node.released(QUEUE)
    ksft_in("lease", queue_get(node.nic, QUEUE))


class Echo:
    """Numbered datagrams to a pod and back, as fast as they come back."""

    def __init__(self, node: Node, pod: Pod) -> None:
        self._client = node.far.ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._client.connect((pod.address, PORT))
        self._server = pod.ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.bind((pod.address, PORT))
        self._threads = [
            threading.Thread(target=work) for work in (self._ask, self._answer)
        ]
        self._ended = False
        self.asked = self.answered = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def _ask(self) -> None:
        while not self._ended:
            number = str(self.asked).encode()
            self.asked += 1
            self._client.send(number)
            if self._client.recv(16) != number:
                break
            self.answered += 1
        # To the server: that was all.
        self._client.send(b"")

    def _answer(self) -> None:
        while True:
            data, sender = self._server.recvfrom(16)
            if not data:
                return
            self._server.sendto(data, sender)

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()


def test_come_and_go() -> None:
    """Nothing of what the pair carries is lost while single devices beside it
    lease a queue, use it, and go with it."""
    node = Node()
    (pod,) = node.pods
    # The connections to the ring; the datagrams come by the first queue.
    node.steer(pod, QUEUE)
    with Echo(node, pod) as echo:
        for _ in range(LEASES):
            before, unreadable = echo.answered, node.unreadable(QUEUE)
            device = beside(pod)
            receiver = Receiver(device, lease(device, node.nic, QUEUE))
            node.send(pod)
            ksft_eq(receiver.finish(), str(SIZE))
            ksft_ge(node.unreadable(QUEUE) - unreadable, PACKETS)
            pod.ns.rtnl.dellink({"ifname": device.name})
            ksft_gt(echo.answered, before)
    ksft_eq(echo.answered, echo.asked)
    # The last words of a connection may come while their queue is restarted, after
    # all that it carried.
    lost = re.compile(rf"rx(?!{QUEUE}_drops)\d+_(drops|alloc_fail)")
    counters = node.nic.counters
    ksft_eq({name: n for name, n in counters.items() if lost.match(name) and n}, {})
    ksft_eq(pod.device.stats["tx_dropped"], 0)
    ksft_eq(node.host.port(pod).stats["tx_dropped"], 0)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
