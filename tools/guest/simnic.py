# SPDX-License-Identifier: GPL-2.0
"""What upstream's tests of hardware want: a NIC, and a host at the other end of its cable."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def simnic() -> Iterator[dict[str, str]]:
    """Puts the simulated NIC in, yields what tells the tests of it, and takes it out again."""
    module = Path(os.environ["NETKIT_BUILD"]) / "simnic/simnic.ko"
    subprocess.run(["insmod", module], check=True)
    try:
        _ip([], UP)
        _ip(["-n", REMOTE], REMOTE_UP)
        yield ENVIRONMENT
    finally:
        _ip([], f"netns del {REMOTE}")
        subprocess.run(["rmmod", "simnic"], check=True)
