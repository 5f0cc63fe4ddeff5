# SPDX-License-Identifier: GPL-2.0

"""
The kernel's own view: its driver, its limits, its memory.
"""

import ctypes
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from net.lib.py import KsftSkipEx, defer

BACKLOG = Path("/proc/sys/net/core/netdev_max_backlog")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
# What was allocated less than 5 s before a scan is not reported by it.
KMEMLEAK_AGE = 6


@cache
def _driver_is_c() -> bool:
    """Whether the running kernel has it: a function of that name is only there."""
    symbols = Path("/proc/kallsyms").read_text(encoding="ascii")
    return re.search(r" netkit_xmit\s", symbols) is not None


def spare_c(bug: str) -> None:
    """Skips the test case on the C driver, for what is a bug there."""
    if _driver_is_c():
        # By which a skip for this reason is told from any other.
        raise KsftSkipEx(f"C driver: {bug}")


def limit_backlog(length: int) -> None:
    """How many received packets may wait before another one, for a test case."""
    before = BACKLOG.read_text(encoding="ascii")
    defer(BACKLOG.write_text, before, encoding="ascii")
    BACKLOG.write_text(str(length), encoding="ascii")


def kernel_memory() -> int:
    """Bytes that the kernel holds for itself, per processor and in slabs."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE))
    return 1024 * (int(sizes["SUnreclaim"]) + int(sizes["Percpu"]))


def leaks() -> str:
    """What kmemleak finds; it takes two scans to be sure."""
    KMEMLEAK.write_text("scan", encoding="ascii")
    time.sleep(KMEMLEAK_AGE)
    KMEMLEAK.write_text("scan", encoding="ascii")
    return KMEMLEAK.read_text(encoding="ascii")


def _effective(libc: ctypes.CDLL, numbers: tuple[int, ...] | None) -> None:
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for word in range(2):
        # Effective, permitted, inheritable; once for each half.
        sets[3 * word] = (
            sets[3 * word + 1]
            if numbers is None
            else sum(1 << number % 32 for number in numbers if number // 32 == word)
        )
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


@contextmanager
def capabilities(*numbers: int) -> Iterator[None]:
    """Nothing but these may be done by this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    _effective(libc, numbers)
    try:
        yield
    finally:
        _effective(libc, None)
