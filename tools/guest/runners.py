# SPDX-License-Identifier: GPL-2.0
"""Runs one test, whatever it is: a program, a Python file of ours, upstream's on a NIC, what KUnit found."""

import atexit
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from counts import Counts
from simnic import simnic

SKIP_STATUS = 4
KUNIT = Path("/sys/kernel/debug/kunit")
KUNIT_OURS = re.compile(r"^(netkit|rust_)")
# What a test that has exceeded its time gets to clean up after itself.
GRACE_SECONDS = 30
# Upstream's tests have limits, and pauses for what the kernel does beside, that an emulated guest cannot meet, however right it
# is. Their clocks go so much slower, and what waits for a time waits so much longer.
SPEED = "0.3"
# On the debug kernel, a NIC's memory takes seconds to map.
SPEED_ON_HARDWARE = "0.1" if os.environ["NETKIT_PROFILE"] == "debug" else SPEED


def clock(speed: str) -> dict[str, str]:
    """Returns what makes the clock of a program go slower."""
    return {
        "LD_PRELOAD": "/usr/$LIB/faketime/libfaketimeMT.so.1",
        "FAKETIME": f"+0 x{speed}",
        "FAKETIME_DISABLE_SHM": "1",
    }


class Runner:
    """Runs a test in a process of its own, counts its lines and shows them."""

    def __init__(
        self, counts: Counts, say: Callable[[str], None], timeout: int
    ) -> None:
        self.counts = counts
        self.say = say
        self.timeout = timeout

    def program(
        self,
        program: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
    ) -> str | None:
        """Runs a program, and says what went wrong besides its own results."""
        command = [str(program), *arguments]
        return self._run(
            program.parent,
            lambda: os.execve(program, command, os.environ | (environment or {})),
        )

    def python(self, test: Path) -> str | None:
        """Runs a test of ours in a copy of this process, which has imported what they share: that takes seconds."""
        return self._run(test.parent, lambda: _python(test))

    def upstream(self, program: Path, *arguments: str) -> str | None:
        """Runs a test of upstream's."""
        return self.program(program, *arguments, environment=clock(SPEED))

    def on_hardware(self, program: Path, *arguments: str) -> str | None:
        """Runs one that wants a NIC."""
        try:
            with simnic() as environment:
                environment |= clock(SPEED_ON_HARDWARE)
                return self.program(program, *arguments, environment=environment)
        except (subprocess.CalledProcessError, TimeoutError) as error:
            return str(error)

    def kunit(self) -> str | None:
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
                self.say(line)
                own.add(
                    line.removeprefix("    ")
                    if line.startswith("    ") and not line.startswith("     ")
                    else ""
                )
            if problem := own.mismatch():
                return f"{suite.name} {problem}"
            self.counts.passed += own.passed
            self.counts.skipped += own.skipped
            for failure in own.failures:
                self.counts.fail(failure)
            planned += own.planned or 0
        self.counts.planned = planned
        return None

    def _run(self, directory: Path, execute: Callable[[], None]) -> str | None:
        sys.stdout.flush()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            _become(directory, write)
            execute()
        os.close(write)
        timed_out = False

        def expire(*_: object) -> None:
            nonlocal timed_out
            os.killpg(child, signal.SIGKILL if timed_out else signal.SIGTERM)
            timed_out = True
            signal.alarm(GRACE_SECONDS)

        signal.signal(signal.SIGALRM, expire)
        signal.alarm(self.timeout)
        with os.fdopen(read, errors="replace") as output:
            for text in output:
                line = text.rstrip("\n")
                self.say(line)
                self.counts.add(line)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        signal.alarm(0)
        if timed_out:
            return f"did not end within {self.timeout} seconds"
        if status < 0:
            return f"died of {signal.Signals(-status).name}"
        if problem := self.counts.mismatch():
            return problem
        if status not in (0, SKIP_STATUS) and not (
            self.counts.failed or self.counts.wanting
        ):
            return f"ended with status {status}"
        return None


def _become(directory: Path, output: int) -> None:
    """Makes a copy of this process fit to be a test."""
    os.setsid()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 64)
    os.chdir(directory)


def _python(test: Path) -> None:
    """Is the test, to its end."""
    status = 0
    sys.argv = [str(test)]
    # What they took from this process when they were imported.
    sys.modules["net.lib.py.ksft"].__dict__["KSFT_MAIN_NAME"] = test.stem
    random.seed()
    try:
        runpy.run_path(str(test), run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - nobody is above
        traceback.print_exc()
        status = 1
    # What Python itself does before it ends.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
