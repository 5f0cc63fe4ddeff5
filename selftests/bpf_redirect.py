#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Redirection out of a pair's programs and into pairs, and who counts what.

Whatever becomes of a packet that a program redirects, its sender has sent it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lib.py import (
    HOOKS,
    KMEMLEAK,
    MODES,
    AttachType,
    Hook,
    KernelLog,
    KsftNamedVariant,
    Map,
    Mode,
    Namespace,
    NetNSEnter,
    PacketSocket,
    Pairing,
    Policy,
    Port,
    Program,
    Way,
    frame,
    insn,
    kernel_memory,
    ksft_busy_wait,
    ksft_eq,
    ksft_exit,
    ksft_ge,
    ksft_gt,
    ksft_lt,
    ksft_pr,
    ksft_run,
    ksft_variants,
    leaks,
    namespaces,
    netkit,
    ns_fd,
    pair,
    tc,
    way,
    ways,
)
from lib.py.insn import Helper, Reg

INGRESS, EGRESS = 1, 2
LENGTH = 60
ETH_P_IP = 0x0800
NOWHERE = 9999
NEIGHBOUR = bytes.fromhex("020000000042")
FLOOD = 10000
BPFFS = "/sys/fs/bpf"


def redirect(index: int, flags: int = 0, helper: Helper = Helper.REDIRECT) -> Program:
    return Program(
        [
            insn.mov(Reg.R1, index),
            insn.mov(Reg.R2, flags),
            insn.call(helper),
            insn.ret(),
        ]
    )


def redirect_neigh(index: int) -> Program:
    code = [insn.mov(Reg.R1, index)]
    code += [insn.mov(reg, 0) for reg in (Reg.R2, Reg.R3, Reg.R4)]
    return Program([*code, insn.call(Helper.REDIRECT_NEIGH), insn.ret()])


def clone_redirect(index: int, flags: int, value: int) -> Program:
    code = [insn.mov(Reg.R2, index), insn.mov(Reg.R3, flags)]
    code += [insn.call(Helper.CLONE_REDIRECT), insn.mov(Reg.R0, value), insn.ret()]
    return Program(code)


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
    for port in ports:
        port.up()
    for port in ports:
        port.wait_operational()
    return ports


@contextmanager
def grown(**expected: tuple[Port, dict[str, int]]) -> Iterator[None]:
    """What the devices count meanwhile; what is not expected is nought."""
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


def sent(count: int = 1, length: int = LENGTH) -> dict[str, int]:
    return {"tx_packets": count, "tx_bytes": count * length}


def received(count: int = 1, length: int = LENGTH) -> dict[str, int]:
    return {"rx_packets": count, "rx_bytes": count * length}


def send(each: Way, count: int = 1, destination: bytes | None = None) -> list[bool]:
    data = frame(destination or each.receiver.address)
    with each.sender.packets() as out:
        return [out.send(data) for _ in range(count)]


def both() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(f"{hook.name}_{mode.name}", *hook.params, *mode.params)
        for hook in HOOKS
        for mode in MODES
    ]


@ksft_variants(both())
def test_egress_dummy(kind: AttachType, mode: Mode) -> None:
    """Out of a device beside the other end, which sees nothing of it."""
    each = way(kind, mode=mode)
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect(end.link.index))
    with grown(
        sender=(each.sender, sent(3)), receiver=(each.receiver, {}), end=(end, sent(3))
    ):
        ksft_eq(send(each, 3), [True] * 3)


@ksft_variants(both())
def test_egress_veth(kind: AttachType, mode: Mode) -> None:
    """The frame whole, into a third namespace."""
    each = way(kind, mode=mode)
    (third,) = namespaces(1)
    near, far = veth(each.receiver.ns, third)
    each.hook.attach(redirect(near.link.index))
    with far.packets() as into:
        with grown(
            sender=(each.sender, sent()),
            receiver=(each.receiver, {}),
            near=(near, sent()),
            far=(far, received()),
        ):
            ksft_eq(send(each), [True])
        ksft_eq(into.receive().data, frame(each.receiver.address))


@ksft_variants(both())
def test_ingress(kind: AttachType, mode: Mode) -> None:
    """As if another device had received it, which is the one looked at."""
    each = way(kind, mode=mode)
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect(end.link.index, INGRESS))
    with (
        end.packets() as into,
        grown(sender=(each.sender, sent(2)), receiver=(each.receiver, {})),
    ):
        for destination, kind_of in (
            (end.address, socket.PACKET_HOST),
            (each.receiver.address[:-1] + b"\0", socket.PACKET_OTHERHOST),
        ):
            ksft_eq(send(each, destination=destination), [True])
            got = into.receive()
            ksft_eq((got.data, got.type), (frame(destination), kind_of))


@ksft_variants(HOOKS)
def test_back(kind: AttachType) -> None:
    """Out of the very device that it was sent to, and so to its sender."""
    each = way(kind)
    each.hook.attach(redirect(each.receiver.link.index))
    with (
        each.sender.packets() as into,
        grown(
            sender=(each.sender, sent() | received()), receiver=(each.receiver, sent())
        ),
    ):
        ksft_eq(send(each), [True])
        ksft_eq(into.receive().data, frame(each.receiver.address))


@ksft_variants(
    [
        KsftNamedVariant(f"{hook.name}_{target}_{flags}", *hook.params, target, flags)
        for hook in HOOKS
        for target in ("nowhere", "zero", "sender", "elsewhere")
        for flags in (0, INGRESS)
    ]
)
def test_missing(kind: AttachType, target: str, flags: int) -> None:
    """Devices are looked for where the other end is, not where the sender is."""
    each = way(kind)
    elsewhere = made(each.sender.ns, "elsewhere")
    # An index that is free on the other side.
    each.sender.ns.rtnl.newlink(
        {"ifname": "far", "linkinfo": {"kind": "dummy"}}, NOWHERE - 1
    )
    index = {
        "nowhere": NOWHERE,
        "zero": 0,
        "sender": NOWHERE - 1,
        "elsewhere": (1 << 31) - 1,
    }[target]
    each.hook.attach(redirect(index, flags))
    with grown(
        sender=(each.sender, sent(3)),
        receiver=(each.receiver, {}),
        elsewhere=(elsewhere, {}),
    ):
        ksft_eq(send(each, 3), [True] * 3)


@ksft_variants(
    [
        KsftNamedVariant("egress", 0, {"tx_dropped": 2}),
        KsftNamedVariant("ingress", INGRESS, {"rx_dropped": 2}),
    ]
)
def test_down(flags: int, growth: dict[str, int]) -> None:
    """A drop of the device that is down, none of the sender's."""
    each = way()
    end = made(each.receiver.ns, "end", up=False)
    each.hook.attach(redirect(end.link.index, flags))
    with grown(
        sender=(each.sender, sent(2)), receiver=(each.receiver, {}), end=(end, growth)
    ):
        ksft_eq(send(each, 2), [True] * 2)


def test_bad_flags() -> None:
    """The helper answers drop then, which is what the sender gets."""
    each = way()
    end = made(each.receiver.ns, "end")
    for flags, helper in (
        (EGRESS, Helper.REDIRECT),
        (1 << 20, Helper.REDIRECT),
        (INGRESS, Helper.REDIRECT_PEER),
    ):
        link = each.hook.link(redirect(end.link.index, flags, helper))
        with grown(
            sender=(each.sender, {"tx_dropped": 1}),
            receiver=(each.receiver, {}),
            end=(end, {}),
        ):
            ksft_eq(send(each), [False])
        link.close()


@ksft_variants(
    [
        KsftNamedVariant("pass", Policy.PASS, True),
        KsftNamedVariant("drop", Policy.DROP, False),
    ]
)
def test_clone(value: Policy, taken: bool) -> None:
    """A copy goes elsewhere; the packet does what the program says."""
    each = way()
    end = made(each.receiver.ns, "end")
    each.hook.attach(clone_redirect(end.link.index, 0, value))
    with grown(
        sender=(each.sender, sent() if taken else {"tx_dropped": 1}),
        receiver=(each.receiver, received() if taken else {}),
        end=(end, sent()),
    ):
        ksft_eq(send(each), [taken])


@ksft_variants(both())
def test_neigh(kind: AttachType, mode: Mode) -> None:
    """With the addresses that the neighbour's entry and the device have."""
    each = way(kind, mode=mode)
    (third,) = namespaces(1)
    near, far = veth(each.receiver.ns, third)
    near.configure("198.51.100.1/24")
    near.ns.ip(f"neigh add 198.51.100.2 lladdr {NEIGHBOUR.hex(':')} dev v0")
    each.sender.configure("192.0.2.1/24")
    each.sender.ns.ip(f"route add default dev {each.sender.name}")
    each.sender.ns.ip(
        f"neigh add 198.51.100.2 lladdr {each.receiver.address.hex(':')} "
        f"dev {each.sender.name}"
    )
    each.hook.attach(redirect_neigh(near.link.index))
    length = 14 + 20 + 8 + 26
    with (
        far.packets(ETH_P_IP) as into,
        each.sender.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        with grown(
            sender=(each.sender, sent(1, length)),
            receiver=(each.receiver, {}),
            near=(near, sent(1, length)),
            far=(far, received(1, length)),
        ):
            client.sendto(bytes(26), ("198.51.100.2", 7000))
        header = into.receive().data[:14]
    ksft_eq(header, NEIGHBOUR + near.address + ETH_P_IP.to_bytes(2))


def test_neigh_not_ip() -> None:
    """There is no neighbour for what is neither IPv4 nor IPv6."""
    each = way()
    end = made(each.receiver.ns, "end")
    each.hook.attach(redirect_neigh(end.link.index))
    with grown(
        sender=(each.sender, sent()), receiver=(each.receiver, {}), end=(end, {})
    ):
        ksft_eq(send(each), [True])


def second_pair(ns: Namespace, other: Namespace) -> tuple[Port, Port]:
    """Of other names than the first one."""
    with ns_fd(other.name) as fd:
        ns.rtnl.newlink(
            {"ifname": "nk2"} | netkit(peer_info={"ifname": "nk3", "net-ns-fd": fd})
        )
    ports = Port(ns, "nk2"), Port(other, "nk3")
    for port in ports:
        port.up()
    for port in ports:
        port.wait_operational()
    return ports


@ksft_variants(HOOKS)
def test_next_pair(kind: AttachType) -> None:
    """Through the programs of both pairs, and out of a third device."""
    each = way(kind)
    (third,) = namespaces(1)
    near, far = second_pair(each.receiver.ns, third)
    end = made(third, "end")
    counted = Map()
    each.hook.attach(insn.counter(counted, -1))
    each.hook.attach(redirect(near.link.index))
    second = ways(near, far)[AttachType.PRIMARY].hook
    second.attach(insn.counter(counted, -1))
    link = second.link(redirect(end.link.index))
    with grown(
        sender=(each.sender, sent(2)),
        receiver=(each.receiver, {}),
        near=(near, sent(2)),
        far=(far, {}),
        end=(end, sent(2)),
    ):
        ksft_eq(send(each, 2), [True] * 2)
    link.close()
    with grown(
        sender=(each.sender, sent()),
        near=(near, sent()),
        far=(far, received()),
        end=(end, {}),
    ):
        ksft_eq(send(each), [True])
    ksft_eq(counted[0], 6)


def test_loop() -> None:
    """To and fro, until the kernel has had enough."""
    log = KernelLog()
    primary, peer = pair(*namespaces(2))
    both_ways = ways(primary, peer)
    for each in both_ways.values():
        each.hook.attach(redirect(each.receiver.link.index))
    with primary.packets() as into:
        ksft_eq(send(both_ways[AttachType.PRIMARY]), [True])
        ksft_eq(into.empty(), True)
    turns = [port.stats["tx_packets"] for port in (primary, peer)]
    ksft_gt(min(turns), 1)
    ksft_lt(max(turns), 16)
    # A packet afterwards is none the worse.
    both_ways[AttachType.PRIMARY].hook.detach(None)
    with grown(primary=(primary, sent()), peer=(peer, received())):
        send(both_ways[AttachType.PRIMARY])
    ksft_eq(log.complaints(), [])


@ksft_variants(HOOKS)
def test_peer_out(kind: AttachType) -> None:
    """To another pair's far end: only as what that end transmits."""
    each = way(kind)
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

    def __init__(self) -> None:
        self.host, self.outside = namespaces(2)
        self.near, self.far = veth(self.host, self.outside)

    def redirect(self, index: int, flags: int, clsact: bool = False) -> None:
        program = redirect(index, flags, Helper.REDIRECT_PEER)
        if clsact:
            path = f"{BPFFS}/netkit-redirect"
            program.pin(path)
            tc("qdisc add dev v0 clsact", ns=self.host.name)
            # tc's own way into a namespace hides the file system of pins.
            with NetNSEnter(self.host.name):
                tc(f"filter add dev v0 ingress bpf direct-action object-pinned {path}")
        else:
            hook = Hook(self.host.name, self.near.link.index, AttachType.TCX_INGRESS)
            hook.attach(program)

    @contextmanager
    def arriving(self, **expected: tuple[Port, dict[str, int]]) -> Iterator[None]:
        with (
            grown(near=(self.near, received()), far=(self.far, sent()), **expected),
            PacketSocket(self.outside.name, "v1") as out,
        ):
            ksft_eq(out.send(frame(self.near.address)), True)
            yield


@ksft_variants(
    [
        KsftNamedVariant(f"{target}_{way_in}_{mode.name}", target, way_in, mode)
        for target in ("primary", "peer")
        for way_in in ("tcx", "clsact")
        for mode in Mode
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
        incoming.arriving(here=(ports[0], {}), there=(ports[1], received())),
    ):
        ksft_eq(into.receive().data, frame(incoming.near.address))


@ksft_variants(["tcx", "clsact"])
def test_peer_in_egress(way_in: str) -> None:
    """Sent by the far end, and so by way of its programs to the near one."""
    incoming = Incoming()
    (third,) = namespaces(1)
    primary, peer = pair(incoming.host, third)
    counted = Map()
    hook = ways(primary, peer)[AttachType.PEER].hook
    hook.attach(insn.counter(counted, -1))
    incoming.redirect(primary.link.index, EGRESS, way_in == "clsact")
    with (
        primary.packets() as into,
        incoming.arriving(here=(primary, received()), there=(peer, sent())),
    ):
        ksft_eq(into.receive().data, frame(incoming.near.address))
    hook.attach(insn.verdict(Policy.DROP))
    with incoming.arriving(here=(primary, {}), there=(peer, {"tx_dropped": 1})):
        pass
    ksft_eq(counted[0], 2)


@ksft_variants(
    [
        KsftNamedVariant(f"{case}_{flags}", case, flags)
        for case in ("same_namespace", "single", "peer_down", "not_netkit")
        for flags in (0, EGRESS)
    ]
)
def test_peer_in_refused(case: str, flags: int) -> None:
    """Dropped, and counted by nobody but the device it came from."""
    incoming = Incoming()
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
    incoming.redirect(ports[0].link.index, flags)
    with incoming.arriving(
        **{port.name: (port, {}) for port in ports}  # type: ignore[arg-type]
    ):
        pass


def flood(each: Way, target: int, flags: int, helper: Helper) -> None:
    link = each.hook.link(redirect(target, flags, helper))
    before = each.sender.stats["tx_packets"]
    ksft_eq(set(send(each, FLOOD // 4)), {True})
    ksft_eq(each.sender.stats["tx_packets"] - before, FLOOD // 4)
    link.close()


def test_no_leak() -> None:
    """Many packets later the kernel holds no more than before."""
    each = way()
    end = made(each.receiver.ns, "end")
    down = made(each.receiver.ns, "down", up=False)

    def all_fates() -> None:
        flood(each, end.link.index, 0, Helper.REDIRECT)
        flood(each, NOWHERE, 0, Helper.REDIRECT)
        flood(each, down.link.index, INGRESS, Helper.REDIRECT)
        flood(each, each.receiver.link.index, 0, Helper.REDIRECT_PEER)

    all_fates()
    if KMEMLEAK.exists():
        ksft_eq(leaks(), "")
        return
    before = kernel_memory()
    all_fates()
    kept = kernel_memory() - before
    ksft_pr(f"kept: {kept} bytes")
    # One of the four fates alone would hold more, if it did.
    ksft_lt(kept, FLOOD // 4 * 512)
    ksft_ge(each.sender.stats["tx_packets"], 2 * FLOOD)


def main() -> None:
    ksft_run(
        [
            test_egress_dummy,
            test_egress_veth,
            test_ingress,
            test_back,
            test_missing,
            test_down,
            test_bad_flags,
            test_clone,
            test_neigh,
            test_neigh_not_ip,
            test_next_pair,
            test_loop,
            test_peer_out,
            test_peer_in,
            test_peer_in_egress,
            test_peer_in_refused,
            test_no_leak,
        ]
    )
    ksft_exit()


if __name__ == "__main__":
    main()
