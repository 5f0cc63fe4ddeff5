#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Counters of netkit devices.
"""

import os
from itertools import cycle, islice

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_run
from lib.py import ksft_variants
from lib.py import AttachType, BROADCAST, ETH_HLEN, HOOKS, Hook, INGRESS, MODES, Mode
from lib.py import Policy, Port, Program, bare_packets, cases, defer, frame, insn
from lib.py import limit_backlog, made, namespaces, pair, redirect, send_back, single
from lib.py import way
from lib.py.insn import Helper, Reg

LENGTHS = (14, 60, 64, 1000, 1514)
BURST = 32


def counted(port: Port, **expected: int) -> None:
    """All other counters are zero."""
    ksft_eq(port.stats, dict.fromkeys(port.stats, 0) | expected, port.name)


def send(port: Port, taken: bool) -> None:
    """Frames of all lengths."""
    with port.packets() as packets:
        for length in LENGTHS:
            ksft_eq(packets.send(frame(port.address, length=length)), taken)


@ksft_variants(MODES)
def test_both_ends(mode: Mode) -> None:
    """The frame with its header counts, once at either end."""
    primary, peer = pair(*namespaces(2), mode=mode)
    count, length = len(LENGTHS), sum(LENGTHS)
    for sender, receiver in ((primary, peer), (peer, primary)):
        before = sender.stats, receiver.stats
        send(sender, True)
        ksft_eq(
            sender.stats,
            before[0]
            | {
                "tx_packets": before[0]["tx_packets"] + count,
                "tx_bytes": before[0]["tx_bytes"] + length,
            },
        )
        grown = {
            key: receiver.stats[key] - before[1][key]
            for key in ("rx_packets", "rx_bytes")
        }
        ksft_eq(grown, {"rx_packets": count, "rx_bytes": length})


def test_same_namespace() -> None:
    (ns,) = namespaces(1)
    primary, peer = pair(ns, ns)
    send(primary, True)
    counted(primary, tx_packets=len(LENGTHS), tx_bytes=sum(LENGTHS))
    ksft_eq(
        (peer.stats["rx_packets"], peer.stats["rx_bytes"]), (len(LENGTHS), sum(LENGTHS))
    )


def test_many() -> None:
    """What was sent on any of the processors is counted."""
    primary, peer = pair(*namespaces(2))
    count = 500
    processors = os.sched_getaffinity(0)
    defer(os.sched_setaffinity, 0, processors)
    with primary.packets() as packets:
        for processor in islice(cycle(processors), count):
            os.sched_setaffinity(0, {processor})
            packets.send(frame(peer.address))
    counted(primary, tx_packets=count, tx_bytes=60 * count)
    ksft_eq((peer.stats["rx_packets"], peer.stats["rx_bytes"]), (count, 60 * count))


@ksft_variants(["primary", "peer"])
def test_peer_down(side: str) -> None:
    """A drop of the sender's, and none of the receiver's.

    Without a carrier the core sends nothing, save what XDP sends back.
    """
    ports = pair(*namespaces(2))
    sender, receiver = ports if side == "primary" else ports[::-1]
    source = made(sender.ns, "source")
    bring = redirect(sender.link.index, INGRESS)
    Hook.of(source, AttachType.TCX_EGRESS).link(bring)
    send_back(sender)
    receiver.down()
    with source.packets() as packets:
        ksft_eq(packets.send(frame(BROADCAST)), True)
    ksft_busy_wait(lambda: sender.stats["tx_dropped"] > 0, deadline=30)
    counted(sender, tx_dropped=1)
    counted(receiver)


@ksft_variants(["primary", "peer"])
def test_policy_drop(side: str) -> None:
    primary, peer = pair(*namespaces(2), policy=Policy.DROP, peer_policy=Policy.DROP)
    sender, receiver = (primary, peer) if side == "primary" else (peer, primary)
    send(sender, False)
    counted(sender, tx_dropped=len(LENGTHS))
    counted(receiver)


@ksft_variants(MODES)
def test_single(mode: Mode) -> None:
    """There is no other end."""
    port = single(namespaces(1)[0], mode=mode)
    send(port, False)
    counted(port, tx_dropped=len(LENGTHS))


def test_runt() -> None:
    """Less than an Ethernet header, which only a redirect can bring here."""
    ns, other = namespaces(2)
    primary, peer = pair(ns, other)
    descriptor = bare_packets(ns, "nk0")
    os.write(descriptor, b"\x45".ljust(ETH_HLEN - 1, b"\0"))
    counted(primary, tx_dropped=1)
    counted(peer)
    os.write(descriptor, b"\x45".ljust(ETH_HLEN, b"\0"))
    counted(primary, tx_dropped=1, tx_packets=1, tx_bytes=ETH_HLEN)
    ksft_eq((peer.stats["rx_packets"], peer.stats["rx_bytes"]), (1, ETH_HLEN))


def burst(index: int, count: int) -> Program:
    """Sends copies of a packet to a device, all of them before one is received."""
    code = [insn.mov(Reg.R6, Reg.R1)]
    for _ in range(count):
        code += [
            insn.mov(Reg.R1, Reg.R6),
            insn.mov(Reg.R2, index),
            insn.mov(Reg.R3, 0),
            insn.call(Helper.CLONE_REDIRECT),
        ]
    return Program([*code, insn.mov(Reg.R0, Policy.PASS), insn.ret()])


@ksft_variants(
    [
        KsftNamedVariant(f"{hook.name}_{length}", *hook.params, length)
        for hook in HOOKS
        for length in (0, 1, 5)
    ]
)
def test_backlog_full(kind: AttachType, length: int) -> None:
    """What the receive path has no room for is a drop of the sender's, and the
    sender has not sent it."""
    each = way(kind)
    source = made(each.sender.ns, "source")
    Hook.of(source, AttachType.TCX_EGRESS).link(burst(each.sender.link.index, BURST))
    limit_backlog(length)
    room, data = length + 1, frame(each.receiver.address)
    with each.receiver.packets() as into, source.packets() as out:
        for turn in range(1, 4):
            ksft_eq(out.send(data), True)
            ksft_eq([into.receive().data for _ in range(room)], [data] * room)
            ksft_eq(into.empty(), True)
            counted(
                each.sender,
                tx_packets=turn * room,
                tx_bytes=turn * room * len(data),
                tx_dropped=turn * (BURST - room),
            )
            # The core's own drops count at the device that they were meant for.
            counted(
                each.receiver,
                rx_packets=turn * room,
                rx_bytes=turn * room * len(data),
                rx_dropped=turn * (BURST - room),
            )
            counted(source, tx_packets=turn, tx_bytes=turn * len(data))


def test_survive_down() -> None:
    """Counters are those of the device's whole life."""
    primary, peer = pair(*namespaces(2))
    send(primary, True)
    for port in (primary, peer):
        port.down()
        port.up()
    counted(primary, tx_packets=len(LENGTHS), tx_bytes=sum(LENGTHS))


def test_survive_move() -> None:
    ns, other, third = namespaces(3)
    primary, _ = pair(ns, other)
    send(primary, True)
    moved = primary.move(third)
    counted(moved, tx_packets=len(LENGTHS), tx_bytes=sum(LENGTHS))


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
