# SPDX-License-Identifier: GPL-2.0
"""What the lines say that a test prints: TAP, or the lines of upstream's test_progs."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field

RESULT = re.compile(r"^(not ok|ok) (\d+)(?: |$)(.*)")
PLAN = re.compile(r"^1\.\.(\d+)(.*)")
BPF_RESULT = re.compile(
    r"^#(\d+)(/\d+)? +(\S.*?):(OK|SKIP|FAIL)( \(not built\))?(?: \(.*\))?$"
)
BPF_SUMMARY = re.compile(
    r"^Summary: (\d+)/(\d+) PASSED, (\d+) SKIPPED(?: \(.*\))?, (\d+)/(\d+) FAILED$"
)
# How the tests begin the reason when they skip what needs a patch that the kernel lacks. All else that one may want is here.
SPARED = re.compile(r"# SKIP stock: ")
STOCK = os.environ["NETKIT_IMPL"] == "stock"
# What they print instead where the case is to fail (tools/check --needs fail).
NEEDS = re.compile(r"^# needs: (.*)")


@dataclass
class Counts:
    """What a test's own lines say."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    spared: int = 0
    planned: int | None = None
    # The patch that the present case needs.
    needs: str | None = None
    # How many cases have failed for want of one.
    wanting: int = 0
    # What has failed, by the test's own names.
    failures: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Counts one line of output."""
        if plan := PLAN.match(line):
            self.planned = int(plan[1])
            if self.planned == 0 and "# SKIP" in plan[2].upper():
                self.planned = self.skipped = 1
        elif needs := NEEDS.match(line):
            self.needs = needs[1]
        elif result := RESULT.match(line):
            directive = result[3].upper()
            if self.needs is not None:
                self.inverted(result[1] == "ok", result[3])
            elif result[1] == "not ok" and "# XFAIL" not in directive:
                self.fail(result[3].partition("#")[0].strip())
            elif "# SKIP" in directive or "# XFAIL" in directive:
                self.skipped += 1
                self.spared += STOCK and bool(SPARED.search(result[3]))
            else:
                self.passed += 1

    def inverted(self, passed: bool, name: str) -> None:
        """Counts the result of a case that is to fail."""
        if passed:
            self.fail(f"{name}, which does not need: {self.needs}")
        else:
            self.passed += 1
            self.wanting += 1
        self.needs = None

    def fail(self, what: str) -> None:
        """Counts a failure."""
        self.failed += 1
        self.failures.append(what)

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
            verdict = "FAIL" if result[5] else result[4]
            if result[2]:
                self.subtests[verdict] += 1
                self.verdicts.add(verdict)
                self.count(verdict, result[3])
            else:
                self.tests[verdict] += 1
                if not self.verdicts or (
                    verdict == "FAIL" and "FAIL" not in self.verdicts
                ):
                    self.count(verdict, result[3])
                self.verdicts.clear()

    def count(self, verdict: str, name: str) -> None:
        """Counts one result."""
        if verdict == "FAIL":
            self.fail(name)
        self.passed += verdict == "OK"
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
