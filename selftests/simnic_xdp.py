#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
The simulated NIC itself: XDP programs on it, frames that others send by it, and
when it says that it has sent them.
"""

import select
import socket
import struct

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_gt, ksft_in, ksft_run
from lib.py import ksft_true, ksft_variants
from lib.py import AttachType, Hook, Nic, Port, ProgType, Program, cases, frame, insn
from lib.py import namespaces, redirecting, simnic, veth
from lib.py.insn import Reg

ABORTED, DROP, PASS, TX = range(4)
FRAMES = 3
LENGTH = 60
LONG = 5000
# From linux/net_tstamp.h and asm-generic/socket.h.
SO_TIMESTAMPING = 37
SOF_TIMESTAMPING_TX_SOFTWARE = 1 << 1
SOF_TIMESTAMPING_SOFTWARE = 1 << 4
TIMEOUT_MS = 30_000


def attach(port: Port, *code: bytes) -> None:
    program = Program([*code, insn.ret()], ProgType.XDP)
    Hook.of(port, AttachType.XDP).link(program)


def redirect(port: Port, to: Port) -> None:
    attach(port, *redirecting(to.link.index))


def ports() -> tuple[Nic, Nic]:
    return simnic(*namespaces(2))


def sent(nic: Nic) -> tuple[int, int]:
    """How many frames it has sent, and of how many XDP had it do so."""
    counters = nic.counters.items()
    by_xdp = sum(count for name, count in counters if name.endswith("_xdp"))
    return nic.stats["tx_packets"], by_xdp


def grown(counter: str, count: int) -> dict[str, int]:
    """What a queue counts that has had so many frames, and made this of them."""
    return {
        "rx0_packets": count,
        "rx0_bytes": count * LENGTH,
        counter: count,
    }


@ksft_variants(
    [
        KsftNamedVariant("aborted", ABORTED, "rx0_xdp_drop"),
        KsftNamedVariant("drop", DROP, "rx0_xdp_drop"),
        KsftNamedVariant("pass", PASS, "rx0_xdp_pass"),
        KsftNamedVariant("tx", TX, "rx0_xdp_tx"),
    ]
)
def test_verdict(value: int, counter: str) -> None:
    """Frames come to the stack, or back to who sent them, or nowhere."""
    nic, far = ports()
    attach(nic, insn.mov(Reg.R0, value))
    expected = grown(counter, FRAMES)
    if value == TX:
        expected |= {
            "tx0_packets": FRAMES,
            "tx0_bytes": FRAMES * LENGTH,
            "tx0_xdp": FRAMES,
        }
    with nic.packets() as arriving, far.packets() as returning:
        with nic.counting(**expected):
            for _ in range(FRAMES):
                returning.send(frame(nic.address))
        if value == PASS:
            ksft_eq(arriving.receive().data, frame(nic.address))
        else:
            ksft_true(arriving.empty())
        if value == TX:
            ksft_eq(returning.receive().data, frame(nic.address))
        else:
            ksft_true(returning.empty())


def test_redirect() -> None:
    """What it receives leaves by another device."""
    nic, far = ports()
    (third,) = namespaces(1)
    near, end = veth(nic.ns, third)
    # veth takes frames of XDP's if its other end can do something with them.
    attach(end, insn.mov(Reg.R0, PASS))
    redirect(nic, near)
    with far.packets() as out, end.packets() as into:
        with nic.counting(**grown("rx0_xdp_redirect", FRAMES)):
            for _ in range(FRAMES):
                out.send(frame(nic.address))
        for _ in range(FRAMES):
            ksft_eq(into.receive().data, frame(nic.address))


def test_redirected() -> None:
    """What another device has received leaves by it."""
    nic, far = ports()
    (third,) = namespaces(1)
    near, end = veth(nic.ns, third)
    redirect(near, nic)
    before = sent(nic)
    expected = before[0] + FRAMES, before[1] + FRAMES
    with end.packets() as out, far.packets() as into:
        for _ in range(FRAMES):
            out.send(frame(far.address))
        for _ in range(FRAMES):
            ksft_eq(into.receive().data, frame(far.address))
    ksft_eq(sent(nic), expected)


@ksft_variants([KsftNamedVariant("bare", False), KsftNamedVariant("program", True)])
def test_long(program: bool) -> None:
    """What is longer than a buffer no program sees, nor the stack if there is one."""
    nic, far = ports()
    far.ns.ip(f"link set {far.name} mtu {LONG}")
    if program:
        attach(nic, insn.mov(Reg.R0, PASS))
    data = frame(nic.address, length=LONG)
    expected = {"rx0_packets": 1, "rx0_bytes": LONG}
    expected["rx0_drops" if program else "rx0_csum_none"] = 1
    with nic.packets() as arriving, far.packets() as out:
        with nic.counting(**expected):
            out.send(data)
        if program:
            ksft_true(arriving.empty())
        else:
            ksft_eq(arriving.receive().data, data)


def test_timestamp() -> None:
    """Who sends learns when that was, as ethtool says it can."""
    nic, far = ports()
    nic.configure("192.0.2.1/24")
    far.configure("192.0.2.2/24")
    ksft_in("software-transmit", nic.ns.ethtool(f"-T {nic.name}"))
    flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
    with nic.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
        sock.sendto(b"", ("192.0.2.2", 9))
        poll = select.poll()
        poll.register(sock, 0)
        ksft_eq([event for _, event in poll.poll(TIMEOUT_MS)], [select.POLLERR])
        _, messages, *_ = sock.recvmsg(0, 256, socket.MSG_ERRQUEUE)
    stamps = [data for _, kind, data in messages if kind == SO_TIMESTAMPING]
    ksft_eq(len(stamps), 1)
    ksft_gt(struct.unpack_from("q", stamps[0])[0], 0)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
