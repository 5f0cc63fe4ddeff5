#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
The sample of a network device in Rust, samples/rust/rust_netdev_dummy.rs: a
second user of the abstractions that netkit stands on.
"""

import os
from pathlib import Path

from lib.py import KsftSkipEx, ksft_eq, ksft_exit, ksft_run, ksft_true
from lib.py import BROADCAST, IFF_UP, KernelLog, Namespace, PacketSocket, cases, cmd
from lib.py import defer, frame, namespaces

MODULE = "rust_netdev_dummy"


def load() -> None:
    """From the build directory, where the module is not installed."""
    build = os.environ.get("NETKIT_BUILD")
    if build is None and cmd(f"modprobe -n {MODULE}", fail=False).ret:
        raise KsftSkipEx(f"{MODULE} was not built")
    cmd(f"insmod {build}/samples/rust/{MODULE}.ko" if build else f"modprobe {MODULE}")


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
    """What is sent is counted, and that is all."""
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
    """Takes all devices with it, wherever they are."""
    first = start()
    (second,) = namespaces(1)
    log = KernelLog()
    for ns in (first, second):
        for name in ("rd0", "rd1"):
            add(ns, name)
        ns.rtnl.change("rd0", {}, IFF_UP, IFF_UP)
    unload()
    ksft_eq((first.devices(), second.devices()), (set(), set()))
    load()
    add(first, "rd0")
    ksft_eq(first.devices(), {"rd0"})
    ksft_eq(log.complaints(), [])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
