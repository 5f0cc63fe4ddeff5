#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What user space is told about netkit devices.
"""

import platform
import struct

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_run
from lib.py import ksft_variants
from lib.py import EthtoolFamily, MODES, Mode, Monitor, NetNSEnter, Pairing, Policy
from lib.py import Port, RTM_DELLINK, RTM_NEWLINK, RtnlFamily, Scrub, cases, ip
from lib.py import namespaces, pair, single

IFF_BROADCAST, IFF_NOARP, IFF_MULTICAST = 0x2, 0x80, 0x1000
ARPHRD_ETHER = 1
OPER_UP = 6

FEATURES = {
    "tx-scatter-gather",
    "tx-checksum-ip-generic",
    "tx-scatter-gather-fraglist",
    "tx-vlan-hw-insert",
    "rx-vlan-hw-parse",
    "tx-vlan-stag-hw-insert",
    "rx-vlan-stag-hw-parse",
    "highdma",
    "rx-checksum",
    "tx-checksum-sctp",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-sctp-segmentation",
    "tx-udp-segmentation",
    "tx-gso-list",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
}

# What the core adds to any device.
CORE_FEATURES = {"rx-gro", "tx-generic-segmentation"}
CORE_FEATURES_OFF = {"rx-gro-list", "rx-udp-gro-forwarding", "tx-nocache-copy"}

TYPES = {
    1: "I",
    2: "B",
    3: "I",
    4: "I",
    5: "I",
    6: "I",
    7: "I",
    8: "H",
    9: "H",
    10: "I",
}


def packed(*attributes: tuple[int, int]) -> bytes:
    """Attributes as the kernel lays them out, padding included."""
    found = b""
    for number, value in attributes:
        payload = struct.pack(f"={TYPES[number]}", value)
        found += struct.pack("=HH", 4 + len(payload), number)
        found += payload.ljust(4, b"\0")
    return found


@ksft_variants(
    [
        KsftNamedVariant("defaults", {}),
        KsftNamedVariant(
            "all_different",
            {
                "mode": Mode.L2,
                "policy": Policy.DROP,
                "scrub": Scrub.NONE,
                "headroom": 0x1234,
                "tailroom": 0x5678,
            },
        ),
        KsftNamedVariant(
            "peer_different",
            {
                "peer_policy": Policy.DROP,
                "peer_scrub": Scrub.NONE,
                "headroom": 65535,
                "tailroom": 1,
            },
        ),
    ]
)
def test_pair(data: dict[str, int]) -> None:
    """Every byte of both devices' attributes."""
    (ns,) = namespaces(1)
    primary, peer = pair(ns, ns, up=False, **data)
    own = (data.get("policy", Policy.PASS), data.get("scrub", Scrub.DEFAULT))
    others = (
        data.get("peer_policy", Policy.PASS),
        data.get("peer_scrub", Scrub.DEFAULT),
    )
    for port, is_primary, mine, theirs in (
        (primary, 1, own, others),
        (peer, 0, others, own),
    ):
        ksft_eq(
            port.link.raw_data.hex(),
            packed(
                (2, is_primary),
                (3, mine[0]),
                (5, data.get("mode", Mode.L3)),
                (6, mine[1]),
                (8, data.get("headroom", 0)),
                (9, data.get("tailroom", 0)),
                (10, Pairing.PAIR),
                (4, theirs[0]),
                (7, theirs[1]),
            ).hex(),
            port.name,
        )


@ksft_variants(MODES)
def test_single(mode: Mode) -> None:
    port = single(namespaces(1)[0], up=False, mode=mode, headroom=7, tailroom=9)
    ksft_eq(
        port.link.raw_data.hex(),
        packed(
            (2, 1), (3, Policy.PASS), (5, mode), (8, 7), (9, 9), (10, Pairing.SINGLE)
        ).hex(),
    )


def test_ynl() -> None:
    """The specification knows all attributes, under these names."""
    (ns,) = namespaces(1)
    pair(ns, ns, up=False, policy=Policy.DROP, headroom=5)
    with NetNSEnter(ns.name), RtnlFamily() as rtnl:
        link = rtnl.getlink({"ifname": "nk0"})
    ksft_eq(
        link["linkinfo"]["data"],
        {
            "primary": 1,
            "policy": "blackhole",
            "mode": "l3",
            "scrub": "default",
            "headroom": 5,
            "tailroom": 0,
            "pairing": "pair",
            "peer-policy": "forward",
            "peer-scrub": "default",
        },
    )


def test_iproute2() -> None:
    """What every iproute2 that knows netkit prints."""
    (ns,) = namespaces(1)
    pair(ns, ns, up=False, mode=Mode.L2, peer_policy=Policy.DROP)
    for name, policy, peer_policy, kind in (
        ("nk0", "forward", "blackhole", "primary"),
        ("nk1", "blackhole", "forward", "peer"),
    ):
        info = ip(f"-d link show dev {name}", json=True, ns=ns.name)[0]["linkinfo"]
        ksft_eq(info["info_kind"], "netkit")
        data = info["info_data"]
        ksft_eq(
            {key: data[key] for key in ("mode", "type", "policy", "peer_policy")},
            {"mode": "l2", "type": kind, "policy": policy, "peer_policy": peer_policy},
        )


@ksft_variants(
    [
        KsftNamedVariant("L2", Mode.L2, 0),
        KsftNamedVariant("L3", Mode.L3, IFF_NOARP),
    ]
)
def test_flags(mode: Mode, noarp: int) -> None:
    """An Ethernet device in either mode; only L2 resolves addresses."""
    (ns,) = namespaces(1)
    (ns_single,) = namespaces(1)
    for port in (
        *pair(ns, ns, up=False, mode=mode),
        single(ns_single, up=False, mode=mode),
    ):
        link = port.link
        ksft_eq(link.type, ARPHRD_ETHER)
        ksft_eq(link.flags, IFF_BROADCAST | IFF_MULTICAST | noarp)
        ksft_eq(bytes(link["broadcast"]), b"\xff" * 6)
        ksft_eq(len(bytes(link["address"])), 6)
        ksft_eq(link.attrs.get("perm-address"), None)


LIMITS = {
    "mtu": 1500,
    "min-mtu": 68,
    "max-mtu": 65535,
    "txqlen": 1000,
    "gso-max-size": 65536,
    "gso-ipv4-max-size": 65536,
    "gso-max-segs": 65535,
    "tso-max-size": 524280,
    "tso-max-segs": 65535,
    "gro-max-size": 65536,
    "num-tx-queues": 1,
    "num-rx-queues": 1,
    "group": 0,
    "promiscuity": 0,
    "allmulti": 0,
}


def test_limits() -> None:
    ns, ns_single = namespaces(2)
    for port in (*pair(ns, ns, up=False), single(ns_single, up=False)):
        link = port.link
        ksft_eq({name: link[name] for name in LIMITS}, LIMITS, port.name)


@ksft_variants(["pair", "single"])
def test_no_queue(kind: str) -> None:
    (ns,) = namespaces(1)
    ports = pair(ns, ns) if kind == "pair" else (single(ns),)
    for port in ports:
        ksft_eq(port.link["qdisc"], "noqueue")


def test_room_of_device() -> None:
    """The same in the attributes that all devices have."""
    (ns,) = namespaces(1)
    for port in pair(ns, ns, up=False, headroom=100, tailroom=50):
        ksft_eq((port.link["headroom"], port.link["tailroom"]), (100, 50))


def features(port: Port) -> dict[str, set[str]]:
    with NetNSEnter(port.ns.name), EthtoolFamily() as family:
        answer = family.features_get({"header": {"dev-name": port.name}})
    # A set with a mask lists all features there are, and marks its own.
    return {
        part: {
            bit["name"]
            for bit in answer[part].get("bits", {}).get("bit", [])
            if "nomask" in answer[part] or "value" in bit
        }
        for part in ("hw", "wanted", "active", "nochange")
    }


@ksft_variants(["pair", "single"])
def test_features(kind: str) -> None:
    """Those of the driver can all be changed, and all are on."""
    (ns,) = namespaces(1)
    ports = pair(ns, ns) if kind == "pair" else (single(ns),)
    for port in ports:
        found = features(port)
        ksft_eq(found["hw"], FEATURES | CORE_FEATURES | CORE_FEATURES_OFF)
        ksft_eq(found["active"], FEATURES | CORE_FEATURES)
        ksft_eq(found["wanted"], FEATURES | CORE_FEATURES)


def test_features_of_vlan() -> None:
    """A VLAN on top has those that are about sending, tags aside."""
    (ns,) = namespaces(1)
    port, _ = pair(ns, ns, mode=Mode.L2)
    ns.ip(f"link add link {port.name} name vlan0 up type vlan id 1")
    found = features(Port(ns, "vlan0"))
    below = {name for name in FEATURES if "vlan" in name or name.startswith("rx-")}
    ksft_eq(len(below), 5)
    ksft_eq(found["active"], (FEATURES - below) | CORE_FEATURES)


def test_driver() -> None:
    (ns,) = namespaces(1)
    for port in pair(ns, ns, up=False):
        text = ns.ethtool(f"-i {port.name}")
        info = dict(line.split(":", 1) for line in text.splitlines())
        info = {key: value.strip() for key, value in info.items()}
        ksft_eq(
            info,
            {
                "driver": "netkit",
                "version": platform.release(),
                "firmware-version": "",
                "expansion-rom-version": "",
                "bus-info": "",
                "supports-statistics": "no",
                "supports-test": "no",
                "supports-eeprom-access": "no",
                "supports-register-dump": "no",
                "supports-priv-flags": "no",
            },
        )


def test_link_same_namespace() -> None:
    """Each names the other, and no namespace."""
    (ns,) = namespaces(1)
    primary, peer = pair(ns, ns, up=False)
    for port, other in ((primary, peer), (peer, primary)):
        ksft_eq(port.link["link"], other.link.index)
        ksft_eq(port.link.attrs.get("link-netnsid"), None)


def test_link_other_namespace() -> None:
    ns, other = namespaces(2)
    primary, peer = pair(ns, other, up=False)
    for port, partner in ((primary, peer), (peer, primary)):
        ksft_eq(port.link["link"], partner.link.index)
        ksft_eq(port.ns.nsid(partner.ns), port.link["link-netnsid"])


def notified(monitor: Monitor) -> list[tuple[str, str]]:
    kinds = {RTM_NEWLINK: "new", RTM_DELLINK: "del"}
    return [(kinds[kind], link.name) for kind, link in monitor.seen()]


@ksft_variants(
    [
        # In L2 the flag NOARP is taken away from a device that is there already.
        KsftNamedVariant("L2", Mode.L2, [("new", "nk1")] * 2 + [("new", "nk0")] * 2),
        KsftNamedVariant("L3", Mode.L3, [("new", "nk1"), ("new", "nk0")]),
    ]
)
def test_notifications(mode: Mode, created: list[tuple[str, str]]) -> None:
    """Each device is announced when made and deleted.

    Of a change only that of a device that is up is, as the core has it.
    """
    (ns,) = namespaces(1)
    with Monitor(ns.name) as monitor:
        primary, _ = pair(ns, ns, up=False, mode=mode)
        ksft_eq(notified(monitor), created)
        primary.change(policy=Policy.DROP)
        ksft_eq(notified(monitor), [])
        ns.rtnl.dellink({"ifname": "nk0"})
        ksft_eq(notified(monitor), [("del", "nk0"), ("del", "nk1")])


def test_notification_of_change() -> None:
    """The device that was asked, and not the one that changed."""
    (ns,) = namespaces(1)
    primary, peer = pair(ns, ns)
    # The announcements of the carrier come late.
    ksft_busy_wait(
        lambda: (
            primary.link["operstate"] == OPER_UP and peer.link["operstate"] == OPER_UP
        ),
        deadline=30,
    )
    with Monitor(ns.name) as monitor:
        primary.change(peer_policy=Policy.DROP)
        ksft_eq(notified(monitor), [("new", "nk0")])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
