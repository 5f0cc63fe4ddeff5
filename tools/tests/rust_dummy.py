#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests the sample of a network device, samples/rust_netdev_dummy.rs: a second user of what netkit stands on.

Runs inside the guest: tools/vm -- tools/tests/rust_dummy.py
"""

import os
import sys
from pathlib import Path

NETTESTS = "tools/testing/selftests/drivers/net/netkit"
sys.path.append(f"{os.environ['NETKIT_TREE']}/{NETTESTS}")

from lib.py import ksft_eq, ksft_exit, ksft_run, ksft_true
from lib.py import BROADCAST, IFF_UP, Namespace, PacketSocket, cases, cmd, defer, frame
from lib.py import namespaces

MODULE = "rust_netdev_dummy"


def load() -> None:
    cmd(f"insmod {os.environ['NETKIT_BUILD']}/samples/rust/{MODULE}.ko")


def loaded() -> bool:
    return Path("/sys/module", MODULE).exists()


def unload() -> None:
    cmd(f"rmmod {MODULE}")


def add(ns: Namespace, name: str) -> None:
    ns.rtnl.newlink({"ifname": name, "linkinfo": {"kind": "rust_dummy"}})


def start() -> Namespace:
    load()
    defer(lambda: unload() if loaded() else None)
    (ns,) = namespaces(1)
    return ns


def test_drop_and_count() -> None:
    """Packets are counted, and dropped."""
    ns = start()
    add(ns, "rd0")
    ns.rtnl.change("rd0", {}, IFF_UP, IFF_UP)
    with PacketSocket(ns.name, "rd0") as packets:
        for _ in range(10):
            ksft_true(packets.send(frame(BROADCAST, length=100)))
        ksft_true(packets.empty())
    stats = ns.rtnl.getlink("rd0").stats
    ksft_eq((stats["tx_packets"], stats["tx_bytes"]), (10, 1000))
    ksft_eq((stats["rx_packets"], stats["tx_dropped"]), (0, 0))


def test_report() -> None:
    ns = start()
    add(ns, "rd0")
    link = ns.rtnl.getlink("rd0")
    ksft_eq(link.kind, "rust_dummy")
    ksft_eq(link["qdisc"], "noop")
    info = ns.ethtool("-i rd0").splitlines()
    ksft_eq(info[0], f"driver: {MODULE}")


def test_delete() -> None:
    ns = start()
    for name in ("rd0", "rd1"):
        add(ns, name)
    ns.rtnl.dellink({"ifname": "rd0"})
    ksft_eq(ns.devices(), {"rd1"})


def test_unload() -> None:
    """Unloading the module deletes its devices in every namespace."""
    first = start()
    (second,) = namespaces(1)
    for ns in (first, second):
        for name in ("rd0", "rd1"):
            add(ns, name)
        ns.rtnl.change("rd0", {}, IFF_UP, IFF_UP)
    unload()
    ksft_eq((first.devices(), second.devices()), (set(), set()))
    load()
    add(first, "rd0")
    ksft_eq(first.devices(), {"rd0"})


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
