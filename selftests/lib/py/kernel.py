# SPDX-License-Identifier: GPL-2.0

"""
The kernel's own view: its log, its memory.
"""

import os
import re
from pathlib import Path

COMPLAINT = re.compile(
    r"WARNING|BUG|Oops|general protection|stack guard|"
    r"unregister_netdevice: waiting|possible recursive|"
    r"refcount_t|leaked|KASAN|suspicious RCU|INFO: task"
)
KMEMLEAK = Path("/sys/kernel/debug/kmemleak")


class KernelLog:
    """What the kernel logs from now on."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)

    def complaints(self) -> list[str]:
        """To be called once."""
        lines = []
        try:
            while True:
                lines.append(os.read(self._fd, 8192).decode(errors="replace"))
        except BlockingIOError:
            pass
        finally:
            os.close(self._fd)
        return [line for line in lines if COMPLAINT.search(line)]


def kernel_memory() -> int:
    """Bytes that the kernel holds for itself, per processor and in slabs."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE))
    return 1024 * (int(sizes["SUnreclaim"]) + int(sizes["Percpu"]))


def leaks() -> str:
    """What kmemleak finds; it takes two scans to be sure."""
    for _ in range(2):
        KMEMLEAK.write_text("scan", encoding="ascii")
    return KMEMLEAK.read_text(encoding="ascii")
