# SPDX-License-Identifier: GPL-2.0

"""
Where packets can be redirected to, and what the devices count of it.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from net.lib.py import NetNSEnter, ksft_busy_wait, ksft_eq, tc

from .bpf import AttachType, F, Hook, Program, ProgType, Way, pin_path
from .insn import Helper, Reg, add, call, mov, ret, store32
from .netkit import Namespace, Port, namespaces, operational, pair
from .packet import ETH_HLEN, frame, protocol_of
from .rtnl import Value

# The helpers' flags: which way a packet goes there.
INGRESS, EGRESS = 1, 2
XDP_TX = 3


def redirecting(
    index: int, flags: int = 0, helper: Helper = Helper.REDIRECT
) -> list[bytes]:
    """What a program does last that redirects."""
    return [mov(Reg.R1, index), mov(Reg.R2, flags), call(helper)]


def redirect(
    index: int,
    flags: int = 0,
    helper: Helper = Helper.REDIRECT,
    kind: ProgType = ProgType.SCHED_CLS,
) -> Program:
    return Program([*redirecting(index, flags, helper), ret()], kind)


def tc_filter(port: Port, side: str, program: Program, then: str) -> None:
    """Has clsact run a program, and then do as tc is told."""
    path = pin_path("filter")
    program.pin(path)
    tc(f"qdisc add dev {port.name} clsact", ns=port.ns.name)
    # tc's own way into a namespace hides the file system of pins.
    with NetNSEnter(port.ns.name):
        tc(f"filter add dev {port.name} {side} bpf object-pinned {path} {then}")


def next_hop(address: str) -> bytes:
    """struct bpf_redir_neigh."""
    hop = ipaddress.ip_address(address)
    family = socket.AF_INET if hop.version == 4 else socket.AF_INET6
    return struct.pack("=I16s", family, hop.packed)


def redirect_neigh(
    index: int, hop: bytes = b"", size: int | None = None, flags: int = 0
) -> Program:
    """size is what the helper is told of the length of the hop."""
    code = [mov(Reg.R2, 0)]
    if hop:
        words = struct.unpack(f"={len(hop) // 4}i", hop)
        code = [
            store32(Reg.FP, 4 * place - len(hop), word)
            for place, word in enumerate(words)
        ]
        code += [mov(Reg.R2, Reg.FP), add(Reg.R2, -len(hop))]
    return Program(
        [
            *code,
            mov(Reg.R1, index),
            mov(Reg.R3, len(hop) if size is None else size),
            mov(Reg.R4, flags),
            call(Helper.REDIRECT_NEIGH),
            ret(),
        ]
    )


def made(ns: Namespace, name: str, kind: str = "dummy", up: bool = True) -> Port:
    ns.rtnl.newlink({"ifname": name, "linkinfo": {"kind": kind}})
    port = Port(ns, name)
    if up:
        port.up()
    return port


def veth(ns: Namespace, other: Namespace) -> tuple[Port, Port]:
    """One end in each of the namespaces."""
    ns.ip(f"link add v0 type veth peer name v1 netns {other.name}")
    ports = Port(ns, "v0"), Port(other, "v1")
    operational(*ports)
    return ports


class Segment:
    """A veth device that programs redirect to, with routes for both versions of
    IP, and what is known of those on the other side."""

    LLADDR = bytes.fromhex("020000000042")
    NETWORK, ROUTE = "198.51.100.1/24", "2001:db8:1::/64"

    def __init__(self, ns: Namespace) -> None:
        (third,) = namespaces(1)
        self.near, self.far = veth(ns, third)
        # A namespace that never had an address takes all others for broadcast.
        self.near.configure(self.NETWORK)
        # Without an address it speaks IPv6, and does not speak unasked.
        self._sysctl("ipv6/conf", "addr_gen_mode", 1)
        self._sysctl("ipv6/conf", "disable_ipv6", 0)
        ns.ip(f"route add {self.ROUTE} dev v0")

    def _sysctl(self, group: str, name: str, value: int) -> None:
        self.near.ns.sysctl(f"net/{group}/v0/{name}", value)

    def solicit(self, count: int) -> None:
        """How often to ask for an address, which takes a long time each."""
        for group in ("ipv4/neigh", "ipv6/neigh"):
            self._sysctl(group, "retrans_time_ms", 60000)
            self._sysctl(group, "mcast_solicit", count)

    def know(self, *addresses: str) -> None:
        for address in addresses:
            self.near.ns.ip(
                f"neigh replace {address} lladdr {self.LLADDR.hex(':')} dev v0"
            )

    def forget(self, address: str) -> None:
        self.near.ns.ip(f"neigh del {address} dev v0")

    def header(self, data: bytes) -> bytes:
        """A frame with the addresses that it has on the link."""
        return self.LLADDR + self.near.address + data[ETH_HLEN - 2 :]


def send_back(port: Port) -> None:
    """Has generic XDP send back what the device receives."""
    program = Program([mov(Reg.R0, XDP_TX), ret()], ProgType.XDP)
    Hook.of(port, AttachType.XDP).link(program, F.XDP_GENERIC)


def second_pair(ns: Namespace, other: Namespace, **data: Value) -> tuple[Port, Port]:
    """Of other names than the first one."""
    return pair(ns, other, names=("nk2", "nk3"), **data)


@contextmanager
def grown(**expected: tuple[Port, dict[str, int]]) -> Iterator[None]:
    """What the devices count meanwhile; all other counters must not change."""
    before = {name: port.stats for name, (port, _) in expected.items()}
    yield
    for name, (port, growth) in expected.items():
        # Where packets pass a queue they are counted later.
        ksft_busy_wait(
            lambda port=port, growth=growth, start=before[name]: all(
                port.stats[key] - start[key] >= value for key, value in growth.items()
            ),
            deadline=30,
            comment=name,
        )
        after = port.stats
        if "rx_packets" in growth:
            # Of the core's, where no socket waits for the frame.
            del after["rx_dropped"]
        ksft_eq(
            {key: after[key] - before[name][key] for key in after},
            dict.fromkeys(after, 0) | growth,
            name,
        )


def sent(count: int = 1, length: int = 60) -> dict[str, int]:
    return {"tx_packets": count, "tx_bytes": count * length}


def received(count: int = 1, length: int = 60) -> dict[str, int]:
    return {"rx_packets": count, "rx_bytes": count * length}


def send(each: Way, count: int = 1, destination: bytes | None = None) -> list[bool]:
    return send_frame(each, frame(destination or each.receiver.address), count)


def send_frame(each: Way, data: bytes, count: int = 1) -> list[bool]:
    with each.sender.packets(protocol_of(data)) as out:
        return [out.send(data) for _ in range(count)]
