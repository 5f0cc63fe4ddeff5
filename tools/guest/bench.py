#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measures, in a guest on whose one CPU a nanosecond is an instruction, what a packet costs on its way.

pktgen hands each packet of 64 bytes to the device that transmits; it is as long under way as until pktgen can hand over
the next one. That includes pktgen's own work and the timer's, and the receiving side up to where IP finds that the packet
is addressed to somebody else, since the same CPU does this in between. Nothing is subtracted.

Prints "row <tab> median <tab> least <tab> greatest" of several runs for each row, or "row <tab> error <tab> what went wrong".
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

SELFTESTS = Path(os.environ["NETKIT_TREE"]) / "tools/testing/selftests"
sys.path.append(str(SELFTESTS / "drivers/net/netkit"))

from lib.py import Mode, Namespace, NetNSEnter, Policy, namespaces, pair
from lib.py.bpf import Hook, Program
from lib.py.insn import Helper, Reg, call, mov, ret, verdict
from net.lib.py import utils
from net.lib.py.ksft import ksft_flush_defer

PACKETS = 5000
RUNS = 9
# Seconds after which a run ends that pktgen would never end by itself, since none of its packets is accepted.
LIMIT = 0.5
BPF_MPROG_MAX = 64
PKTGEN = Path("/proc/net/pktgen")
RESULT = re.compile(
    r"^Result: OK: (\d+)\(c\d+\+d\d+\) usec, (\d+) .*\n.* errors: (\d+)$", re.MULTILINE
)


class Unfit(Exception):
    """A run that did not measure what it was to measure."""


@dataclass(frozen=True)
class Way:
    """The device that transmits, and the counter from which one sees where its packets end."""

    ns: Namespace
    device: str
    end: tuple[Namespace, str, str]
    accepted: bool = True

    def arrived(self) -> int:
        """Reads that counter."""
        ns, device, counter = self.end
        return ns.rtnl.getlink(device).stats[counter]

    def run(self) -> float:
        """Sends packets once and returns nanoseconds for each."""
        before = self.arrived()
        with NetNSEnter(self.ns.name):
            microseconds, sent, errors = pktgen(
                self.device, PACKETS if self.accepted else 0
            )
        wanted = (PACKETS, 0) if self.accepted else (0, max(errors, PACKETS))
        if (sent, errors) != wanted:
            raise Unfit(f"{sent} packets were accepted and {errors} refused")
        if (arrived := self.arrived() - before) != sent + errors:
            raise Unfit(f"{self.end[2]} of {sent + errors} packets is {arrived}")
        return microseconds * 1000 / (sent + errors)


def pktgen(device: str, count: int) -> tuple[int, ...]:
    """Sends so many packets, or as many as the limit allows; returns microseconds, packets accepted and refused."""
    thread, settings = PKTGEN / "kpktgend_0", PKTGEN / device
    thread.write_text(f"add_device {device}")
    for setting in (
        f"count {count}",
        "pkt_size 64",
        "clone_skb 0",
        "burst 1",
        "delay 0",
        "xmit_mode start_xmit",
    ):
        settings.write_text(setting)
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    (PKTGEN / "pgctrl").write_text("start")
    signal.setitimer(signal.ITIMER_REAL, 0)
    while not (result := RESULT.search(settings.read_text())):
        pass
    thread.write_text("rem_device_all")
    return tuple(map(int, result.groups()))


ROWS: dict[str, Callable[[], Way]] = {}


def row(name: str, _title: str) -> Callable[[Callable[[], Way]], Callable[[], Way]]:
    """Adds a row. tools/bench reads name and title from this file."""

    def add(prepare: Callable[[], Way]) -> Callable[[], Way]:
        ROWS[name] = prepare
        return prepare

    return add


@row("dummy", "dummy: what pktgen itself costs")
def _() -> Way:
    (ns,) = namespaces(1)
    ns.ip("link add d0 up type dummy")
    return Way(ns, "d0", (ns, "d0", "tx_packets"))


@row("veth", "veth into another namespace")
def _() -> Way:
    near, far = namespaces(2)
    near.ip(f"link add v0 up type veth peer name v1 netns {far}")
    far.ip("link set v1 up")
    return Way(near, "v0", (far, "v1", "rx_packets"))


def netkit(programs: int = 0, apart: bool = True) -> Way:
    """A pair, across namespaces or not, with so many programs, the last of which decides."""
    spaces = namespaces(2 if apart else 1)
    near, far = spaces[0], spaces[-1]
    nk0, nk1 = pair(near, far, mode=Mode.L2)
    for number in range(programs, 0, -1):
        Hook.of(nk0).attach(verdict(Policy.NEXT if number > 1 else Policy.PASS))
    return Way(near, nk0.name, (far, nk1.name, "rx_packets"))


inside = partial(netkit, apart=False)
row("same-ns", "netkit within one namespace")(inside)
row("same-1", "the same through 1 program")(partial(inside, 1))
row("same-4", "the same through 4 programs")(partial(inside, 4))
row("same-63", "the same through 63 programs")(partial(inside, BPF_MPROG_MAX - 1))
row("pass", "netkit into another namespace")(netkit)
row("bpf-1", "the same through 1 program")(partial(netkit, 1))
row("bpf-4", "the same through 4 programs")(partial(netkit, 4))
row("bpf-63", "the same through 63 programs")(partial(netkit, BPF_MPROG_MAX - 1))


@row("redirect", "netkit with a program that redirects to a dummy")
def _() -> Way:
    near, far = namespaces(2)
    far.ip("link add d0 up type dummy")
    nk0, _nk1 = pair(near, far, mode=Mode.L2)
    code = [
        mov(Reg.R1, far.rtnl.getlink("d0").index),
        mov(Reg.R2, 0),
        call(Helper.REDIRECT),
        ret(),
    ]
    Hook.of(nk0).attach(Program(code))
    return Way(near, nk0.name, (far, "d0", "tx_packets"))


@row("drop", "netkit whose policy is to drop")
def _() -> Way:
    near, far = namespaces(2)
    nk0, _nk1 = pair(near, far, mode=Mode.L2, policy=Policy.DROP)
    return Way(near, nk0.name, (near, nk0.name, "tx_dropped"), accepted=False)


def main() -> int:
    """Measures the rows named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="+", choices=ROWS)
    status = 0
    # While the guest waits for the machine outside, its clock leaps from timer to timer. What it has read once is in its
    # memory, and does not run into the limits that the selftests' library has for every command.
    subprocess.run(["ip", "-V"], check=True, stdout=subprocess.DEVNULL)
    # What the selftests' library makes, it removes at the end of a test.
    utils.GLOBAL_DEFER_ARMED = True
    for name in parser.parse_args().rows:
        try:
            way = ROWS[name]()
            runs = [way.run() for _ in range(RUNS)]
            print(
                name,
                *(f"{n:.1f}" for n in (median(runs), min(runs), max(runs))),
                sep="\t",
                flush=True,
            )
        except (OSError, Unfit) as problem:
            print(f"{name}\terror\t{problem}", flush=True)
            status = 1
        finally:
            ksft_flush_defer()
    return status


if __name__ == "__main__":
    sys.exit(main())
