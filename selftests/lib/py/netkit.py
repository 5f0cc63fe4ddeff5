# SPDX-License-Identifier: GPL-2.0

"""
Namespaces and the netkit devices in them.
"""

import atexit
import errno
import fcntl
import ipaddress
import multiprocessing
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Self

from net.lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq
from net.lib.py import NetdevFamily, NetNS, NetNSEnter, defer, ethtool, ip, tc

from .packet import BROADCAST, ETH_P_TEST, PacketSocket, frame
from .rtnl import Attrs, Link, Refused, Rtnl, Value, ns_fd

IFF_UP = 0x1
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x1, 0x1000
IF_OPER_UP = 6
RTF_LOCAL = 0x80000000

fork = multiprocessing.get_context("fork")


class Mode(IntEnum):
    L2 = 0
    L3 = 1


MODES = [KsftNamedVariant(mode.name, mode) for mode in Mode]


class Policy(IntEnum):
    NEXT = -1
    PASS = 0
    DROP = 2
    REDIRECT = 7


class Scrub(IntEnum):
    NONE = 0
    DEFAULT = 1


class Pairing(IntEnum):
    PAIR = 0
    SINGLE = 1


class Namespace:
    """A network namespace and sockets to talk about its devices."""

    def __init__(self, ipv6: bool = False) -> None:
        self._ns = NetNS()
        self.exists = True
        self.name = str(self._ns)
        self.rtnl = Rtnl(self.name)
        # The loopback device, and what tunnel drivers put everywhere.
        self._inherent = self.rtnl.names()
        self._nsids: dict[str, int] = {}
        if not ipv6:
            # Devices that speak unasked spoil counters.
            self._set("net/ipv6/conf/default/disable_ipv6", "1")

    def __str__(self) -> str:
        return self.name

    def devices(self) -> set[str]:
        """Names of the devices that the test put here."""
        return self.rtnl.names() - self._inherent

    def clear(self) -> None:
        for name in self.devices():
            try:
                self.rtnl.dellink({"ifname": name})
            except Refused as refusal:
                # Gone together with another one, or with that one's namespace.
                if refusal.error != "ENODEV":
                    raise

    def is_as_new(self) -> bool:
        """Whether the loopback device is: it stays when all others go."""
        loopback = self.rtnl.getlink("lo")
        return not loopback.flags & IFF_UP and not self.rtnl.addresses()

    def sysctl(self, name: str, value: int) -> None:
        """Until the end of the test case."""
        defer(self._set_back, name, self._set(name, str(value)))

    def _set(self, name: str, value: str) -> str:
        """Returns what it was."""
        path = Path("/proc/sys", name)
        with NetNSEnter(self.name):
            before = path.read_text(encoding="ascii")
            path.write_text(value, encoding="ascii")
        return before

    def _set_back(self, name: str, value: str) -> None:
        # The namespace may have gone meanwhile, or the device that it is of.
        with suppress(FileNotFoundError):
            self._set(name, value)

    def ip(self, args: str) -> None:
        ip(args, ns=self.name)

    def ethtool(self, args: str) -> str:
        """What ethtool says, without the mounts of "ip netns exec"."""
        with NetNSEnter(self.name):
            return ethtool(args).stdout

    def nsid(self, other: Self) -> int | None:
        """What this namespace calls another one, once and for all."""
        if other.name not in self._nsids:
            self._nsids = {
                entry["name"]: entry["nsid"]
                for entry in ip("netns list-id", json=True, ns=self.name)
                if "name" in entry
            }
        return self._nsids.get(other.name)

    @cached_property
    def netdev(self) -> NetdevFamily:
        """Requests about the queues of its devices."""
        with NetNSEnter(self.name):
            return NetdevFamily()

    def wait_local(self, address: str) -> None:
        """Waits until the namespace takes what is sent to one of its addresses.

        IPv6 adds the route for that a little after the address.
        """
        local = ipaddress.ip_interface(address)
        if local.version == 6:
            ksft_busy_wait(
                lambda: self._has_local_route(local.packed.hex()),
                deadline=30,
                comment=f"{address} is not usable",
            )

    def _has_local_route(self, address: str) -> bool:
        with NetNSEnter(self.name):
            routes = Path("/proc/thread-self/net/ipv6_route").read_text("ascii")
        return any(
            fields[:2] == [address, "80"] and int(fields[8], 16) & RTF_LOCAL
            for fields in map(str.split, routes.splitlines())
        )

    def ipv6_devices(self) -> set[str]:
        """Those with addresses of IPv6."""
        with NetNSEnter(self.name):
            text = Path("/proc/thread-self/net/if_inet6").read_text("ascii")
        return {line.split()[-1] for line in text.splitlines()}

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with NetNSEnter(self.name):
            made = socket.socket(family, kind, protocol)
        made.settimeout(30)
        return made

    def delete(self) -> None:
        self.exists = False
        self.rtnl.close()
        if "netdev" in vars(self):
            self.netdev.close()
        self._ns.__del__()


# Namespaces that no test case has at the moment, by whether they speak IPv6.
_idle: dict[bool, list[Namespace]] = {False: [], True: []}


@atexit.register
def _delete_idle() -> None:
    for spaces in _idle.values():
        for ns in spaces:
            ns.delete()


def namespaces(count: int, ipv6: bool = False) -> list[Namespace]:
    """Namespaces until the end of the test case.

    Making and deleting them takes longer than most of the test cases, so that
    they serve again and again, emptied.
    """
    return [_lent(ipv6) for _ in range(count)]


def _lent(ipv6: bool) -> Namespace:
    ns = _idle[ipv6].pop() if _idle[ipv6] else Namespace(ipv6)
    defer(_returned, ns, ipv6)
    return ns


def _returned(ns: Namespace, ipv6: bool) -> None:
    if not ns.exists:
        return
    ns.clear()
    if ns.is_as_new():
        _idle[ipv6].append(ns)
    else:
        ns.delete()


@dataclass(frozen=True)
class Port:
    """One netkit device and where it is."""

    ns: Namespace
    name: str

    @property
    def link(self) -> Link:
        return self.ns.rtnl.getlink(self.name)

    @property
    def stats(self) -> dict[str, int]:
        return self.link.stats

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.link.address.replace(":", ""))

    def wait_operational(self) -> None:
        """Waits until the core sends: it learns of a carrier a little later."""
        ksft_busy_wait(
            lambda: self.link["operstate"] == IF_OPER_UP,
            deadline=30,
            comment=f"{self.name} is not operational",
        )

    def wait_ipv6(self, there: bool = True) -> None:
        """Waits until IPv6 has given the device an address, or taken it away."""
        ksft_busy_wait(
            lambda: (self.name in self.ns.ipv6_devices()) == there,
            deadline=30,
            comment=f"IPv6 on {self.name}: {not there}",
        )

    def up(self) -> None:
        self.ns.rtnl.change(self.name, {}, IFF_UP, IFF_UP)

    def down(self) -> None:
        self.ns.rtnl.change(self.name, {}, 0, IFF_UP)

    def move(self, to: Namespace) -> Self:
        """Into another namespace, where it is down at first."""
        self.ns.ip(f"link set {self.name} netns {to.name}")
        return replace(self, ns=to)

    def change(self, **data: Value) -> None:
        self.ns.rtnl.change(self.name, netkit(**data))

    def configure(self, *addresses: str) -> None:
        for address in addresses:
            self.ns.rtnl.newaddr(self.name, address)
        for address in addresses:
            self.ns.wait_local(address)

    def packets(self, protocol: int = ETH_P_TEST) -> PacketSocket:
        return PacketSocket(self.ns.name, self.name, protocol)


def emptied(ns: Namespace) -> None:
    """Waits until the namespace has lost all its devices."""
    ksft_busy_wait(
        lambda: ns.devices() == set(), deadline=60, comment="devices are left"
    )


def netkit(**data: Value) -> Attrs:
    """The attributes of a request about a netkit device."""
    return {
        "linkinfo": {
            "kind": "netkit",
            "data": {name.replace("_", "-"): value for name, value in data.items()},
        }
    }


def operational(*ports: Port) -> None:
    """Sets devices up that have a carrier only when all of them are."""
    for port in ports:
        port.up()
    for port in ports:
        port.wait_operational()


def pair(
    primary: Namespace,
    peer: Namespace,
    *,
    names: tuple[str, str] = ("nk0", "nk1"),
    up: bool = True,
    peer_link: Attrs | None = None,
    **data: Value,
) -> tuple[Port, Port]:
    """A pair, one end in one namespace, the other in another or in the same."""
    ports = Port(primary, names[0]), Port(peer, names[1])
    with ns_fd(peer.name) as fd:
        info = {"ifname": names[1], "net-ns-fd": fd} | dict(peer_link or {})
        primary.rtnl.newlink({"ifname": names[0]} | netkit(peer_info=info, **data))
    if up:
        operational(*ports)
    return ports


def single(
    ns: Namespace,
    *,
    name: str = "nk0",
    up: bool = True,
    link: Attrs | None = None,
    **data: Value,
) -> Port:
    """A single device."""
    ns.rtnl.newlink(
        {"ifname": name} | dict(link or {}) | netkit(pairing=Pairing.SINGLE, **data)
    )
    port = Port(ns, name)
    if up:
        port.up()
    return port


@contextmanager
def sending(*senders: Port) -> Iterator[Sequence[int]]:
    """Frames, by a process of its own for each of the ports named: how many each
    device has taken so far."""
    stop = fork.Event()
    tried, taken = (fork.Array("Q", len(senders)) for _ in range(2))

    def run(number: int) -> None:
        data = frame(BROADCAST)
        # Sockets that it has from us would keep their namespaces alive.
        os.closerange(3, 4096)
        with senders[number].packets() as out:
            while not stop.is_set():
                try:
                    taken[number] += out.send(data)
                except OSError as error:
                    # The device is down, or gone.
                    if error.errno in (errno.ENETDOWN, errno.ENXIO):
                        return
                    raise
                tried[number] += 1

    processes = [
        fork.Process(target=run, args=(number,)) for number in range(len(senders))
    ]
    for process in processes:
        process.start()
    try:
        ksft_busy_wait(lambda: min(tried) > 10, deadline=60, comment="nobody sends")
        yield taken
    finally:
        stop.set()
        for process in processes:
            process.join()
        ksft_eq([process.exitcode for process in processes], [0] * len(processes))


@contextmanager
def refused() -> Iterator[list[tuple[str, str | None]]]:
    """Collects errno and attribute of a refusal; stays empty without one."""
    answers: list[tuple[str, str | None]] = []
    try:
        yield answers
    except Refused as refusal:
        answers.append((refusal.error, refusal.attribute))


def tun(ns: Namespace) -> tuple[Port, int]:
    """A device whose packets are IP packets without any other header, and where
    those that it sends are read and those that it receives are written."""
    with NetNSEnter(ns.name):
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        defer(os.close, descriptor)
        fcntl.ioctl(
            descriptor, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI)
        )
    port = Port(ns, "tun0")
    port.up()
    return port, descriptor


def bare_packets(ns: Namespace, device: str) -> int:
    """Where IP packets are written that a device is to send as they are: the
    way to it of packets without any other header."""
    _, descriptor = tun(ns)
    tc("qdisc add dev tun0 clsact", ns=ns.name)
    tc(
        "filter add dev tun0 ingress matchall "
        f"action mirred egress redirect dev {device}",
        ns=ns.name,
    )
    return descriptor
