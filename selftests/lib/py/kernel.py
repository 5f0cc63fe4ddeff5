# SPDX-License-Identifier: GPL-2.0

"""
The kernel's own view: its driver, its limits, its memory.
"""

import ctypes
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Self

from net.lib.py import KsftSkipEx, defer, ksft_pr, ksft_true

KMSG = Path("/dev/kmsg")
CLEAR_WARN_ONCE = Path("/sys/kernel/debug/clear_warn_once")
COMPLAINT = re.compile(r"WARNING: |BUG: ")
BACKLOG = Path("/proc/sys/net/core/netdev_max_backlog")
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
# What was allocated less than 5 s before a scan is not reported by it.
KMEMLEAK_AGE = 6


class Fix(StrEnum):
    """The patches without which a test case fails, by their subjects."""

    XDP_TX = "net: let what generic XDP sends no longer count as received"
    SK_REDIRECT = "bpf: let go of an assigned socket when a packet is redirected"
    SK_NETNS = "net: let no assigned socket take a packet in another namespace"
    PEER_RCU = "netkit, veth: let the peer be looked up with bottom halves disabled"
    NFT_EGRESS = "netkit: let nft's egress hook see what a device has passed"
    XSK_CLOSED = "netkit: do not leave the pool of a closed AF_XDP socket with the NIC"
    QUEUE = "netkit: do not let the receiver see what a program wrote as its queue"
    XSK_GENERIC = "xsk: refuse zero-copy sockets in generic XDP"


def needs(fix: Fix, by_log: bool = False) -> None:
    """Skips the test case on a kernel that is said to lack the patch (NETKIT_IMPL), or
    says that it is to fail there (NETKIT_NEEDS). by_log: if the kernel complains, it
    has failed."""
    if os.environ.get("NETKIT_IMPL") != "stock":
        return
    if os.environ.get("NETKIT_NEEDS") != "fail":
        # By which a skip for this reason is told from any other.
        raise KsftSkipEx(f"stock: {fix}")
    ksft_pr(f"needs: {fix}")
    if by_log:
        defer(_no_complaint, fix, KernelLog())


# What the kernel has complained about, which it may do once only.
_blamed: set[Fix] = set()


def _no_complaint(fix: Fix, log: "KernelLog") -> None:
    with log:
        if COMPLAINT.search(log.read()):
            _blamed.add(fix)
    ksft_true(fix not in _blamed, "the kernel complains")


class KernelLog:
    """What the kernel logs from here on."""

    def __init__(self) -> None:
        # Or it would have complained already, in an earlier test case.
        CLEAR_WARN_ONCE.write_text("1", encoding="ascii")
        self._file = KMSG.open("rb", buffering=0)
        os.set_blocking(self._file.fileno(), False)
        self._file.seek(0, os.SEEK_END)

    def read(self) -> str:
        """What there is now."""
        text = b""
        while record := self._file.read(8192):
            text += record
        return text.decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


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
