# SPDX-License-Identifier: GPL-2.0
"""What the kernel complains about: in its log, of memory, of locks."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

# What a report of the kernel takes, about.
REPORT_LINES = 60
REPORT_SECONDS = 2
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
# kmemleak spares what is younger than five seconds.
KMEMLEAK_AGE = 6
LOCKDEP = Path("/proc/lockdep_stats")


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

    def splats(self, say: Callable[[str], None]) -> Iterator[str]:
        """Yields the first lines of new complaints, and says what the kernel reports with them."""
        more, reported = 0, True
        while reported:
            reported = False
            for message in self.messages():
                if self.splat.search(message):
                    yield message
                    more = REPORT_LINES
                if more:
                    say(f"kernel: {message}")
                    more -= 1
                    reported = True
            if reported:
                # Another processor may be at its report still.
                sleep(REPORT_SECONDS)


def leaks(say: Callable[[str], None]) -> Iterator[str]:
    """Yields the memory that nothing points to any more, on a kernel that can tell."""
    if KMEMLEAK.exists():
        # An object counts from the second scan that does not find it.
        KMEMLEAK.write_text("scan")
        sleep(KMEMLEAK_AGE)
        KMEMLEAK.write_text("scan")
        if report := KMEMLEAK.read_text():
            for line in report.splitlines():
                say(line)
            yield "memory leaks, shown above"


def blind() -> Iterator[str]:
    """Yields a complaint if lockdep has switched itself off, as it does after the first thing that it finds."""
    if LOCKDEP.exists() and not re.search(
        r"^ *debug_locks: +1$", LOCKDEP.read_text(), re.MULTILINE
    ):
        yield "lockdep has switched itself off"
