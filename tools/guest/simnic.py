# SPDX-License-Identifier: GPL-2.0
"""What upstream's tests of hardware want: a NIC, and a host at the other end of its cable."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

TESTS = "tools/testing/selftests/drivers/net/netkit"
sys.path.append(f"{os.environ['NETKIT_TREE']}/{TESTS}")

from lib.py.simnic import free_deferred

REMOTE = "remote"
LOCAL_V4 = "192.0.2.1"
REMOTE_V4 = "192.0.2.2"
LOCAL_V6 = "2001:db8:1::1"
REMOTE_V6 = "2001:db8:1::2"
PODS_V6 = "2001:db8:2::/64"

UP = f"""
netns add {REMOTE}
link set simnic1 netns {REMOTE}
link set simnic0 up
addr add {LOCAL_V4}/24 dev simnic0
addr add {LOCAL_V6}/64 dev simnic0 nodad
"""
REMOTE_UP = f"""
link set lo up
link set simnic1 up
addr add {REMOTE_V4}/24 dev simnic1
addr add {REMOTE_V6}/64 dev simnic1 nodad
route add {PODS_V6} via {LOCAL_V6}
"""
# Upstream's iou-zcrx has room for 1024 packets in its completion queue, sends itself 1469, and fails ("recvzc(): -28") where
# the kernel finds them there faster than it reads. A slow cable hands them out one by one, a small window after a pause too.
# socat binds itself to a port that may have been used before; no connection is to wait there for what may still come.
REMOTE_ALSO = (
    "tc qdisc add dev simnic1 root netem rate 20mbit",
    "sysctl -qw net.ipv4.tcp_max_tw_buckets=0",
)
WINDOW = "4096 131072 262144"
TCP_RMEM = Path("/proc/sys/net/ipv4/tcp_rmem")

# Device memory that a packet refers to is unmapped by a worker, later, and the kernel holds no reference to the NIC meanwhile:
# where it has gone, the worker reads memory that was freed (net/core/devmem.c).
ATTACHED = re.compile(r"^Total [1-9]\d* devices attached$", re.MULTILINE)
BUFFERS = Path("/sys/kernel/debug/dma_buf/bufinfo")
UNMAP_SECONDS = 60

ENVIRONMENT = {
    "NETIF": "simnic0",
    "LOCAL_V4": LOCAL_V4,
    "REMOTE_V4": REMOTE_V4,
    "LOCAL_V6": LOCAL_V6,
    "REMOTE_V6": REMOTE_V6,
    "LOCAL_PREFIX_V6": PODS_V6,
    "REMOTE_TYPE": "netns",
    "REMOTE_ARGS": REMOTE,
}


def _ip(options: list[str], batch: str) -> None:
    subprocess.run(["ip", *options, "-batch", "-"], input=batch, text=True, check=True)


def unmapped() -> None:
    """Waits until nobody has the NIC's memory any more."""
    free_deferred()
    end = monotonic() + UNMAP_SECONDS
    while ATTACHED.search(BUFFERS.read_text()):
        if monotonic() > end:
            raise TimeoutError("device memory is mapped still")
        sleep(0.1)


@contextmanager
def simnic() -> Iterator[dict[str, str]]:
    """Puts the simulated NIC in, yields what tells the tests of it, and takes it out again."""
    module = Path(os.environ["NETKIT_BUILD"]) / "simnic/simnic.ko"
    subprocess.run(["insmod", module], check=True)
    window = TCP_RMEM.read_text()
    try:
        TCP_RMEM.write_text(WINDOW)
        _ip([], UP)
        _ip(["-n", REMOTE], REMOTE_UP)
        for command in REMOTE_ALSO:
            subprocess.run(
                ["ip", "netns", "exec", REMOTE, *command.split()], check=True
            )
        yield ENVIRONMENT
    finally:
        TCP_RMEM.write_text(window)
        # While those who have packets to acknowledge are there.
        unmapped()
        _ip([], f"netns del {REMOTE}")
        subprocess.run(["rmmod", "simnic"], check=True)
