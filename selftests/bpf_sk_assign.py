#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
A socket that a program at tc ingress has given to a packet, which then goes another
way than up the stack of that namespace.
"""

import select
import socket
import struct
import time

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_gt, ksft_run, ksft_true
from lib.py import ksft_variants
from lib.py import AttachType, EGRESS, Fix, Hook, INGRESS, KMEMLEAK, Namespace, Port
from lib.py import Program, cases, insn, made, namespaces, needs, pair, redirecting
from lib.py import second_pair, tc, tc_filter, veth
from lib.py.insn import Helper, Reg

ADDRESS, REMOTE = "192.0.2.1", "192.0.2.2"
# Where packets are sent to, and where the socket is bound that they are given to.
PORT, OTHER_PORT = 7000, 9000
TC_ACT_OK, TC_ACT_SHOT = 0, 2
SECONDS = 30


def assign(*then: bytes) -> Program:
    """A program that gives each packet the socket, and goes on with this."""
    # struct bpf_sock_tuple: whatever the addresses are.
    ports = struct.unpack("=i", struct.pack("=HH", 0, socket.htons(OTHER_PORT)))[0]
    return Program(
        [
            insn.mov(Reg.R6, Reg.R1),
            insn.store64(Reg.FP, -16, 0),
            insn.store32(Reg.FP, -8, ports),
            insn.mov(Reg.R2, Reg.FP),
            insn.add(Reg.R2, -16),
            insn.mov(Reg.R3, 12),
            # The namespace of the device.
            insn.mov(Reg.R4, -1),
            insn.mov(Reg.R5, 0),
            insn.call(Helper.SK_LOOKUP_UDP),
            insn.jump_ne(Reg.R0, 0, 2),
            insn.mov(Reg.R0, TC_ACT_SHOT),
            insn.ret(),
            insn.mov(Reg.R7, Reg.R0),
            insn.mov(Reg.R1, Reg.R6),
            insn.mov(Reg.R2, Reg.R7),
            insn.mov(Reg.R3, 0),
            insn.call(Helper.SK_ASSIGN),
            insn.mov(Reg.R8, Reg.R0),
            insn.mov(Reg.R1, Reg.R7),
            insn.call(Helper.SK_RELEASE),
            # Whoever is refused drops.
            insn.mov(Reg.R0, TC_ACT_SHOT),
            insn.jump_ne(Reg.R8, 0, len(then)),
            *then,
            insn.ret(),
        ]
    )


def redirected(to: Port, flags: int = 0, helper: Helper = Helper.REDIRECT) -> Program:
    return assign(*redirecting(to.link.index, flags, helper))


def bound(ns: Namespace, port: int) -> socket.socket:
    """A socket for whatever address comes to this port."""
    sock = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(SECONDS)
    sock.bind(("", port))
    return sock


def receives(remote: Namespace, there: Namespace, host: Namespace) -> None:
    """A packet from the remote comes to who listens there, not to the socket."""
    with (
        remote.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        bound(host, OTHER_PORT) as assigned,
        bound(there, PORT) as server,
    ):
        client.sendto(b"x", (ADDRESS, PORT))
        received, *_ = select.select([server, assigned], [], [], SECONDS)
        ksft_true(received == [server], "it came elsewhere")


def arrival() -> tuple[Namespace, Namespace, Port]:
    """The host, a remote, and the device by which its packets come to the host."""
    host, remote = namespaces(2)
    near, far = pair(host, remote)
    far.configure(f"{REMOTE}/24")
    return host, remote, near


def test_assigned() -> None:
    """Without any of that, the socket is who receives."""
    host, remote, near = arrival()
    near.configure(f"{ADDRESS}/24")
    program = assign(insn.mov(Reg.R0, TC_ACT_OK))
    Hook.of(near, AttachType.TCX_INGRESS).link(program)
    with (
        bound(host, OTHER_PORT) as assigned,
        remote.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.sendto(b"x", (ADDRESS, PORT))
        ksft_eq(assigned.recv(16), b"x")


@ksft_variants(
    [
        KsftNamedVariant("egress", Helper.REDIRECT, 0),
        KsftNamedVariant("peer", Helper.REDIRECT_PEER, 0),
        KsftNamedVariant("peer_egress", Helper.REDIRECT_PEER, EGRESS),
    ]
)
def test_redirected(helper: Helper, flags: int) -> None:
    """Into a pod, or out of one, where others listen."""
    needs(Fix.SK_REDIRECT)
    host, remote, near = arrival()
    (pod,) = namespaces(1)
    primary, peer = second_pair(host, pod)
    there = primary if flags == EGRESS else peer
    there.configure(f"{ADDRESS}/24")
    program = redirected(primary, flags, helper)
    Hook.of(near, AttachType.TCX_INGRESS).link(program)
    receives(remote, there.ns, host)


def test_redirected_ingress() -> None:
    """As if another device had received it: who is asked for is looked up there."""
    needs(Fix.SK_REDIRECT)
    host, remote, near = arrival()
    end, _ = second_pair(host, *namespaces(1))
    end.configure(f"{ADDRESS}/24")
    Hook.of(near, AttachType.TCX_INGRESS).link(redirected(end, INGRESS))
    receives(remote, host, host)


def test_mirred() -> None:
    """By an action of tc, into a pod."""
    needs(Fix.SK_REDIRECT)
    host, remote, near = arrival()
    (pod,) = namespaces(1)
    primary, peer = second_pair(host, pod)
    peer.configure(f"{ADDRESS}/24")
    then = f"action mirred egress redirect dev {primary.name}"
    tc_filter(near, "ingress", assign(insn.mov(Reg.R0, 1)), then)
    receives(remote, pod, host)


def test_macvlan() -> None:
    """By a device on top of the one that it came by, in a namespace of its own."""
    needs(Fix.SK_NETNS)
    host, remote, pod = namespaces(3)
    near, far = veth(host, remote)
    far.configure(f"{REMOTE}/24")
    host.ip(f"link add mv0 link {near.name} type macvlan mode bridge")
    above = Port(host, "mv0").move(pod)
    above.up()
    above.configure(f"{ADDRESS}/24")
    remote.ip(f"neigh add {ADDRESS} lladdr {above.link.address} dev {far.name}")
    program = assign(insn.mov(Reg.R0, TC_ACT_OK))
    Hook.of(near, AttachType.TCX_INGRESS).link(program)
    receives(remote, pod, host)


def test_closed() -> None:
    """A packet may wait for longer than the socket lives."""
    # Such a kernel has KASAN, which sees it.
    if KMEMLEAK.exists():
        needs(Fix.SK_REDIRECT, by_log=True)
    host, remote, near = arrival()
    end = made(host, "end")
    tc(f"qdisc add dev {end.name} root handle 1: htb default 1", ns=host.name)
    tc(
        f"class add dev {end.name} parent 1: classid 1:1 htb rate 8bit burst 1 cburst 1",
        ns=host.name,
    )
    Hook.of(near, AttachType.TCX_INGRESS).link(redirected(end))
    with (
        bound(host, OTHER_PORT),
        remote.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for _ in range(8):
            client.sendto(bytes(1000), (ADDRESS, PORT))
    # Until the socket has been freed.
    time.sleep(1)
    backlog = tc(f"-s qdisc show dev {end.name}", ns=host.name, json=True)[0]["qlen"]
    ksft_gt(backlog, 0, "nothing waits")
    tc(f"qdisc del dev {end.name} root", ns=host.name)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
