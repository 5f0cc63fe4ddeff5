#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests what the patches beside this file add to ip: single devices, and the room around packets.

Runs inside the guest: tools/vm -- tools/tests/iproute2.py
"""

import os
import sys

NETTESTS = "tools/testing/selftests/drivers/net/netkit"
sys.path.append(f"{os.environ['NETKIT_TREE']}/{NETTESTS}")

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_in, ksft_ne, ksft_run
from lib.py import ksft_variants
from lib.py import Namespace, Pairing, cases, cmd, ip, namespaces


def phrases(*texts: str) -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(text.replace(" ", "_") or "nothing", text) for text in texts
    ]


def info(ns: Namespace, name: str) -> dict[str, object]:
    (link,) = ip(f"-d link show dev {name}", json=True, ns=ns.name)
    return link["linkinfo"]["info_data"]


def details(ns: Namespace, name: str) -> str:
    return ip(f"-d link show dev {name}", ns=ns.name).stdout


@ksft_variants(
    [
        KsftNamedVariant("default", "single", "l3"),
        KsftNamedVariant("mode_single", "mode single", "l3"),
        KsftNamedVariant("l2_single", "mode l2 single", "l2"),
        KsftNamedVariant("l2_mode_single", "mode l2 mode single", "l2"),
        KsftNamedVariant("single_l2", "single mode l2", "l2"),
    ]
)
def test_single(words: str, mode: str) -> None:
    (ns,) = namespaces(1)
    ns.ip(f"link add nk0 type netkit {words}")
    ksft_eq(ns.devices(), {"nk0"})
    ksft_eq(ns.rtnl.getlink("nk0").data["pairing"], Pairing.SINGLE)
    ksft_eq(
        info(ns, "nk0"),
        {
            "mode": mode,
            "pairing": "single",
            "type": "primary",
            "policy": "forward",
            "headroom": 0,
            "tailroom": 0,
        },
    )
    ksft_in(
        f"netkit mode {mode} single type primary policy forward headroom 0 tailroom 0",
        details(ns, "nk0"),
    )


def test_single_with_queues() -> None:
    (ns,) = namespaces(1)
    ns.ip("link add numrxqueues 2 nk type netkit single")
    ksft_eq(ns.rtnl.getlink("nk")["num-rx-queues"], 2)
    ksft_eq(info(ns, "nk")["pairing"], "single")


@ksft_variants(phrases("", "pair", "mode pair", "mode l3"))
def test_pair(words: str) -> None:
    (ns,) = namespaces(1)
    ns.ip(f"link add nk0 type netkit {words} peer name nk1")
    for name, kind in (("nk0", "primary"), ("nk1", "peer")):
        ksft_eq(
            info(ns, name),
            {
                "mode": "l3",
                "pairing": "pair",
                "type": kind,
                "policy": "forward",
                "peer_policy": "forward",
                "scrub": "default",
                "peer_scrub": "default",
                "headroom": 0,
                "tailroom": 0,
            },
        )


@ksft_variants(
    [
        KsftNamedVariant("headroom", "headroom 100", 100, 0),
        KsftNamedVariant("tailroom", "tailroom 200", 0, 200),
        KsftNamedVariant("both", "headroom 1 tailroom 2", 1, 2),
        KsftNamedVariant("most", "headroom 65535 tailroom 65535", 65535, 65535),
    ]
)
def test_room(words: str, headroom: int, tailroom: int) -> None:
    (ns,) = namespaces(1)
    ns.ip(f"link add nk0 type netkit {words} peer name nk1")
    ns.ip(f"link add nk2 type netkit single {words}")
    for name in ("nk0", "nk1", "nk2"):
        data = ns.rtnl.getlink(name).data
        ksft_eq((data["headroom"], data["tailroom"]), (headroom, tailroom))
        shown = info(ns, name)
        ksft_eq((shown["headroom"], shown["tailroom"]), (headroom, tailroom))
        ksft_in(f" headroom {headroom} tailroom {tailroom} ", details(ns, name))


@ksft_variants(
    [
        KsftNamedVariant("mode", "mode double", "mode"),
        KsftNamedVariant("headroom", "headroom 65536", "headroom"),
        KsftNamedVariant("negative", "headroom -1", "headroom"),
        KsftNamedVariant("tailroom", "tailroom x", "tailroom"),
        KsftNamedVariant("nothing", "headroom", "Command line is not complete"),
        KsftNamedVariant("twice", "single single", "single"),
        KsftNamedVariant("twice_headroom", "headroom 1 headroom 1", "headroom"),
    ]
)
def test_bad_words(words: str, complaint: str) -> None:
    """Refused by ip, which names the word, and nothing is made."""
    (ns,) = namespaces(1)
    failed = cmd(f"ip -netns {ns.name} link add nk0 type netkit {words}", fail=False)
    ksft_ne(failed.ret, 0)
    ksft_in(complaint, failed.stderr)
    ksft_eq(ns.devices(), set())


@ksft_variants(
    phrases(
        "single blackhole",
        "single scrub none",
        "single peer name nk1",
        "single peer blackhole",
    )
)
def test_not_for_single(words: str) -> None:
    """Refused by the kernel."""
    (ns,) = namespaces(1)
    failed = cmd(f"ip -netns {ns.name} link add nk0 type netkit {words}", fail=False)
    ksft_eq(failed.ret, 2)
    ksft_in("RTNETLINK answers: Operation not supported", failed.stderr)
    ksft_eq(ns.devices(), set())


def test_help() -> None:
    shown = cmd("ip link help netkit", fail=False)
    for word in ("single", "headroom", "tailroom"):
        ksft_in(word, shown.stdout + shown.stderr)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
