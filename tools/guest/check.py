#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs tests inside the guest, one after the other, as TAP with each test's own results nested.

Several guests may share a directory on the host, and take the tests of one list as they come to it. Each test's counts are
written to a file there, so that a guest which dies half-way loses nothing.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import NamedTuple, TextIO

from complaints import KernelLog, blind, leaks
from counts import BpfCounts, Counts
from runners import Runner
from shared import Shared

SELFTESTS = Path(os.environ["NETKIT_TREE"]) / "tools/testing/selftests"
OURS = "drivers/net/netkit/"
TOOLS = Path(__file__).parent.parent
BPF_TEST = re.compile(r"^bpf/prog_tests/(\w+)\.c$")
DEBUG = os.environ["NETKIT_PROFILE"] == "debug"
HUNG_TASK = Path("/proc/sys/kernel/hung_task_timeout_secs")
SECOND_CPU = Path("/sys/devices/system/cpu/cpu1/online")
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")


class Upstream(NamedTuple):
    """What tools/upstream.tests says of a test."""

    results: int
    # Cases that are left out.
    without: list[str]


def upstream_tests(listed: Path) -> dict[str, Upstream]:
    """Reads the list of upstream's tests."""
    tests = {}
    for line in listed.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, results, *words = line.split()
        without = [
            case
            for word in words
            if DEBUG and word.startswith("without=")
            for case in word.removeprefix("without=").split(",")
        ]
        tests[name] = Upstream(int(results) - len(without), without)
    return tests


def adapt() -> None:
    """Makes the guest fit for emulation.

    Saves what no test looks at, and what takes most of the time: tunnel devices in each new namespace, and grace periods of
    RCU that wait for a tick.
    """
    Path("/proc/sys/net/core/fb_tunnels_only_for_init_net").write_text("2")
    Path("/sys/kernel/rcu_expedited").write_text("1")
    # Upstream's tests of large buffers want 64 for two buffers, and have up to six in a row; what one had, page_pool gives back
    # a second later. Reserved now, while memory is in one piece: nothing puts it together again later.
    HUGE_PAGES.write_text("192")
    # Under emulation, a debug kernel holds the RTNL for minutes while it deletes a thousand pairs, and who waits hangs not.
    if HUNG_TASK.exists():
        HUNG_TASK.write_text("900")


def second_processor(online: bool) -> None:
    """Takes the second processor away or gives it back, where there is one."""
    if SECOND_CPU.exists() and SECOND_CPU.read_text() != f"{online:d}\n":
        SECOND_CPU.write_text(f"{online:d}")


class Session:
    """The tests that this guest takes."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.shared = Shared(args.shared, args.guest)
        self.upstream = upstream_tests(TOOLS / "upstream.tests")
        self.kernel = KernelLog(TOOLS / "splats")
        self.total_failed = 0
        self.log: TextIO | None = None

    def say(self, line: str) -> None:
        """Shows a line, and keeps it."""
        print("#", line, flush=True)
        if self.log:
            print(line, file=self.log, flush=True)

    def outside(self, name: str, problems: Iterable[str]) -> None:
        """Tells of what went wrong outside of any test."""
        counts = Counts()
        for text in problems:
            self.say(text)
            counts.fail(text)
        if counts.failed:
            print(f"not ok {name}", flush=True)
            self.shared.record(0, name, counts)
            self.total_failed += counts.failed

    def execute(self, name: str, counts: Counts) -> str | None:
        """Runs a test, and says what went wrong besides its own results."""
        runner = Runner(counts, self.say, self.args.timeout)
        if name == "kunit":
            return runner.kunit()
        if bpf := BPF_TEST.match(name):
            # Without a limit of its own, which emulated guests exceed.
            return runner.program(
                self.args.bpf / "test_progs", "-a", f"{bpf[1]}*", "-w", "0"
            )
        if name.startswith(OURS):
            return runner.python(SELFTESTS / name)
        if name.startswith("tools/"):
            return runner.python(TOOLS.parent / name)
        arguments = [
            word for case in self.upstream[name].without for word in ("-T", case)
        ]
        if name.startswith("drivers/net/"):
            return runner.on_hardware(self.args.net / name, *arguments)
        return runner.upstream(SELFTESTS / name, *arguments)

    def judge(self, name: str, counts: Counts) -> Iterable[str]:
        """Yields what is wrong with a test, as far as its lines do not say it."""
        problem = self.execute(name, counts)
        if problem:
            yield problem
        elif name in self.upstream and counts.printed != (
            wanted := self.upstream[name].results
        ):
            yield f"printed {counts.printed} results, not {wanted} as upstream.tests says"
        if counts.skipped > counts.spared:
            yield "skipped something, which counts as a failure here"
        splats = list(self.kernel.splats(self.say))
        # What fails for want of a patch may be what the kernel complains about.
        if not counts.wanting:
            yield from splats

    def run(self, number: int, name: str) -> None:
        """Runs a test from begin to end."""
        begin = monotonic()
        counts = BpfCounts() if BPF_TEST.match(name) else Counts()
        with self.shared.log(number, name).open("w", encoding="utf-8") as self.log:
            self.say(name)
            second_processor(not self.args.parallel or name in self.args.parallel)
            for text in self.judge(name, counts):
                self.say(text)
                counts.fail(text)
        self.log = None
        self.total_failed += counts.failed
        seconds = monotonic() - begin
        self.shared.record(number, name, counts, seconds)
        verdict = "not ok" if counts.failed else "ok"
        skip = "" if counts.passed or counts.failed else " # SKIP"
        print(f"{verdict} {number} {name}{skip} # {seconds:.0f} s", flush=True)

    def all(self) -> None:
        """Runs what there is."""
        self.outside("boot", self.kernel.splats(self.say))
        for number, name in self.shared.tests(self.args.tests, self.args.parallel):
            self.run(number, name)
            if self.args.until_failure and self.shared.failed:
                break
        # What is to fail leaves its traces.
        if os.environ.get("NETKIT_NEEDS") != "fail":
            self.outside(
                "guest", chain(leaks(self.say), blind(), self.kernel.splats(self.say))
            )
        self.shared.end()


def main() -> int:
    """Runs the tests named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=int, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--guest", type=int, required=True)
    parser.add_argument(
        "--bpf", type=Path, help="the directory of upstream's test_progs"
    )
    parser.add_argument(
        "--net", type=Path, help="upstream's selftests, with the programs for NICs"
    )
    parser.add_argument(
        "--parallel",
        type=lambda names: names.split(","),
        default=[],
        help="the only tests that need a second processor; all by default",
    )
    parser.add_argument(
        "--until-failure", action="store_true", help="end with the first one, anywhere"
    )
    parser.add_argument("tests", nargs="+")
    args = parser.parse_args()

    adapt()
    session = Session(args)
    session.all()
    return 1 if session.total_failed else 0


if __name__ == "__main__":
    sys.exit(main())
