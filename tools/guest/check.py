#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs tests inside the guest, one after the other, as TAP with each test's own results nested.

Several guests may share a directory on the host, and take the tests of one list as they come to it. Each test's counts are
appended to a file there, so that a guest which dies half-way loses nothing.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import monotonic, sleep

from simnic import simnic

SKIP_STATUS = 4
# What a report of the kernel takes, about.
REPORT_LINES = 60
REPORT_SECONDS = 2
RESULT = re.compile(r"^(not ok|ok) (\d+)(?: |$)(.*)")
PLAN = re.compile(r"^1\.\.(\d+)(.*)")
BPF_TEST = re.compile(r"^bpf/prog_tests/(\w+)\.c$")
BPF_RESULT = re.compile(
    r"^#(\d+)(/\d+)? +\S.*?:(OK|SKIP|FAIL)( \(not built\))?(?: \(.*\))?$"
)
BPF_SUMMARY = re.compile(
    r"^Summary: (\d+)/(\d+) PASSED, (\d+) SKIPPED(?: \(.*\))?, (\d+)/(\d+) FAILED$"
)
KUNIT = Path("/sys/kernel/debug/kunit")
KUNIT_OURS = re.compile(r"^(netkit|rust_)")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
# kmemleak spares what is younger than five seconds.
KMEMLEAK_AGE = 6
# How the tests begin the reason when they skip what is a bug of the C driver. All else that one may want is here.
SPARED = re.compile(r"# SKIP C driver: ")
IMPL_C = os.environ["NETKIT_IMPL"] == "c"
# What a test that has exceeded its time gets to clean up after itself.
GRACE_SECONDS = 30
LOCKDEP = Path("/proc/lockdep_stats")
HUNG_TASK = Path("/proc/sys/kernel/hung_task_timeout_secs")
SECOND_CPU = Path("/sys/devices/system/cpu/cpu1/online")
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")
# Upstream's tests have limits, and pauses for what the kernel does beside, that an emulated guest cannot meet, however right it
# is. Their clocks go so much slower, and what waits for a time waits so much longer.
CLOCK = {
    "LD_PRELOAD": "/usr/$LIB/faketime/libfaketimeMT.so.1",
    "FAKETIME": "+0 x0.1" if os.environ["NETKIT_PROFILE"] == "debug" else "+0 x0.3",
    "FAKETIME_DISABLE_SHM": "1",
}


@dataclass
class Counts:
    """What a test's own lines say."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    spared: int = 0
    planned: int | None = None

    def add(self, line: str) -> None:
        """Counts one line of output."""
        if plan := PLAN.match(line):
            self.planned = int(plan[1])
            if self.planned == 0 and "# SKIP" in plan[2].upper():
                self.planned = self.skipped = 1
        elif result := RESULT.match(line):
            directive = result[3].upper()
            if result[1] == "not ok" and "# XFAIL" not in directive:
                self.failed += 1
            elif "# SKIP" in directive or "# XFAIL" in directive:
                self.skipped += 1
                self.spared += IMPL_C and bool(SPARED.search(result[3]))
            else:
                self.passed += 1

    @property
    def printed(self) -> int:
        """How many results there were."""
        return self.passed + self.failed + self.skipped

    def mismatch(self) -> str | None:
        """Says in what the lines are no complete TAP."""
        if self.planned is None:
            return "printed no plan"
        if self.planned == 0:
            return "ran nothing"
        if self.planned != self.printed:
            return f"planned {self.planned} results, printed {self.printed}"
        return None


class BpfCounts(Counts):
    """The same for upstream's test_progs, whose lines are no TAP.

    A test's line follows those of its subtests; it counts where there are none, or where it failed outside of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tests: Counter[str] = Counter()
        self.subtests: Counter[str] = Counter()
        self.verdicts: set[str] = set()
        self.repeated = False
        self.summary: tuple[int, ...] | None = None

    def add(self, line: str) -> None:
        """Counts one line of output."""
        if line.startswith("All error logs:"):
            self.repeated = True
        elif summary := BPF_SUMMARY.match(line):
            self.summary = tuple(map(int, summary.groups()))
        elif not self.repeated and (result := BPF_RESULT.match(line)):
            # What the build left out was not skipped for a reason of its own.
            verdict = "FAIL" if result[4] else result[3]
            if result[2]:
                self.subtests[verdict] += 1
                self.verdicts.add(verdict)
                self.count(verdict)
            else:
                self.tests[verdict] += 1
                if not self.verdicts or (
                    verdict == "FAIL" and "FAIL" not in self.verdicts
                ):
                    self.count(verdict)
                self.verdicts.clear()

    def count(self, verdict: str) -> None:
        """Counts one result."""
        self.passed += verdict == "OK"
        self.failed += verdict == "FAIL"
        self.skipped += verdict == "SKIP"

    def mismatch(self) -> str | None:
        """Says in what the lines are not those that the last one sums up."""
        if self.summary is None:
            return "printed no summary"
        if not self.tests:
            return "ran nothing"
        printed = (
            self.tests["OK"] + self.tests["SKIP"],
            self.subtests["OK"],
            self.skipped,
            self.tests["FAIL"],
            self.subtests["FAIL"],
        )
        if self.summary != printed:
            return f"summed up {self.summary}, printed {printed}"
        return None


class KernelLog:
    """What the kernel complained about since one last asked."""

    def __init__(self, patterns: Path) -> None:
        self.splat = re.compile("|".join(patterns.read_text().splitlines()))
        self.log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)

    def messages(self) -> Iterator[str]:
        """Yields what was logged."""
        while True:
            try:
                record = os.read(self.log, 8192).decode(errors="replace")
            except BlockingIOError:
                return
            except BrokenPipeError:
                yield "BUG: messages were lost here: the test made too many"
                continue
            yield record.partition(";")[2].splitlines()[0]

    def splats(self) -> Iterator[str]:
        """Yields the first lines of new complaints, and shows what the kernel reports with them."""
        more, reported = 0, True
        while reported:
            reported = False
            for message in self.messages():
                if self.splat.search(message):
                    yield message
                    more = REPORT_LINES
                if more:
                    print(f"# kernel: {message}", flush=True)
                    more -= 1
                    reported = True
            if reported:
                # Another processor may be at its report still.
                sleep(REPORT_SECONDS)


def run_program(
    program: Path,
    arguments: list[str],
    timeout: int,
    counts: Counts,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """Runs one test, shows its lines nested, and says what went wrong besides its own results."""
    with subprocess.Popen(
        [program, *arguments],
        cwd=program.parent,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as test:
        timed_out = False

        def expire(*_: object) -> None:
            nonlocal timed_out
            os.killpg(test.pid, signal.SIGKILL if timed_out else signal.SIGTERM)
            timed_out = True
            signal.alarm(GRACE_SECONDS)

        signal.signal(signal.SIGALRM, expire)
        signal.alarm(timeout)
        assert test.stdout is not None
        for text in test.stdout:
            line = text.rstrip("\n")
            print("#", line, flush=True)
            counts.add(line)
        status = test.wait()
        signal.alarm(0)
    if timed_out:
        return f"did not end within {timeout} seconds"
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    if problem := counts.mismatch():
        return problem
    if status not in (0, SKIP_STATUS) and counts.failed == 0:
        return f"ended with status {status}"
    return None


def run_on_hardware(program: Path, timeout: int, counts: Counts) -> str | None:
    """Runs a test that wants a NIC, and says what went wrong besides its own results."""
    try:
        with simnic() as environment:
            return run_program(program, [], timeout, counts, environment | CLOCK)
    except subprocess.CalledProcessError as error:
        return str(error)


def run_kunit(counts: Counts) -> str | None:
    """Reads what the unit tests found that the kernel ran while it booted."""
    suites = (
        [suite for suite in sorted(KUNIT.iterdir()) if KUNIT_OURS.match(suite.name)]
        if KUNIT.is_dir()
        else []
    )
    if not suites:
        return "the kernel ran no unit tests of ours"
    planned = 0
    for suite in suites:
        own = Counts()
        for line in (suite / "results").read_text().splitlines():
            print("#", line)
            own.add(
                line.removeprefix("    ")
                if line.startswith("    ") and not line.startswith("     ")
                else ""
            )
        if problem := own.mismatch():
            return f"{suite.name} {problem}"
        counts.passed += own.passed
        counts.failed += own.failed
        counts.skipped += own.skipped
        planned += own.planned or 0
    counts.planned = planned
    return None


def leaks() -> Iterator[str]:
    """Yields the memory that nothing points to any more, on a kernel that can tell."""
    if KMEMLEAK.exists():
        # An object counts from the second scan that does not find it.
        KMEMLEAK.write_text("scan")
        sleep(KMEMLEAK_AGE)
        KMEMLEAK.write_text("scan")
        if report := KMEMLEAK.read_text():
            print("".join(f"# {line}\n" for line in report.splitlines()), end="")
            yield "memory leaks, shown above"


def blind() -> Iterator[str]:
    """Yields a complaint if lockdep has switched itself off, as it does after the first thing that it finds."""
    if LOCKDEP.exists() and not re.search(
        r"^ *debug_locks: +1$", LOCKDEP.read_text(), re.MULTILINE
    ):
        yield "lockdep has switched itself off"


def upstream_results(tests: Path) -> dict[str, int]:
    """Reads how many results each test of upstream's prints."""
    lines = tests.read_text().splitlines()
    fields = [line.split() for line in lines if not line.startswith("#")]
    return {name: int(results) for name, results, *_ in fields}


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


def claim(shared: Path, number: int) -> bool:
    """Takes a test, unless another guest has."""
    try:
        (shared / f"claim.{number}").mkdir()
    except FileExistsError:
        return False
    return True


def record(shared: Path, name: str, counts: Counts) -> None:
    """Tells the host what came of a test."""
    with (shared / "results").open("a", encoding="utf-8") as results:
        results.write(f"{name} {counts.passed} {counts.failed} {counts.skipped}\n")


def report(shared: Path, name: str, problems: Iterable[str]) -> int:
    """Tells of what went wrong outside of any test, and how much did."""
    failed = 0
    for text in problems:
        print(f"# {text}")
        failed += 1
    if failed:
        print(f"not ok {name}", flush=True)
        record(shared, name, Counts(failed=failed))
    return failed


def main() -> int:
    """Runs the tests named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=int, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument(
        "--bpf", type=Path, help="the directory of upstream's test_progs"
    )
    parser.add_argument(
        "--net", type=Path, help="upstream's selftests, with the programs for NICs"
    )
    parser.add_argument(
        "--parallel",
        type=lambda names: names.split(","),
        help="the only tests that need a second processor; all by default",
    )
    parser.add_argument("tests", nargs="+")
    args = parser.parse_args()

    selftests = Path(os.environ["NETKIT_TREE"]) / "tools/testing/selftests"
    # The tree stays as it is; what a test has compiled, the next one need not.
    os.environ["PYTHONPYCACHEPREFIX"] = "/tmp/pycache"
    adapt()
    tools = Path(__file__).parent.parent
    upstream = upstream_results(tools / "upstream.tests")
    log = KernelLog(tools / "splats")
    total_failed = report(args.shared, "boot", log.splats())
    for number, name in enumerate(args.tests, 1):
        if not claim(args.shared, number):
            continue
        begin = monotonic()
        bpf = BPF_TEST.match(name)
        counts = BpfCounts() if bpf else Counts()
        print(f"# {name}", flush=True)
        second_processor(args.parallel is None or name in args.parallel)
        if name == "kunit":
            problem = run_kunit(counts)
        elif bpf:
            # Without a limit of its own, which emulated guests exceed.
            arguments = ["-a", f"{bpf[1]}*", "-w", "0"]
            problem = run_program(
                args.bpf / "test_progs", arguments, args.timeout, counts
            )
        elif name in upstream and name.startswith("drivers/net/"):
            problem = run_on_hardware(args.net / name, args.timeout, counts)
        elif name in upstream:
            problem = run_program(selftests / name, [], args.timeout, counts, CLOCK)
        else:
            problem = run_program(selftests / name, [], args.timeout, counts)
        wanted = upstream.get(name, counts.printed)
        if not problem and counts.printed != wanted:
            problem = (
                f"printed {counts.printed} results, not {wanted} as upstream.tests says"
            )
        problems = [problem] if problem else []
        if counts.skipped > counts.spared:
            problems.append("skipped something, which counts as a failure here")
        problems += log.splats()
        for text in problems:
            print(f"# {text}")
            counts.failed += 1
        total_failed += counts.failed
        record(args.shared, name, counts)
        verdict = "not ok" if counts.failed else "ok"
        skip = "" if counts.passed or counts.failed else " # SKIP"
        print(
            f"{verdict} {number} {name}{skip} # {monotonic() - begin:.0f} s", flush=True
        )
    total_failed += report(args.shared, "guest", chain(leaks(), blind(), log.splats()))
    return 1 if total_failed else 0


if __name__ == "__main__":
    sys.exit(main())
