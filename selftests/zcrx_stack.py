#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Packets for rings of io_uring that the host's stack routes into a pair, by the
transmit path of its end, rather than a program that brings them past it.
"""

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_ge
from lib.py import ksft_gt, ksft_lt, ksft_run, ksft_variants
from lib.py import AttachType, Hook, MARK, Map, PRIORITY, Policy, Program, Scrub, cases
from lib.py import insn, namespaces
from lib.py.insn import Reg
from lib.py.pods import Counter, Pod
from lib.py.zcrx import PACKETS, SIZE, Load, Node, Receiver

QUEUE = 2
NEXT = -1


class Bare:
    """A pod without programs on either end of its pair, which has a ring."""

    def __init__(self, scrub: Scrub = Scrub.NONE) -> None:
        self.node = Node(pods=0, deliver=False)
        self.pod = Pod("pod1", namespaces(1)[0], "198.51.100.1", rx_queues=2)
        host = self.node.host
        host.create(self.pod, scrub)
        host.hand_over(self.pod)
        self.primary = host.port(self.pod)
        self.primary.change(peer_policy=Policy.PASS)
        self.device = self.pod.device
        self.device.wait_operational()
        self.receiver = Receiver(
            self.device, self.node.lend(self.pod, self.device, QUEUE)
        )
        self.before = self.node.nic.counters
        self.load = Load(self.node.connection(self.pod))
        self.node.flowing(QUEUE)

    def dropped(self, count: int) -> None:
        """Waits until the host's end has dropped so many more packets."""
        before = self.primary.stats["tx_dropped"]
        ksft_busy_wait(
            lambda: self.primary.stats["tx_dropped"] >= before + count,
            deadline=30,
            comment="nothing is dropped",
        )

    def finish(self) -> None:
        """All that was sent is in the ring, and has come by no other memory."""
        sent = self.load.finish()
        ksft_eq(self.receiver.finish(), str(sent))
        self.node.by_ring(self.before, QUEUE, size=sent)


@ksft_variants([KsftNamedVariant("packets", "off"), KsftNamedVariant("gro", "on")])
def test_programs(gro: str) -> None:
    """The programs of the pair see them, one by one or put together before."""
    node = Node(deliver=False)
    (pod,) = node.pods
    node.nic.ns.ethtool(f"-K {node.nic.name} gro {gro}")
    leased = node.lend(pod, pod.device, QUEUE)
    primary = node.host.port(pod)
    before, counted = (primary.stats, pod.device.stats), node.host.counts()
    node.transfer(pod, pod.device, leased, QUEUE)
    after, counts = (primary.stats, pod.device.stats), node.host.counts()
    ksft_gt(after[0]["tx_bytes"] - before[0]["tx_bytes"], SIZE)
    ksft_gt(after[1]["rx_bytes"] - before[1]["rx_bytes"], SIZE)
    grown = {counter: counts[counter] - counted[counter] for counter in Counter}
    ksft_eq(grown[Counter.DELIVERED], 0)
    (ksft_ge if gro == "off" else ksft_lt)(grown[Counter.TO_POD], PACKETS)
    ksft_eq(grown[Counter.TO_POD], after[0]["tx_packets"] - before[0]["tx_packets"])


def test_policy() -> None:
    """That of the host's end stops them, and lets them pass again."""
    at = Bare()
    ksft_eq(at.primary.stats["tx_dropped"], 0)
    at.primary.change(policy=Policy.DROP)
    at.dropped(1)
    passed = at.device.stats["rx_packets"]
    # What is lost is sent again, and lost.
    at.dropped(2)
    ksft_eq(at.device.stats["rx_packets"], passed)
    at.primary.change(policy=Policy.PASS)
    at.node.flowing(QUEUE)
    ksft_gt(at.device.stats["rx_packets"], passed)
    at.finish()


@ksft_variants([KsftNamedVariant(scrub.name, scrub) for scrub in Scrub])
def test_scrub(scrub: Scrub) -> None:
    """Mark and priority that the host gave them, by the setting of its end."""
    at = Bare(scrub)
    fields = {insn.SKB_MARK: MARK, insn.SKB_PRIORITY: PRIORITY}
    Hook.of(at.primary, AttachType.TCX_EGRESS).link(
        Program(
            [
                *(
                    code
                    for field, value in fields.items()
                    for code in (
                        insn.mov(Reg.R2, value),
                        insn.store32(Reg.R1, field, Reg.R2),
                    )
                ),
                insn.mov(Reg.R0, NEXT),
                insn.ret(),
            ]
        )
    )
    at.node.flowing(QUEUE)
    seen = {field: Map() for field in fields}
    for field, value in seen.items():
        # Not what the last packet may leave.
        value[0] = MARK + PRIORITY
        Hook.of(at.device, AttachType.TCX_INGRESS).link(
            insn.reporter(value, field, NEXT)
        )
    at.node.flowing(QUEUE)
    ksft_eq(
        {field: value[0] for field, value in seen.items()},
        fields if scrub is Scrub.NONE else dict.fromkeys(fields, 0),
    )
    at.finish()


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
