# SPDX-License-Identifier: GPL-2.0

"""
The ports of simnic, which stand in for a physical NIC, and leases of queues.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from net.lib.py import KsftSkipEx, ksft_busy_wait, ksft_eq
from net.lib.py import NlError, cmd, defer

from .netkit import IFF_UP, Namespace, Port, operational
from .rtnl import Rtnl, ns_fd

NAMES = ("simnic0", "simnic1")
CHANNELS = 4
DISCARD = 9
LOADED = Path("/sys/module/simnic")
DEBUGFS = Path("/sys/kernel/debug/simnic")

# What can fail of the restart of a queue, and with what.
RESTART_FAULTS = {
    "queue_mem_alloc": "ENOMEM",
    "queue_stop": "EIO",
    "queue_start": "EIO",
}

# Where ports are or have been since the module was loaded.
_places: set[Namespace] = set()


def _module() -> Path:
    """What was built for this kernel: apart from the tests, or beside them."""
    build = os.environ.get("NETKIT_BUILD")
    above = Path(build) if build else Path(__file__).parents[2]
    found = above / "simnic/simnic.ko"
    if not found.exists():
        raise KsftSkipEx(f"there is no simulated NIC: {found} was not built")
    return found


@dataclass(frozen=True)
class Nic(Port):
    """A port of simnic."""

    def __post_init__(self) -> None:
        _places.add(self.ns)

    @property
    def counters(self) -> dict[str, int]:
        """What each of its queues has counted."""
        text = self.ns.ethtool(f"-S {self.name}")
        return {name: int(n) for name, n in re.findall(r"(\w+): (\d+)", text)}

    def steer(self, destination: bytes, queue: int) -> None:
        """Frames to this address go to this queue, others stay away from it."""
        self.ns.ethtool(
            f"-N {self.name} flow-type ether dst {destination.hex(':')} action {queue}"
        )

    def fail(self, what: str, times: int = 1) -> None:
        """Has the next attempts at something fail; 0 for none."""
        self._control(f"fail_{what}").write_text(str(times), encoding="ascii")

    def failures_left(self, what: str) -> int:
        return int(self._control(f"fail_{what}").read_text(encoding="ascii"))

    def sum_packets(self) -> None:
        """They come with the sum of all their bytes, not with a verdict on it."""
        self._control("csum_complete").write_text("Y", encoding="ascii")

    def restart_queue(self, queue: int) -> None:
        """As the core does when the memory of a queue changes."""
        self._control("queue_restart").write_text(str(queue), encoding="ascii")

    def _control(self, name: str) -> Path:
        return DEBUGFS / self.name / name

    @contextmanager
    def counting(self, **expected: int) -> Iterator[None]:
        """What its queues count meanwhile; what is not expected is nought."""
        before = self.counters
        yield
        ksft_busy_wait(
            lambda: all(self.counters[k] - before[k] >= n for k, n in expected.items()),
            deadline=30,
            comment=f"{self.name} counts too little",
        )
        after = self.counters
        growth = {name: after[name] - before[name] for name in after}
        ksft_eq({name: n for name, n in growth.items() if n}, expected, self.name)


@cache
def _here() -> Rtnl:
    """Where new ports are."""
    return Rtnl()


def load(channels: int = CHANNELS) -> None:
    """Until the end of the test case, or until unload()."""
    module = _module()
    _places.clear()
    cmd(f"insmod {module} channels={channels}", timeout=120)
    defer(_clean)


def unload() -> None:
    """Both ports go, wherever they are, and who leased queues of them."""
    if LOADED.exists():
        cmd("rmmod simnic", timeout=300)


def _pools() -> list[dict[str, object]]:
    """Pools with pages in use whose device has gone; those of others have an ifindex.

    One without pages looks only once a second whether it can go.
    """
    return [
        pool
        for ns in _places
        if ns.exists
        for pool in ns.netdev.page_pool_get({}, dump=True)
        if "ifindex" not in pool and pool["inflight"]
    ]


def free_deferred() -> None:
    """Packets wait to be freed by the processor that they were allocated on,
    which does so when it next receives some.  "lo" must be up."""
    processors = os.sched_getaffinity(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            sock.sendto(b"", ("127.0.0.1", DISCARD))
    os.sched_setaffinity(0, processors)


def _clean() -> None:
    """Nobody keeps pages of a port that has gone, once its users have: kmemleak
    knows nothing of pages."""
    _here().change("lo", {}, IFF_UP, IFF_UP)
    free_deferred()
    unload()
    ksft_busy_wait(lambda: not _pools(), deadline=30, comment="pages stay")
    ksft_eq(_pools(), [])


def simnic(
    host: Namespace, remote: Namespace, *, up: bool = True, channels: int = CHANNELS
) -> tuple[Nic, Nic]:
    """Two ports joined by a wire: the host's, and one that is far away."""
    load(channels)
    ports = Nic(host, NAMES[0]), Nic(remote, NAMES[1])
    for port in ports:
        with ns_fd(port.ns.name) as fd:
            _here().change(port.name, {"net-ns-fd": fd})
    if up:
        operational(*ports)
    return ports


def nsid(ns: Namespace, other: Namespace) -> int:
    """What one namespace calls the other, from now on if it did not so far."""
    if ns.nsid(other) is None:
        ns.ip(f"netns set {other.name} auto")
    found = ns.nsid(other)
    assert found is not None
    return found


def lease(device: Port, nic: Port, queue: int) -> int:
    """Leases a queue of a NIC; returns which one of the device it is then.

    The request is the container's, which is where the device is.
    """
    request = {
        "ifindex": device.link.index,
        "type": "rx",
        "lease": {
            "ifindex": nic.link.index,
            "queue": {"id": queue, "type": "rx"},
        },
    }
    if nic.ns is not device.ns:
        request["lease"]["netns-id"] = nsid(device.ns, nic.ns)
    try:
        return device.ns.netdev.queue_create(request)["id"]
    except NlError as error:
        raise OSError(-error.nl_msg.error, str(error)) from error


def queue_get(port: Port, queue: int, kind: str = "rx") -> dict[str, object]:
    """What the kernel tells of a queue."""
    return port.ns.netdev.queue_get(
        {"ifindex": port.link.index, "id": queue, "type": kind}
    )
