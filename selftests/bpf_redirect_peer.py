#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Redirection to the far end of a pair, from outside and from a pair's programs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, EGRESS, Fix, Hook, Map, Mode, Pairing
from lib.py import Policy, Port, cases, frame, grown, insn, made, namespaces, needs
from lib.py import netkit, pair, received, redirect, second_pair, send, send_back
from lib.py import sent, tc_filter, veth, way, ways
from lib.py.bpf import F
from lib.py.insn import Helper

# Which tells what protects a pointer.
LOCKDEP = Path("/proc/lockdep")


def test_peer_out() -> None:
    """To another pair's far end: only as what that end transmits."""
    each = way()
    (third,) = namespaces(1)
    near, far = second_pair(each.receiver.ns, third)
    for index, flags, near_growth, far_growth in (
        (near.link.index, 0, {}, {}),
        (near.link.index, EGRESS, received(), sent()),
        (each.receiver.link.index, 0, {}, {}),
    ):
        link = each.hook.link(redirect(index, flags, Helper.REDIRECT_PEER))
        with (
            near.packets() as into,
            grown(
                sender=(each.sender, sent()),
                receiver=(each.receiver, {}),
                near=(near, near_growth),
                far=(far, far_growth),
            ),
        ):
            ksft_eq(send(each), [True])
            if near_growth:
                ksft_eq(into.receive().data, frame(each.receiver.address))
        link.close()


class Incoming:
    """A veth device, whose packets a program redirects, and who sends them."""

    side, kind = "ingress", AttachType.TCX_INGRESS

    def __init__(self) -> None:
        self.host, self.outside = namespaces(2)
        self.near, self.far = veth(self.host, self.outside)
        self.source, self.sink = self.far, self.near
        self.own = {"near": (self.near, received()), "far": (self.far, sent())}
        self.frame = frame(self.near.address)

    def redirect(self, index: int, flags: int, clsact: bool = False) -> None:
        program = redirect(index, flags, Helper.REDIRECT_PEER)
        if clsact:
            tc_filter(self.near, self.side, program, "direct-action")
        else:
            Hook.of(self.near, self.kind).attach(program)

    @contextmanager
    def sending(self, **expected: tuple[Port, dict[str, int]]) -> Iterator[None]:
        with (
            grown(**self.own, **expected),
            self.source.packets() as out,
        ):
            ksft_eq(out.send(self.frame), True)
            yield


class Outgoing(Incoming):
    """The same with what the device is about to send, and then does not."""

    side, kind = "egress", AttachType.TCX_EGRESS

    def __init__(self) -> None:
        if LOCKDEP.exists():
            needs(Fix.PEER_RCU, by_log=True)
        super().__init__()
        self.source, self.sink = self.near, self.far
        self.own = {"near": (self.near, {}), "far": (self.far, {})}


@ksft_variants(
    [
        KsftNamedVariant("primary_tcx_L3", "primary", "tcx", Mode.L3),
        KsftNamedVariant("peer_clsact_L2", "peer", "clsact", Mode.L2),
    ]
)
def test_peer_in(target: str, way_in: str, mode: Mode) -> None:
    """Received by the far end without the near one being asked."""
    incoming = Incoming()
    (third,) = namespaces(1)
    ports = (
        pair(incoming.host, third, mode=mode)
        if target == "primary"
        else pair(third, incoming.host, mode=mode)[::-1]
    )
    # Which programs of the pair have no part in.
    for each in ways(*ports[:: 1 if target == "primary" else -1]).values():
        each.hook.attach(insn.verdict(Policy.DROP))
    incoming.redirect(ports[0].link.index, 0, way_in == "clsact")
    with (
        ports[1].packets() as into,
        incoming.sending(here=(ports[0], {}), there=(ports[1], received())),
    ):
        ksft_eq(into.receive().data, incoming.frame)


def test_peer_in_from_egress() -> None:
    """The far end receives nothing that is being sent; without the flag it is
    dropped, of which its sender does not learn."""
    outgoing = Outgoing()
    (third,) = namespaces(1)
    primary, peer = pair(outgoing.host, third)
    outgoing.redirect(primary.link.index, 0)
    with peer.packets() as into:
        with outgoing.sending(here=(primary, {}), there=(peer, {})):
            pass
        ksft_eq(into.empty(), True)


@ksft_variants(
    [
        KsftNamedVariant("ingress_tcx", Incoming, "tcx"),
        KsftNamedVariant("egress_clsact", Outgoing, "clsact"),
    ]
)
def test_peer_in_egress(passing: type[Incoming], way_in: str) -> None:
    """Sent by the far end, and so by way of its programs to the near one."""
    incoming = passing()
    (third,) = namespaces(1)
    primary, peer = pair(incoming.host, third)
    counted = Map()
    hook = ways(primary, peer)[AttachType.PEER].hook
    hook.attach(insn.counter(counted, -1))
    incoming.redirect(primary.link.index, EGRESS, way_in == "clsact")
    with (
        primary.packets() as into,
        incoming.sending(here=(primary, received()), there=(peer, sent())),
    ):
        ksft_eq(into.receive().data, incoming.frame)
    hook.attach(insn.verdict(Policy.DROP))
    with incoming.sending(here=(primary, {}), there=(peer, {"tx_dropped": 1})):
        pass
    ksft_eq(counted[0], 2)


@ksft_variants(
    [
        KsftNamedVariant("same_namespace", "same_namespace", Incoming),
        KsftNamedVariant("single", "single", Incoming),
        KsftNamedVariant("single_egress", "single", Outgoing),
        KsftNamedVariant("peer_down", "peer_down", Incoming),
        KsftNamedVariant("not_netkit", "not_netkit", Incoming),
    ]
)
def test_peer_in_refused(case: str, passing: type[Incoming]) -> None:
    """Dropped, and counted by nobody but the device it came from."""
    incoming = passing()
    (third,) = namespaces(1)
    host = incoming.host
    if case == "single":
        host.rtnl.newlink({"ifname": "nk0"} | netkit(pairing=Pairing.SINGLE))
        ports = [Port(host, "nk0")]
        ports[0].up()
    elif case == "not_netkit":
        ports = [made(host, "end")]
    else:
        ports = list(pair(host, host if case == "same_namespace" else third))
    if case == "peer_down":
        ports[1].down()
    for flags in (0, EGRESS):
        incoming.redirect(ports[0].link.index, flags)
        with incoming.sink.packets() as into, incoming.source.packets() as out:
            with incoming.sending(
                **{port.name: (port, {}) for port in ports}  # type: ignore[arg-type]
            ):
                pass
            Hook.of(incoming.near, incoming.kind).detach(None, F.BEFORE)
            # Had the other one gone on, it would have come before this one.
            last = frame(incoming.near.address, b"last")
            out.send(last)
            ksft_eq(into.receive().data, last)


def test_peer_out_after_xdp() -> None:
    """What XDP sends back is being sent, as anything else: dropped."""
    needs(Fix.XDP_TX)
    incoming = Incoming()
    third, fourth = namespaces(2)
    primary, peer = pair(incoming.host, third)
    near, far = second_pair(incoming.host, fourth)
    send_back(peer)
    hook = ways(primary, peer)[AttachType.PEER].hook
    hook.attach(redirect(near.link.index, 0, Helper.REDIRECT_PEER))
    incoming.redirect(primary.link.index, 0)
    with far.packets() as into:
        with incoming.sending(
            here=(primary, {}),
            there=(peer, received() | sent()),
            beside=(near, {}),
            far_away=(far, {}),
        ):
            pass
        ksft_eq(into.empty(), True)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
