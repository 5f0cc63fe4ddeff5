#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Leased queues of a NIC whose operations fail.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lib.py import ksft_eq, ksft_exit, ksft_gt, ksft_in, ksft_run
from lib.py import ksft_true, ksft_variants
from lib.py import RESTART_FAULTS, answer, cases, queue_get, refused
from lib.py.zcrx import SIZE, Node, Receiver, open_ring, pattern

QUEUE = 2

OPEN_FAULTS = RESTART_FAULTS | {
    "queue_validate": "EINVAL",
    "queue_dma_dev": "EOPNOTSUPP",
}


@ksft_variants(OPEN_FAULTS.items())
def test_open(what: str, error: str) -> None:
    """Told to who opens a ring; the queue works on as if nobody had."""
    node = Node()
    (pod,) = node.pods
    leased = node.lend(pod, pod.device, QUEUE)
    node.nic.fail(what)
    ksft_eq(open_ring(pod.device, leased), error)
    ksft_eq(node.nic.failures_left(what), 0)
    ksft_true(not node.bound(QUEUE))
    node.copy(pod, QUEUE)
    node.transfer(pod, pod.device, leased, QUEUE)


@contextmanager
def receiving() -> Iterator[tuple[Node, socket.socket]]:
    """A ring that has to get SIZE bytes, all of them in its own memory, of what
    is sent by the connection."""
    node = Node()
    (pod,) = node.pods
    receiver = Receiver(pod.device, node.lend(pod, pod.device, QUEUE))
    before = node.nic.counters
    with node.connection(pod) as connection:
        yield node, connection
    ksft_eq(receiver.finish(), str(SIZE))
    node.by_ring(before, QUEUE)


def test_restart() -> None:
    """A queue that cannot be restarted serves its ring as before."""
    with receiving() as (node, connection):
        sent = 0
        for what, error in RESTART_FAULTS.items():
            node.nic.fail(what)
            ksft_eq(answer(node.nic.restart_queue, QUEUE), error)
            ksft_eq(node.nic.failures_left(what), 0)
            connection.sendall(pattern(SIZE // 4, sent))
            sent += SIZE // 4
        node.nic.restart_queue(QUEUE)
        connection.sendall(pattern(SIZE // 4, sent))


def test_no_buffers() -> None:
    """What finds no memory in the ring is lost, and sent again."""
    with receiving() as (node, connection):
        node.nic.fail("rx_alloc", 8)
        node.nic.restart_queue(QUEUE)
        connection.sendall(pattern(SIZE))
    ksft_eq(node.nic.failures_left("rx_alloc"), 0)
    ksft_gt(node.nic.counters[f"rx{QUEUE}_alloc_fail"], 0)


def test_lost() -> None:
    """What is lost on the way is sent again, and put where it belongs."""
    with receiving() as (node, connection):
        connection.sendall(pattern(SIZE // 2))
        node.far.fail("wire", 3)
        connection.sendall(pattern(SIZE // 2, SIZE // 2))
    ksft_eq(node.far.failures_left("wire"), 0)


def test_open_nic() -> None:
    """A NIC that does not come up at once keeps what was leased of it."""
    node = Node()
    (pod,) = node.pods
    leased = node.lend(pod, pod.device, QUEUE)
    node.nic.down()
    node.nic.fail("open")
    with refused() as answers:
        node.nic.up()
    ksft_eq(answers, [("EIO", None)])
    node.nic_up()
    ksft_in("lease", queue_get(node.nic, QUEUE))
    node.transfer(pod, pod.device, leased, QUEUE)


def test_lease_down() -> None:
    """A NIC that is down lends its queues as well; they serve when it is up."""
    node = Node()
    (pod,) = node.pods
    node.nic.down()
    leased = node.lend(pod, pod.device, QUEUE)
    node.nic_up()
    node.transfer(pod, pod.device, leased, QUEUE)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
