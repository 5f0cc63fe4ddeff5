#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Netkit devices under the settings of any network device.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_gt, ksft_in, ksft_raises
from lib.py import ksft_run, ksft_variants
from lib.py import AttachType, Attrs, F, Hook, MODES, Mode, Namespace, NetNSEnter
from lib.py import Pairing, Port, Program, answer, cases, frame, insn, namespaces
from lib.py import netkit, pair, refused, single
from lib.py.bpf import ProgType

MAC = bytes.fromhex("020000000099")
MULTICAST = bytes.fromhex("010000000001")
IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI = 0x80, 0x100, 0x200
SKB_PAD = 64
IPV6_MIN_MTU = 1280
PKTGEN = Path("/proc/thread-self/net/pktgen")


KINDS = ["primary", "peer", "single"]


def made(kind: str, mode: Mode, up: bool = True) -> Port:
    (ns,) = namespaces(1, ipv6=True)
    if kind == "single":
        return single(ns, up=up, mode=mode)
    primary, peer = pair(ns, ns, up=up, mode=mode)
    return primary if kind == "primary" else peer


def answers_to(port: Port, attrs: Attrs) -> list[tuple[str, str | None]]:
    with refused() as answers:
        port.ns.rtnl.change(port.name, attrs)
    return answers


@ksft_variants(MODES)
def test_address(mode: Mode) -> None:
    """Changeable in L2 only, and there while the device is up."""
    for kind in KINDS:
        port = made(kind, mode)
        before = port.address
        answers = answers_to(port, {"address": MAC})
        if mode == Mode.L2:
            ksft_eq((answers, port.address), ([], MAC), kind)
        else:
            ksft_eq((answers, port.address), ([("EOPNOTSUPP", None)], before), kind)


@ksft_variants(
    [
        KsftNamedVariant("multicast", MULTICAST),
        KsftNamedVariant("zero", bytes(6)),
    ]
)
def test_bad_address(address: bytes) -> None:
    for kind in ("primary", "single"):
        port = made(kind, Mode.L2)
        before = port.address
        ksft_eq(answers_to(port, {"address": address}), [("EADDRNOTAVAIL", None)])
        ksft_eq(port.address, before)


def test_address_in_force() -> None:
    """The new address decides what is for the device."""
    primary, peer = pair(*namespaces(2, ipv6=True), mode=Mode.L2)
    old = peer.address
    ksft_eq(answers_to(peer, {"address": MAC}), [])
    with primary.packets() as out, peer.packets() as into:
        for destination, kind in (
            (MAC, socket.PACKET_HOST),
            (old, socket.PACKET_OTHERHOST),
        ):
            out.send(frame(destination))
            ksft_eq(into.receive().type, kind)


def test_mtu() -> None:
    """With IPv6, which leaves a device that is too small for it and comes back."""
    for kind in KINDS:
        port = made(kind, Mode.L3)
        port.wait_ipv6()
        for mtu in (68, 65535, 1500):
            ksft_eq(answers_to(port, {"mtu": mtu}), [], kind)
            ksft_eq(port.link["mtu"], mtu, kind)
            port.wait_ipv6(mtu >= IPV6_MIN_MTU)
        for mtu in (0, 67, 65536):
            ksft_eq(answers_to(port, {"mtu": mtu}), [("EINVAL", None)], kind)
        ksft_eq(port.link["mtu"], 1500, kind)


def test_mtu_of_one() -> None:
    """The other end keeps its own."""
    primary, peer = pair(*namespaces(2, ipv6=True))
    ksft_eq(answers_to(primary, {"mtu": 9000}), [])
    ksft_eq((primary.link["mtu"], peer.link["mtu"]), (9000, 1500))


@ksft_variants(
    [
        KsftNamedVariant("gso_max_size", "gso-max-size", 524280, 524281),
        KsftNamedVariant("gso_ipv4_max_size", "gso-ipv4-max-size", 524280, 524281),
        KsftNamedVariant("gso_max_segs", "gso-max-segs", 65535, 65536),
        KsftNamedVariant("gro_max_size", "gro-max-size", 524280, 524281),
    ]
)
def test_limits(name: str, most: int, too_much: int) -> None:
    for kind in KINDS:
        port = made(kind, Mode.L3)
        ksft_eq(answers_to(port, {name: too_much}), [("EINVAL", None)])
        ksft_eq(answers_to(port, {name: most}), [])
        ksft_eq(port.link[name], most)


def test_filters() -> None:
    """Asking for more packets is granted."""
    for kind in KINDS:
        port = made(kind, Mode.L2)
        for flag in (IFF_PROMISC, IFF_ALLMULTI):
            for value in (flag, 0):
                port.ns.rtnl.change(port.name, {}, value, flag)
                ksft_eq(port.link.flags & flag, value, kind)
        port.ns.ip(f"maddr add 33:33:00:00:00:42 dev {port.name}")
        port.ns.ip(f"maddr del 33:33:00:00:00:42 dev {port.name}")


def others(sender: Port, receiver: Port) -> list[int]:
    """Types of the packets that come, sent to others and to several."""
    with sender.packets() as out, receiver.packets() as into:
        return [
            into.receive().type
            for destination in (MAC, MULTICAST)
            if out.send(frame(destination))
        ]


@ksft_variants(MODES)
def test_filters_mean_nothing(mode: Mode) -> None:
    """All that is sent comes, whether it was asked for or not."""
    ports = pair(*namespaces(2, ipv6=True), mode=mode)
    everything = [socket.PACKET_OTHERHOST, socket.PACKET_MULTICAST]
    for sender, receiver in (ports, ports[::-1]):
        ksft_eq(others(sender, receiver), everything)
        for flag in (IFF_PROMISC, IFF_ALLMULTI):
            receiver.ns.rtnl.change(receiver.name, {}, flag, flag)
            ksft_eq(others(sender, receiver), everything)


def test_xdp() -> None:
    """Programs in generic mode only, for which one has to ask."""
    program = Program([insn.mov(insn.Reg.R0, 0), insn.ret()], ProgType.XDP)
    for kind in KINDS:
        hook = Hook.of(made(kind, Mode.L3), AttachType.XDP)
        for flags, error in (
            (F.NONE, "EOPNOTSUPP"),
            (F.XDP_DRIVER, "EOPNOTSUPP"),
            (F.XDP_GENERIC, ""),
        ):
            ksft_eq(answer(hook.link, program, flags), error, f"{kind} {flags}")


@ksft_variants(MODES)
def test_arp(mode: Mode) -> None:
    """A matter of the mode at first, of the user later."""
    for kind in KINDS:
        port = made(kind, mode)
        start = port.link.flags & IFF_NOARP
        ksft_eq(start, IFF_NOARP if mode == Mode.L3 else 0, kind)
        port.ns.rtnl.change(port.name, {}, IFF_NOARP - start, IFF_NOARP)
        ksft_eq(port.link.flags & IFF_NOARP, IFF_NOARP - start, kind)


def test_offload_switches() -> None:
    for kind in KINDS:
        port = made(kind, Mode.L3)
        for value in ("off", "on"):
            port.ns.ethtool(
                f"-K {port.name} tx {value} sg {value} tso {value} "
                f"rxvlan {value} txvlan {value}"
            )
            shown = port.ns.ethtool(f"-k {port.name}")
            for feature in (
                "tx-checksum-ip-generic",
                "tx-scatter-gather",
                "tx-tcp-segmentation",
                "rx-vlan-offload",
                "tx-vlan-offload",
            ):
                ksft_in(f"{feature}: {value}\n", shown, kind)


@contextmanager
def pktgen(port: Port) -> Iterator[Path]:
    """Where the kernel's packet generator is told what to send through the device."""
    with NetNSEnter(port.ns.name):
        thread = PKTGEN / "kpktgend_0"
        thread.write_text(f"add_device {port.name}", encoding="ascii")
        try:
            yield PKTGEN / port.name
        finally:
            thread.write_text("rem_device_all", encoding="ascii")


# Nobody else shares packets: without it, nobody is there to be refused.
@ksft_variants(KINDS if PKTGEN.exists() else [])
def test_no_shared_packets(kind: str) -> None:
    """The driver owns what it is given, so that nobody may send it once more."""
    with pktgen(made(kind, Mode.L3)) as settings:
        settings.write_text("clone_skb 0", encoding="ascii")
        with ksft_raises(OSError) as raised:
            settings.write_text("clone_skb 1", encoding="ascii")
    ksft_eq(raised.exception.errno, errno.EOPNOTSUPP)


def bridge(ns: Namespace) -> int:
    """A bridge with a port that needs room; how much that is.

    More than what a device has that nobody needs room of: the tunnel runs over
    a device that needs it, too.
    """
    ns.rtnl.newlink(
        {"ifname": "under"} | netkit(pairing=Pairing.SINGLE, headroom=2 * SKB_PAD)
    )
    ns.ip("link add br0 type bridge")
    ns.ip("link add tap0 type gretap local 192.0.2.1 remote 192.0.2.2 dev under")
    ns.ip("link set tap0 master br0")
    wanted = int(ns.rtnl.getlink("br0")["headroom"])
    ksft_gt(wanted, 2 * SKB_PAD)
    return wanted


def rooms(*ports: Port) -> list[tuple[object, object]]:
    """Headroom by the driver's word and by the core's."""
    return [(port.link.data["headroom"], port.link["headroom"]) for port in ports]


def same(value: int, count: int = 2) -> list[tuple[int, int]]:
    return [(value, value)] * count


@ksft_variants(
    [
        KsftNamedVariant("none", 0),
        KsftNamedVariant("little", 8),
        KsftNamedVariant("much", 500),
    ]
)
def test_headroom_in_bridge(own: int) -> None:
    """Both ends have what the one that needs more does."""
    primary, peer = pair(*namespaces(2, ipv6=True), mode=Mode.L2, headroom=own)
    wanted = bridge(primary.ns)
    ksft_eq(rooms(primary, peer), same(own))
    primary.ns.ip("link set nk0 master br0")
    ksft_eq(rooms(primary, peer), same(max(wanted, own)))
    primary.ns.ip("link set nk0 nomaster")
    ksft_eq(rooms(primary, peer), same(max(SKB_PAD, own)))


def test_headroom_of_peer() -> None:
    primary, peer = pair(*namespaces(2, ipv6=True), mode=Mode.L2)
    wanted = bridge(peer.ns)
    peer.ns.ip("link set nk1 master br0")
    ksft_eq(rooms(primary, peer), same(wanted))


def test_headroom_in_two_bridges() -> None:
    """One that leaves does not take away what the other needs."""
    primary, peer = pair(*namespaces(2, ipv6=True), mode=Mode.L2)
    bridge(primary.ns)
    primary.ns.ip("link set nk0 master br0")
    wanted = bridge(peer.ns)
    peer.ns.ip("link set nk1 master br0")
    primary.ns.ip("link set nk0 nomaster")
    ksft_eq(rooms(primary, peer), same(max(SKB_PAD, wanted)))
    peer.ns.ip("link set nk1 nomaster")
    ksft_eq(rooms(primary, peer), same(SKB_PAD))


@ksft_variants(
    [
        KsftNamedVariant("none", 0),
        KsftNamedVariant("much", 500),
    ]
)
def test_headroom_of_single(own: int) -> None:
    """With nobody to agree with, the last wish counts."""
    port = single(namespaces(1, ipv6=True)[0], mode=Mode.L2, headroom=own)
    wanted = bridge(port.ns)
    port.ns.ip("link set nk0 master br0")
    ksft_eq(rooms(port), same(wanted, 1))
    port.ns.ip("link set nk0 nomaster")
    ksft_eq(rooms(port), same(SKB_PAD, 1))


def test_tailroom_in_bridge() -> None:
    """Nobody can change it."""
    primary, peer = pair(*namespaces(2, ipv6=True), mode=Mode.L2, tailroom=77)
    bridge(primary.ns)
    primary.ns.ip("link set nk0 master br0")
    ksft_eq([port.link.data["tailroom"] for port in (primary, peer)], [77, 77])


def test_no_bridge_in_l3() -> None:
    """A device without an address is no port of a bridge."""
    primary, _ = pair(*namespaces(2, ipv6=True), mode=Mode.L3)
    bridge(primary.ns)
    master = primary.ns.rtnl.getlink("br0").index
    ksft_eq(answers_to(primary, {"master": master}), [("EINVAL", None)])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
