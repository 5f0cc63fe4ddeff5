#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Packets that a NIC gives the sum of all their bytes, on their way through a pair.

Whatever is put before them or taken away has to be added to the sum or taken
from it.  One that is wrong costs time only, and the kernel complains, once.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_ge, ksft_not_in, ksft_run
from lib.py import ksft_variants
from lib.py import AttachType, Fix, HOOKS, Hook, INGRESS, KernelLog, Mode, Namespace
from lib.py import NetNSEnter, Nic, cases, made, namespaces, needs, pair, redirect
from lib.py import second_pair, send_back, simnic, ways
from lib.py.insn import Helper

ADDRESS = "192.0.2.1"
PORT = 7000
# With and without padding, and of those that are summed when they are read.
LENGTHS = [1, 2, 17, 18, 19, 100, 101, 1471, 1472]


def csum_errors(ns: Namespace) -> int:
    """How many packets IP and UDP have found to be broken."""
    with NetNSEnter(ns.name):
        text = Path("/proc/thread-self/net/snmp").read_text("ascii")
    names, values = re.findall(r"^Udp: (.*)$", text, re.MULTILINE)
    return int(dict(zip(names.split(), values.split()))["InCsumErrors"])


@contextmanager
def unharmed(nic: Nic, ns: Namespace) -> Iterator[None]:
    """Whatever comes from the NIC meanwhile, with its sum, is found right."""
    errors, before = csum_errors(ns), summed(nic)
    with KernelLog() as log:
        yield
        ksft_not_in("hw csum failure", log.read())
    ksft_ge(summed(nic) - before, len(LENGTHS))
    ksft_eq(csum_errors(ns), errors)


def summed(nic: Nic) -> int:
    """How many packets the NIC has summed."""
    return sum(n for name, n in nic.counters.items() if name.endswith("_complete"))


def transfer(remote: Namespace, local: Namespace) -> None:
    """From the other end of the wire to who has the address."""
    with (
        local.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        remote.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind((ADDRESS, PORT))
        client.connect((ADDRESS, PORT))
        for length in LENGTHS:
            client.send((bytes(range(256)) * 6)[:length])
            ksft_eq(len(server.recv(2048)), length)


def test_redirected() -> None:
    """Programs put frames from the NIC into the pair, and others back."""
    host, remote, container = namespaces(3)
    nic, far = simnic(host, remote)
    nic.sum_packets()
    primary, peer = pair(host, container, mode=Mode.L2)
    # What is for the NIC is for the container, whose device has its address.
    container.ip(f"link set {peer.name} address {nic.link.address}")
    for port, to in ((nic, primary), (primary, nic)):
        Hook.of(port, AttachType.TCX_INGRESS).link(redirect(to.link.index))
    peer.configure(f"{ADDRESS}/24")
    far.configure("192.0.2.2/24")
    with unharmed(nic, container):
        transfer(remote, container)


@ksft_variants(
    [
        KsftNamedVariant(f"{hook.name}_{name}", *hook.params, flags)
        for hook in HOOKS
        for name, flags in (("egress", 0), ("ingress", INGRESS))
    ]
)
def test_redirected_on(kind: AttachType, flags: int) -> None:
    """Frames from the NIC that the pair's own programs redirect: through a second
    pair, or as if another device had received them."""
    host, remote, middle, container = namespaces(4)
    nic, far = simnic(host, remote)
    nic.sum_packets()
    ends = pair(host, middle) if kind == AttachType.PRIMARY else pair(middle, host)
    each = ways(*ends)[kind]
    if flags:
        to = last = made(middle, "end")
    else:
        to, last = second_pair(middle, container, mode=Mode.L2)
    last.ns.ip(f"link set {last.name} address {nic.link.address}")
    last.configure(f"{ADDRESS}/24")
    Hook.of(nic, AttachType.TCX_INGRESS).link(redirect(each.sender.link.index))
    each.hook.attach(redirect(to.link.index, flags))
    far.configure("192.0.2.2/24")
    # Nothing leads back for an answer.
    remote.ip(f"neigh add {ADDRESS} lladdr {nic.link.address} dev {far.name}")
    with unharmed(nic, last.ns):
        transfer(remote, last.ns)


@ksft_variants(["passed", "egress", "ingress"])
def test_sent_back(how: str) -> None:
    """Frames from the NIC that a program gives to the far end, where XDP sends them
    back, by way of the programs of that end: XDP does not change a sum."""
    if how == "passed":
        needs(Fix.XDP_TX)
    host, remote, middle, container = namespaces(4)
    nic, far = simnic(host, remote)
    nic.sum_packets()
    primary, peer = pair(host, middle, mode=Mode.L2)
    hand_over = redirect(primary.link.index, 0, Helper.REDIRECT_PEER)
    Hook.of(nic, AttachType.TCX_INGRESS).link(hand_over)
    send_back(peer)
    if how == "egress":
        to, last = second_pair(host, container, mode=Mode.L2)
    else:
        to = last = made(host, "end") if how == "ingress" else primary
    if how != "passed":
        flags = INGRESS if how == "ingress" else 0
        way = ways(primary, peer)[AttachType.PEER]
        way.hook.attach(redirect(to.link.index, flags))
    last.ns.ip(f"link set {last.name} address {nic.link.address}")
    last.configure(f"{ADDRESS}/24")
    far.configure("192.0.2.2/24")
    # Nothing leads back for an answer.
    remote.ip(f"neigh add {ADDRESS} lladdr {nic.link.address} dev {far.name}")
    with unharmed(nic, last.ns):
        transfer(remote, last.ns)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
