#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What the default policies do to packets.
"""

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_true
from lib.py import ksft_variants
from lib.py import IFF_UP, Mode, Policy, Port, cases, frame, namespaces, operational
from lib.py import pair, refused


def passes(sender: Port, receiver: Port) -> bool:
    """Sends a frame; what the sender, its counters and the receiver say."""
    before = sender.stats
    with sender.packets() as out, receiver.packets() as into:
        taken = out.send(frame(receiver.address))
        if taken:
            into.receive()
        ksft_true(into.empty())
    after = sender.stats
    ksft_eq(after["tx_packets"] - before["tx_packets"], int(taken))
    ksft_eq(after["tx_dropped"] - before["tx_dropped"], int(not taken))
    return taken


def both_ways(primary: Port, peer: Port) -> tuple[bool, bool]:
    return passes(primary, peer), passes(peer, primary)


def combinations() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(
            f"{mode.name}_{policy.name}_{peer_policy.name}", mode, policy, peer_policy
        )
        for mode in Mode
        for policy in (Policy.PASS, Policy.DROP)
        for peer_policy in (Policy.PASS, Policy.DROP)
    ]


@ksft_variants(combinations())
def test_created(mode: Mode, policy: Policy, peer_policy: Policy) -> None:
    """A policy is that of what its device sends."""
    ports = pair(*namespaces(2), mode=mode, policy=policy, peer_policy=peer_policy)
    ksft_eq(both_ways(*ports), (policy == Policy.PASS, peer_policy == Policy.PASS))


@ksft_variants(combinations())
def test_changed(mode: Mode, policy: Policy, peer_policy: Policy) -> None:
    """Likewise when set while the devices are in use, and set back."""
    primary, peer = pair(*namespaces(2), mode=mode)
    ksft_eq(both_ways(primary, peer), (True, True))
    primary.change(policy=policy, peer_policy=peer_policy)
    ksft_eq(
        both_ways(primary, peer), (policy == Policy.PASS, peer_policy == Policy.PASS)
    )
    primary.change(policy=Policy.PASS, peer_policy=Policy.PASS)
    ksft_eq(both_ways(primary, peer), (True, True))


def test_same_namespace() -> None:
    (ns,) = namespaces(1)
    ports = pair(ns, ns, policy=Policy.DROP)
    ksft_eq(both_ways(*ports), (False, True))


def test_partly_changed() -> None:
    """A change that is refused half way is in force half way."""
    primary, peer = pair(*namespaces(2))
    with refused() as answers:
        primary.change(policy=Policy.DROP, peer_policy=1)
    ksft_eq(answers, [("EINVAL", "linkinfo.data.peer-policy")])
    ksft_eq(both_ways(primary, peer), (False, True))


def test_carrier_untouched() -> None:
    """A device that drops all is no less up."""
    for port in pair(*namespaces(2), policy=Policy.DROP, peer_policy=Policy.DROP):
        ksft_eq((port.link["carrier"], port.link.flags & IFF_UP), (1, IFF_UP))


def test_survives_down_and_move() -> None:
    ns, other, third = namespaces(3)
    primary, peer = pair(ns, other, policy=Policy.DROP)
    moved = primary.move(third)
    operational(moved, peer)
    ksft_eq(both_ways(moved, peer), (False, True))
    moved.change(policy=Policy.PASS)
    ksft_eq(both_ways(moved, peer), (True, True))


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
