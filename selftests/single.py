#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Single devices, which have no peer.
"""

import errno

from lib.py import ksft_eq, ksft_exit, ksft_raises, ksft_run, ksft_true, ksft_variants
from lib.py import BROADCAST, IFF_UP, MODES, Mode, Pairing, Policy, Port, cases, emptied
from lib.py import frame, namespaces, netkit, ns_fd, pair, single


def test_alone() -> None:
    """One device, and nothing else."""
    (ns,) = namespaces(1)
    single(ns)
    ksft_eq(ns.devices(), {"nk0"})


def test_attributes() -> None:
    """What there is to say of it, and in the order of the driver."""
    port = single(namespaces(1)[0], mode=Mode.L2, headroom=40, tailroom=20)
    ksft_eq(
        list(port.link.data.items()),
        [
            ("primary", 1),
            ("policy", Policy.PASS),
            ("mode", Mode.L2),
            ("headroom", 40),
            ("tailroom", 20),
            ("pairing", Pairing.SINGLE),
        ],
    )


def test_no_link() -> None:
    """The other end is no device, and in no other namespace."""
    link = single(namespaces(1)[0]).link
    ksft_eq((link["link"], link.attrs.get("link-netnsid")), (0, None))


@ksft_variants(MODES)
def test_send(mode: Mode) -> None:
    """Nothing passes and everything is counted."""
    port = single(namespaces(1)[0], mode=mode)
    with port.packets() as packets:
        for destination in (BROADCAST, port.address):
            ksft_eq(packets.send(frame(destination)), False)
        ksft_true(packets.empty())
    stats = port.stats
    ksft_eq((stats["tx_dropped"], stats["tx_packets"], stats["rx_packets"]), (2, 0, 0))


def test_send_down() -> None:
    """The core's error, before the driver sees the frame."""
    port = single(namespaces(1)[0], up=False)
    with port.packets() as packets, ksft_raises(OSError) as raised:
        packets.send(frame(BROADCAST))
    ksft_eq(raised.exception.errno, errno.ENETDOWN)
    ksft_eq(port.stats["tx_dropped"], 0)


@ksft_variants([1, 2, 16, 1024])
def test_rx_queues(count: int) -> None:
    """As many as asked for may be had, and one is there."""
    (ns,) = namespaces(1)
    port = single(ns, link={"num-rx-queues": count})
    ksft_eq((port.link["num-rx-queues"], port.link["num-tx-queues"]), (count, 1))
    queues = ns.netdev.queue_get({"ifindex": port.link.index}, dump=True)
    ksft_eq(
        sorted((queue["type"], queue["id"]) for queue in queues), [("rx", 0), ("tx", 0)]
    )


def test_xdp_features() -> None:
    """AF_XDP's, which a device of a pair has not."""
    (ns,) = namespaces(1)
    port = single(ns)
    info = ns.netdev.dev_get({"ifindex": port.link.index})
    ksft_eq(info["xdp-features"], {"basic", "redirect", "xsk-zerocopy"})
    ns.rtnl.dellink({"ifname": "nk0"})
    for port in pair(ns, ns):
        info = ns.netdev.dev_get({"ifindex": port.link.index})
        ksft_eq(info["xdp-features"], set())


def test_delete() -> None:
    (ns,) = namespaces(1)
    single(ns)
    ns.rtnl.dellink({"ifname": "nk0"})
    ksft_eq(ns.devices(), set())


def test_created_elsewhere() -> None:
    caller, target = namespaces(2)
    with ns_fd(target.name) as fd:
        caller.rtnl.newlink(
            {"ifname": "nk0", "net-ns-fd": fd} | netkit(pairing=Pairing.SINGLE)
        )
    ksft_eq(caller.devices(), set())
    ksft_eq(target.devices(), {"nk0"})


def test_move() -> None:
    """It works on in the other namespace, and goes with it."""
    ns, other = namespaces(2)
    port = single(ns, mode=Mode.L2, headroom=40)
    before = port.link
    moved = port.move(other)
    ksft_eq(ns.devices(), set())
    ksft_eq(
        (moved.link.data, moved.link.address, moved.link.flags & IFF_UP),
        (before.data, before.address, 0),
    )
    moved.up()
    ksft_eq(moved.link["carrier"], 1)
    with moved.packets() as packets:
        ksft_eq(packets.send(frame(BROADCAST)), False)
    ksft_eq(moved.stats["tx_dropped"], 1)


def test_namespace_deleted() -> None:
    """It goes with its namespace, together with a pair there.

    A VLAN device on it tells: it is in another namespace, and goes when it does.
    """
    ns, other = namespaces(2)
    pair(ns, other)
    lone = single(other, name="lone", mode=Mode.L2)
    other.ip(f"link add link {lone.name} name vlan type vlan id 5")
    Port(other, "vlan").move(ns)
    ksft_eq(ns.devices(), {"nk0", "vlan"})
    other.delete()
    emptied(ns)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
