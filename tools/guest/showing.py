# SPDX-License-Identifier: GPL-2.0
"""What the parts of the demonstration in Python have in common."""

import sys
import time
from collections.abc import Callable

from net.lib.py import ksft, utils


def heading(text: str) -> None:
    """Prints the title of a part."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}")


def equal(what: str, actual: object, expected: object) -> None:
    """Ends the demonstration if a number is not as it must be."""
    if actual != expected:
        sys.exit(f"demo: FAILED: {what}: {actual} instead of {expected}")


def soon(what: str, value: Callable[[], object], expected: object) -> None:
    """Waits for what the kernel does behind one's back, and ends the demonstration if it does not."""
    end = time.monotonic() + 60
    while value() != expected and time.monotonic() < end:
        time.sleep(0.01)
    equal(what, value(), expected)


def show(part: Callable[[], None]) -> None:
    """Goes through a part, and clears up after it; what the kernel or a command refuses ends the demonstration, too."""
    utils.GLOBAL_DEFER_ARMED = True
    try:
        part()
    except (OSError, utils.CmdExitFailure) as error:
        sys.exit(f"demo: FAILED: {str(error).splitlines()[0]}")
    finally:
        ksft.ksft_flush_defer()
