#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What goes with a NIC: all that lease queues of it, together, and nobody else.
"""

from contextlib import ExitStack
from itertools import groupby

from lib.py import ksft_eq, ksft_exit, ksft_run
from lib.py import Monitor, Namespace, Nic, Port, RTM_DELLINK, cases, lease, namespaces
from lib.py import pair, simnic, single, unload


def pair_of(primary: Namespace, peer: Namespace, nic: Nic, *queues: int) -> None:
    """A pair whose peer leases these queues of a NIC."""
    _, device = pair(primary, peer, peer_link={"num-rx-queues": 1 + len(queues)})
    borrow(device, nic, *queues)


def single_of(ns: Namespace, name: str, nic: Nic, queue: int) -> None:
    """A single device that leases this queue of a NIC."""
    borrow(single(ns, name=name, link={"num-rx-queues": 2}), nic, queue)


def borrow(device: Port, nic: Nic, *queues: int) -> None:
    numbers = [lease(device, nic, queue) for queue in queues]
    ksft_eq(numbers, list(range(1, 1 + len(queues))))


def batches(links: Monitor) -> list[list[str]]:
    """The devices that have gone, by those that went together: all of these have
    been set down when the first one goes, so that nothing is told in between."""
    runs = groupby(links.seen(), lambda told: told[0] == RTM_DELLINK)
    return [sorted(link.name for _, link in run) for gone, run in runs if gone]


def test_unloaded() -> None:
    """Each device once, however many queues it had leased and wherever its peer
    is; who leased of the other port goes with that one, and not before."""
    spaces = host, remote, both, pod, alone = namespaces(5)
    nic, far = simnic(host, remote)
    pair_of(both, both, nic, 0, 2)
    pair_of(host, pod, nic, 3)
    single_of(alone, "nk0", nic, 1)
    single_of(alone, "other", far, 1)
    pair(both, alone, names=("stays0", "stays1"))
    with ExitStack() as stack:
        monitors = [stack.enter_context(Monitor(ns.name)) for ns in spaces]
        unload()
        ksft_eq(
            [batches(links) for links in monitors],
            [
                [["nk0", nic.name]],
                [[far.name]],
                [["nk0", "nk1"]],
                [["nk1"]],
                [["nk0"], ["other"]],
            ],
        )
    ksft_eq(
        [ns.devices() for ns in spaces],
        [set(), set(), {"stays0"}, set(), {"stays1"}],
    )


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
