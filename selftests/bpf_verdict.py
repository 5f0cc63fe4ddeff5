#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What becomes of a packet after programs: their answers, what they see of it
and what they change about it.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, Capture, ETH_HLEN, F, HOOKS_AND_MODES, Hook
from lib.py import MARK, Map, Mode, PRIORITY, Policy, ProgType, Program, Scrub, Way
from lib.py import bare_packets, cases, defer, frame, grown, insn, namespaces, pair
from lib.py import received, redirect, send_segments, sent, veth, way, ways
from lib.py.insn import Helper, Reg
from lib.py.packet import ETH_P_IP, ETH_P_TEST

INT_MAX = (1 << 31) - 1
LENGTH = 60
SEGMENT, SEGMENTS = 1000, 10
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


def send(each: Way, data: bytes | None = None) -> tuple[bool, list[bytes]]:
    """Whether the device took a frame, and what came out of the other."""
    data = frame(each.receiver.address) if data is None else data
    with each.sender.packets() as out, each.receiver.packets() as into:
        before = each.receiver.stats["rx_packets"]
        taken = out.send(data)
        # Counted when it is on the queue that leads to the socket.
        count = each.receiver.stats["rx_packets"] - before
        return taken, [into.receive().data for _ in range(count)]


def passes(each: Way) -> bool:
    taken, came = send(each)
    ksft_eq(came, [frame(each.receiver.address)] if taken else [])
    return taken


def fate(value: int) -> tuple[dict[str, int], dict[str, int]]:
    """What an answer makes of one packet, as counters of both ends grow."""
    if value in (Policy.NEXT, Policy.PASS):
        return sent(), received()
    if value == Policy.REDIRECT:
        # To nowhere, as no program said where; the sender is not told.
        return sent(), {}
    return {"tx_dropped": 1}, {}


def decides(each: Way, value: int) -> None:
    """Checks what becomes of a packet for which a program returns this."""
    there, here = fate(value)
    link = each.hook.link(insn.verdict(value))
    with grown(sender=(each.sender, there), receiver=(each.receiver, here)):
        taken, came = send(each)
    link.close()
    ksft_eq(taken, "tx_dropped" not in there, str(value))
    ksft_eq(came, [frame(each.receiver.address)] if here else [], str(value))


@ksft_variants(
    [
        KsftNamedVariant(f"{case.name}_{value.name}", *case.params, value)
        for case in HOOKS_AND_MODES
        for value in Policy
    ]
)
def test_value(kind: AttachType, mode: Mode, value: Policy) -> None:
    decides(way(kind, mode=mode), value)


@ksft_variants(HOOKS_AND_MODES)
def test_unknown_value(kind: AttachType, mode: Mode) -> None:
    """Whatever is not known is a drop, which the sender is told."""
    each = way(kind, mode=mode)
    for value in (1, 3, 4, 5, 6, 8, 255, 256, 1 << 16, INT_MAX, -2, -INT_MAX - 1):
        decides(each, value)


@ksft_variants(
    [
        KsftNamedVariant("pass", 0, True),
        KsftNamedVariant("drop", Policy.DROP, False),
        KsftNamedVariant("next", 0xFFFFFFFF, True),
    ]
)
def test_wide_value(value: int, expected: bool) -> None:
    """Only the lower 32 bits of what a program returns count."""
    each = way()
    code = [
        insn.mov(Reg.R0, 1),
        insn.shift_left(Reg.R0, 40),
        insn.mov32(Reg.R2, value),
        insn.add(Reg.R0, Reg.R2),
        insn.ret(),
    ]
    each.hook.attach(Program(code))
    ksft_eq(passes(each), expected)


@ksft_variants(
    [
        KsftNamedVariant(f"{case.name}_{policy.name}", *case.params, policy)
        for case in HOOKS_AND_MODES
        for policy in (Policy.PASS, Policy.DROP)
    ]
)
def test_policy(kind: AttachType, mode: Mode, policy: Policy) -> None:
    """It is for a device without programs: what they leave undecided passes."""
    names = {AttachType.PRIMARY: "policy", AttachType.PEER: "peer_policy"}
    other = AttachType.PRIMARY + AttachType.PEER - kind
    primary, peer = pair(*namespaces(2), mode=mode, **{names[kind]: policy})
    each, back = ways(primary, peer)[kind], ways(primary, peer)[AttachType(other)]
    ksft_eq((passes(each), passes(back)), (policy == Policy.PASS, True))
    for value in (Policy.NEXT, Policy.PASS, Policy.DROP):
        link = each.hook.link(insn.verdict(value))
        expected = value != Policy.DROP
        ksft_eq((passes(each), passes(back)), (expected, True), value.name)
        # Nor does a new policy matter while there is a program.
        for changed in (Policy.PASS, Policy.DROP, policy):
            primary.change(**{names[kind]: changed})
            ksft_eq(passes(each), expected, value.name)
        link.close()
        ksft_eq((passes(each), passes(back)), (policy == Policy.PASS, True), value.name)


@ksft_variants(
    [
        KsftNamedVariant("next_next", [-1, -1], 2, True),
        KsftNamedVariant("next_pass_drop", [-1, 0, 2], 2, True),
        KsftNamedVariant("next_drop_pass", [-1, 2, 0], 2, False),
        KsftNamedVariant("drop_pass", [2, 0], 1, False),
        KsftNamedVariant("pass_drop", [0, 2], 1, True),
        KsftNamedVariant("unknown_pass", [-1, 3, 0], 2, False),
        KsftNamedVariant("redirect_pass", [-1, -1, 7, 0], 3, True),
        KsftNamedVariant("many_drop", [-1] * 40 + [2, -1], 41, False),
    ]
)
def test_chain(answers: list[int], ran: int, taken: bool) -> None:
    """Up to the first that does not answer next."""
    each = way()
    trace = insn.Trace()
    for number, value in enumerate(answers):
        each.hook.attach(trace.program(number, value))
    ksft_eq(send(each)[0], taken)
    ksft_eq(trace.take(), list(range(ran)))


def test_directions() -> None:
    """One hook sees what the primary sends, the other what the peer does."""
    primary, peer = pair(*namespaces(2))
    both = ways(primary, peer)
    seen = {kind: Map() for kind in both}
    for kind, each in both.items():
        each.hook.attach(insn.counter(seen[kind], -1))
    for _ in range(3):
        passes(both[AttachType.PRIMARY])
    for _ in range(5):
        passes(both[AttachType.PEER])
    ksft_eq([made[0] for made in seen.values()], [3, 5])


def test_same_namespace() -> None:
    """Programs run there, too."""
    (ns,) = namespaces(1)
    for each in ways(*pair(ns, ns)).values():
        made = Map()
        each.hook.attach(insn.counter(made, Policy.DROP))
        ksft_eq((passes(each), made[0]), (False, 1))


def test_fields() -> None:
    """A program sees the whole frame, on the device that it is going to reach."""
    each = way()
    expected = (
        ("length", insn.SKB_LEN, 200),
        ("type", insn.SKB_PKT_TYPE, socket.PACKET_HOST),
        ("protocol", insn.SKB_PROTOCOL, socket.htons(ETH_P_TEST)),
        ("index", insn.SKB_IFINDEX, each.receiver.link.index),
        ("ingress_index", insn.SKB_INGRESS_IFINDEX, 0),
    )
    told = {name: Map() for name, _, _ in expected}
    for name, field, _ in expected:
        told[name][0] = 0xDEAD
        each.hook.attach(insn.reporter(told[name], field, -1))
    send(each, frame(each.receiver.address, length=200))
    ksft_eq(
        {name: made[0] for name, made in told.items()},
        {name: value for name, _, value in expected},
    )


@ksft_variants(
    [
        KsftNamedVariant(f"{scrub.name}_{count}ns", scrub, count)
        for scrub in Scrub
        for count in (1, 2)
    ]
)
def test_scrub(scrub: Scrub, count: int) -> None:
    """Programs come after the scrubbing: they see what is left, and their own
    marks stay."""
    each = way(count=count, scrub=scrub)
    mark, priority = Map(), Map()
    each.hook.attach(insn.reporter(mark, insn.SKB_MARK, -1))
    each.hook.attach(insn.reporter(priority, insn.SKB_PRIORITY, -1))
    code = [
        insn.mov(Reg.R2, 77),
        insn.store32(Reg.R1, insn.SKB_MARK, Reg.R2),
        insn.mov(Reg.R2, 3),
        insn.store32(Reg.R1, insn.SKB_PRIORITY, Reg.R2),
        insn.mov(Reg.R0, 0),
        insn.ret(),
    ]
    each.hook.attach(Program(code))
    with each.sender.packets() as out, each.receiver.packets() as into:
        out.setsockopt(socket.SO_MARK, MARK)
        out.setsockopt(socket.SO_PRIORITY, PRIORITY)
        out.send(frame(each.receiver.address))
        came = into.receive()
    scrubbed = count == 2 and scrub == Scrub.DEFAULT
    ksft_eq((mark[0], priority[0]), (0, 0) if scrubbed else (MARK, PRIORITY))
    ksft_eq((came.mark, came.priority), (77, 3))


def test_run_statistics() -> None:
    each = way()
    program = insn.verdict(0)
    each.hook.attach(program)
    passes(each)
    ksft_eq(program.runs, 0)
    before = STATS.read_text(encoding="ascii")
    defer(STATS.write_text, before, encoding="ascii")
    STATS.write_text("1", encoding="ascii")
    for _ in range(7):
        passes(each)
    ksft_eq(program.runs, 7)


@ksft_variants(
    [
        KsftNamedVariant("filled", 0, True),
        KsftNamedVariant("empty", 1, False),
        KsftNamedVariant("outside", 2, False),
    ]
)
def test_tail_call(slot: int, taken: bool) -> None:
    """The program called decides, or the caller if there is none."""
    each = way()
    called, made = Map(), Map(2, Map.PROG_ARRAY)
    made[0] = insn.counter(called, 0).fd
    code = [
        insn.map_fd(Reg.R2, made),
        insn.mov(Reg.R3, slot),
        insn.call(Helper.TAIL_CALL),
        insn.mov(Reg.R0, Policy.DROP),
        insn.ret(),
    ]
    each.hook.attach(Program(code))
    ksft_eq((passes(each), called[0]), (taken, int(taken)))
    # A slot that is filled while the program is attached.
    made[1] = insn.counter(called, 0).fd
    ksft_eq(passes(each), slot < 2)


def test_direct_access() -> None:
    """The packet starts with its header; beyond its end nothing is read."""
    each = way()
    first, last = Map(), Map()
    code = [
        insn.load32(Reg.R2, Reg.R1, insn.SKB_DATA),
        insn.load32(Reg.R3, Reg.R1, insn.SKB_DATA_END),
        insn.mov(Reg.R4, Reg.R2),
        insn.add(Reg.R4, 100),
        insn.jump_gt(Reg.R4, Reg.R3, 10),
        insn.load8(Reg.R5, Reg.R2, 0),
        insn.load8(Reg.R6, Reg.R2, 99),
        insn.map_value(Reg.R7, first),
        insn.store64(Reg.R7, 0, Reg.R5),
        insn.map_value(Reg.R7, last),
        insn.store64(Reg.R7, 0, Reg.R6),
        insn.mov(Reg.R0, 0),
        insn.ret(),
        insn.mov(Reg.R0, Policy.DROP),
        insn.ret(),
    ]
    each.hook.attach(Program(code))
    address = each.receiver.address
    data = frame(address, bytes(range(256)), 1000)
    for length, taken in ((14, False), (99, False), (100, True), (1000, True)):
        first[0] = last[0] = 0xDEAD
        ksft_eq(send(each, data[:length])[0], taken, str(length))
        ksft_eq(
            (first[0], last[0]),
            (data[0], data[99]) if taken else (0xDEAD, 0xDEAD),
            str(length),
        )


def changing(helper: Helper, size: int, value: int = 0) -> Program:
    """A program whose helper may fail, upon which it drops."""
    return Program(
        [
            insn.mov(Reg.R2, size),
            insn.mov(Reg.R3, 0),
            insn.call(helper),
            insn.jump_ne(Reg.R0, 0, 2),
            insn.mov(Reg.R0, value),
            insn.ret(),
            insn.mov(Reg.R0, Policy.DROP),
            insn.ret(),
        ]
    )


def test_change_tail() -> None:
    """Cut, or padded with zeros; both ends count the length that was sent."""
    each = way()
    data = frame(each.receiver.address, b"\xaa" * LENGTH)
    length = len(data)
    for size in (ETH_HLEN, 40, 59, 60, 61, 200, 3000):
        link = each.hook.link(changing(Helper.CHANGE_TAIL, size))
        with grown(
            sender=(each.sender, sent(length=length)),
            receiver=(each.receiver, received(length=length)),
        ):
            expected = data[:size].ljust(size, b"\0")
            ksft_eq(send(each, data), (True, [expected]), str(size))
        link.close()


def test_change_tail_refused() -> None:
    """No packet is cut to less than an Ethernet header."""
    each = way()
    each.hook.attach(changing(Helper.CHANGE_TAIL, ETH_HLEN - 1))
    ksft_eq(send(each), (False, []))


def test_runt() -> None:
    """Unless it had none before."""
    each = way()
    length = Map()
    each.hook.attach(insn.reporter(length, insn.SKB_LEN, -1))
    descriptor = bare_packets(each.sender.ns, each.sender.name)
    for size in (0, 1, ETH_HLEN - 1, ETH_HLEN):
        link = each.hook.link(changing(Helper.CHANGE_TAIL, size, -1), F.BEFORE)
        with grown(sender=(each.sender, sent()), receiver=(each.receiver, received())):
            # Of IPv4, and so little of it that nobody finds out where its header ends.
            os.write(descriptor, b"\x40".ljust(LENGTH, b"\xaa"))
        ksft_eq(length[0], size)
        # What follows is none the worse.
        link.close()
        ksft_eq((passes(each), length[0]), (True, LENGTH))


def test_change_head() -> None:
    """What is put in front is taken for the header, and room is made for it."""
    each = way()
    data = frame(each.receiver.address, b"\xaa" * LENGTH)
    for room in (1, ETH_HLEN, 128, 1000):
        link = each.hook.link(changing(Helper.CHANGE_HEAD, room))
        ksft_eq(send(each, data), (True, [bytes(room) + data]), str(room))
        link.close()


def test_change_both() -> None:
    """By several programs, of which each sees what the others did."""
    each = way()
    lengths = [Map() for _ in range(3)]
    for made, (helper, size) in zip(
        lengths,
        ((Helper.CHANGE_HEAD, 20), (Helper.CHANGE_TAIL, 50), (Helper.CHANGE_HEAD, 4)),
        strict=True,
    ):
        each.hook.attach(insn.reporter(made, insn.SKB_LEN, -1))
        code = [
            insn.mov(Reg.R2, size),
            insn.mov(Reg.R3, 0),
            insn.call(helper),
            insn.mov(Reg.R0, -1),
            insn.ret(),
        ]
        each.hook.attach(Program(code))
    data = frame(each.receiver.address, b"\xaa" * LENGTH)
    ksft_eq(send(each, data), (True, [bytes(24) + data[:30]]))
    ksft_eq([made[0] for made in lengths], [LENGTH + 14, LENGTH + 34, 50])


def segmented(change: Callable[[Hook], None]) -> list[tuple[int, int, int]]:
    """What arrives of a packet of many segments: kind, size of these, length."""
    each = way()
    each.sender.configure("192.0.2.1/24")
    each.receiver.configure("192.0.2.2/24")
    change(each.hook)
    with (
        Capture(each.receiver.ns.name, each.receiver.name, ETH_P_IP) as capture,
        each.sender.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(("192.0.2.2", 7000))
        send_segments(client, SEGMENT, SEGMENTS)
        return [(one.gso_type, one.gso_size, one.length) for one in capture.frames()]


def test_gso() -> None:
    """A packet of many segments is one to a program."""
    made = [Map() for _ in range(3)]
    length = ETH_HLEN + 20 + 8 + SEGMENT * SEGMENTS

    def attach(hook: Hook) -> None:
        for one, field in zip(
            made, (insn.SKB_LEN, insn.SKB_GSO_SEGS, insn.SKB_GSO_SIZE), strict=True
        ):
            hook.attach(insn.reporter(one, field, -1))

    ksft_eq(segmented(attach), [(5, SEGMENT, length)])
    ksft_eq([one[0] for one in made], [length, SEGMENTS, SEGMENT])


def test_gso_cut() -> None:
    """Cut to the length of one it is one."""
    ksft_eq(
        segmented(lambda hook: hook.attach(changing(Helper.CHANGE_TAIL, 500))),
        [(0, 0, 500)],
    )


def test_down_peer() -> None:
    """Without the other end no program runs.

    The driver does see the packet: generic XDP calls the transmit function of
    the device that it redirects to, and does not look at the carrier.  Other
    packets the core drops for lack of one.
    """
    each = way()
    runs = Map()
    each.hook.attach(insn.counter(runs, Policy.PASS))
    near, far = veth(each.sender.ns, namespaces(1)[0])
    program = redirect(each.sender.link.index, kind=ProgType.XDP)
    Hook.of(near, AttachType.XDP).link(program, F.XDP_GENERIC)
    data = frame(each.receiver.address)
    each.receiver.down()
    with far.packets() as out:
        with grown(
            near=(near, received()),
            sender=(each.sender, {"tx_dropped": 1}),
            receiver=(each.receiver, {}),
        ):
            out.send(data)
        ksft_eq(runs[0], 0)
        each.receiver.up()
        each.sender.wait_operational()
        with each.receiver.packets() as into:
            out.send(data)
            ksft_eq((into.receive().data, runs[0]), (data, 1))


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
