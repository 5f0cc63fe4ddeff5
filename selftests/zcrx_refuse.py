#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Rings and leases that are refused, and what a ring on a leased queue refuses.
"""

from collections.abc import Callable

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_ne, ksft_run
from lib.py import ksft_variants
from lib.py import Mode, Port, answer, cases, cmd, lease, namespaces, simnic, single
from lib.py.zcrx import SIZE, Node, Receiver, beside, open_ring

QUEUE = 2

RINGS: dict[str, Callable[[Node], tuple[Port, int]]] = {
    "not_leased": lambda node: (node.pods[0].device, 0),
    "not_there": lambda node: (node.pods[0].device, 2),
    "primary": lambda node: (node.host.port(node.pods[0]), 0),
    "lent": lambda node: (node.nic, QUEUE),
}


@ksft_variants([KsftNamedVariant(*case) for case in RINGS.items()])
def test_ring(choose: Callable[[Node], tuple[Port, int]]) -> None:
    """On any queue but the one of the pod that was leased."""
    node = Node()
    (pod,) = node.pods
    leased = lease(pod.device, node.nic, QUEUE)
    ksft_eq(open_ring(*choose(node)), "EOPNOTSUPP")
    ksft_eq(open_ring(pod.device, leased), "")


@ksft_variants(
    [KsftNamedVariant("together", "off", 0), KsftNamedVariant("threshold", "on", 64)]
)
def test_headers(how: str, threshold: int) -> None:
    """As long as the NIC may put headers into the memory of the ring."""
    node = Node()
    (pod,) = node.pods
    leased = lease(pod.device, node.nic, QUEUE)
    node.split_headers(how, threshold)
    ksft_eq(open_ring(pod.device, leased), "EINVAL")
    node.split_headers("on")
    ksft_eq(open_ring(pod.device, leased), "")


def test_one_queue() -> None:
    """A device that was made with one queue cannot lease any."""
    node = Node(rx_queues=1)
    (pod,) = node.pods
    ksft_eq(answer(lease, pod.device, node.nic, QUEUE), "EINVAL")
    ksft_eq(answer(lease, beside(pod, 1), node.nic, QUEUE), "EINVAL")


def test_busy() -> None:
    """A queue on which the host has a ring itself is not to be had."""
    node = Node()
    (pod,) = node.pods
    receiver = Receiver(node.nic, QUEUE)
    ksft_eq(answer(lease, pod.device, node.nic, QUEUE), "EBUSY")
    receiver.kill()
    node.released(QUEUE)
    leased = node.lend(pod, pod.device, QUEUE)
    node.transfer(pod, pod.device, leased, QUEUE)


# Of the ring, and not of anything else that the NIC has been told.
CHANGES = {
    "-G {} tcp-data-split off": (
        "can't disable tcp-data-split while device has memory provider enabled"
    ),
    "-G {} hds-thresh 64": (
        "can't set non-zero hds_thresh while device is memory provider enabled"
    ),
    f"-L {{}} combined {QUEUE}": (
        "requested channel counts are too low for existing memory provider setting "
        f"({QUEUE + 1})"
    ),
}


def test_change() -> None:
    """The NIC cannot be made unfit for the ring on one of its queues."""
    node = Node()
    (pod,) = node.pods
    receiver = Receiver(pod.device, lease(pod.device, node.nic, QUEUE))
    for change, reason in CHANGES.items():
        command = f"ethtool {change.format(node.nic.name)}"
        refused = cmd(command, ns=node.nic.ns.name, fail=False)
        ksft_ne(refused.ret, 0, command)
        ksft_eq(
            refused.stderr.splitlines(),
            [f"netlink error: {reason}", "netlink error: Invalid argument"],
        )
    # A rule alone would keep the queue as well.
    node.steer(pod, QUEUE)
    before = node.nic.counters
    node.send(pod)
    ksft_eq(receiver.finish(), str(SIZE))
    node.by_ring(before, QUEUE)


def test_every_queue() -> None:
    """One device can have all queues of a NIC, and when it goes, another one."""
    host, remote, container = namespaces(3)
    channels = 16
    nic, _ = simnic(host, remote, channels=channels)
    for order in (range(channels), reversed(range(channels))):
        device = single(container, mode=Mode.L2, link={"num-rx-queues": 1 + channels})
        ksft_eq(
            [lease(device, nic, queue) for queue in order],
            list(range(1, 1 + channels)),
        )
        ksft_eq(answer(lease, device, nic, channels), "ERANGE")
        container.rtnl.dellink({"ifname": device.name})


def test_nic_down() -> None:
    """A NIC that is down takes no ring, but lets one go that it had."""
    node = Node()
    (pod,) = node.pods
    leased = lease(pod.device, node.nic, QUEUE)
    node.nic.down()
    ksft_eq(open_ring(pod.device, leased), "ENETDOWN")
    node.nic_up()
    Receiver(pod.device, leased)
    node.nic.down()
    pod.ns.rtnl.dellink({"ifname": pod.device.name})
    node.nic_up()
    ksft_eq(open_ring(node.nic, QUEUE), "")


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
