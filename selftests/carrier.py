#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Carrier of netkit devices: of a pair while both ends are up, of a single
device while it is up itself.
"""

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_run
from lib.py import ksft_variants
from lib.py import IFF_UP, MODES, Mode, Namespace, Port, cases, namespaces, pair
from lib.py import refused, single

IFF_RUNNING = 0x40
IFF_LOWER_UP = 0x10000
OPER_DOWN, OPER_LOWERLAYERDOWN, OPER_UP = 2, 3, 6


def state(*ports: Port) -> list[int]:
    return [int(port.link["carrier"]) for port in ports]


def settled(port: Port, operstate: int) -> None:
    """The operational state follows the carrier, a little later."""
    ksft_busy_wait(lambda: port.link["operstate"] == operstate, deadline=30)
    ksft_eq(port.link["operstate"], operstate, port.name)


def waiting(count: int) -> int:
    """Operational state of an end whose other end is down.

    The core looks for the other end in the same namespace only.
    """
    return OPER_LOWERLAYERDOWN if count == 1 else OPER_DOWN


def pair_variants() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(f"{mode.name}_{count}ns", mode, count)
        for mode in Mode
        for count in (1, 2)
    ]


def made(mode: Mode, count: int) -> tuple[Port, Port]:
    spaces: list[Namespace] = namespaces(count)
    return pair(spaces[0], spaces[-1], up=False, mode=mode)


def test_new() -> None:
    ports = made(Mode.L3, 1)
    ksft_eq(state(*ports), [0, 0])
    for port in ports:
        ksft_eq(port.link.flags & (IFF_UP | IFF_LOWER_UP), 0)
        settled(port, OPER_DOWN)


@ksft_variants(pair_variants())
def test_primary_first(mode: Mode, count: int) -> None:
    primary, peer = made(mode, count)
    primary.up()
    ksft_eq(state(primary, peer), [0, 0])
    settled(primary, waiting(count))
    peer.up()
    ksft_eq(state(primary, peer), [1, 1])
    for port in (primary, peer):
        settled(port, OPER_UP)
        ksft_eq(
            port.link.flags & (IFF_LOWER_UP | IFF_RUNNING), IFF_LOWER_UP | IFF_RUNNING
        )


@ksft_variants(pair_variants())
def test_peer_first(mode: Mode, count: int) -> None:
    primary, peer = made(mode, count)
    peer.up()
    ksft_eq(state(primary, peer), [0, 0])
    settled(peer, waiting(count))
    primary.up()
    ksft_eq(state(primary, peer), [1, 1])
    for port in (primary, peer):
        settled(port, OPER_UP)


@ksft_variants(["primary", "peer"])
def test_down(side: str) -> None:
    """Either end takes the carrier of both, and brings it back."""
    (ns,) = namespaces(1)
    ports = pair(ns, ns)
    closed, other = ports if side == "primary" else ports[::-1]
    closed.down()
    ksft_eq(state(closed, other), [0, 0])
    settled(closed, OPER_DOWN)
    settled(other, OPER_LOWERLAYERDOWN)
    closed.up()
    ksft_eq(state(closed, other), [1, 1])
    settled(other, OPER_UP)


def test_both_down() -> None:
    primary, peer = pair(*namespaces(2))
    primary.down()
    peer.down()
    primary.up()
    ksft_eq(state(primary, peer), [0, 0])
    peer.up()
    ksft_eq(state(primary, peer), [1, 1])


def test_changes_counted() -> None:
    """Going up and down is seen once, and again is no change."""
    primary, peer = pair(*namespaces(2))
    before = int(primary.link["carrier-changes"])
    peer.up()
    primary.up()
    ksft_eq(primary.link["carrier-changes"], before)
    peer.down()
    ksft_eq(primary.link["carrier-changes"], before + 1)
    primary.down()
    ksft_eq(primary.link["carrier-changes"], before + 1)


def test_gone_with_peer() -> None:
    """A peer that is deleted takes the primary along."""
    primary, peer = pair(*namespaces(2))
    peer.ns.rtnl.dellink({"ifname": peer.name})
    ksft_eq(primary.ns.devices(), set())


@ksft_variants(MODES)
def test_single(mode: Mode) -> None:
    """The device's own state is all there is."""
    port = single(namespaces(1)[0], up=False, mode=mode)
    ksft_eq(state(port), [0])
    port.up()
    ksft_eq(state(port), [1])
    settled(port, OPER_UP)
    port.down()
    ksft_eq(state(port), [0])
    settled(port, OPER_DOWN)
    port.up()
    ksft_eq(state(port), [1])


def test_not_by_hand() -> None:
    """No operation changes the carrier at a user's request."""
    (ns,) = namespaces(1)
    port = single(ns)
    with refused() as answers:
        ns.rtnl.change(port.name, {"carrier": 0})
    ksft_eq(answers, [("EOPNOTSUPP", None)])
    ksft_eq(state(port), [1])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
