#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Packets that a NIC gives the sum of all their bytes, on their way through a pair.

Whatever is put before them or taken away has to be added to the sum or taken
from it.  One that is wrong costs time only, and the kernel complains, once.
"""

import re
import socket
from pathlib import Path

from lib.py import (
    AttachType,
    Hook,
    KernelLog,
    Mode,
    Namespace,
    NetNSEnter,
    ksft_eq,
    ksft_exit,
    ksft_ge,
    ksft_run,
    namespaces,
    pair,
    redirect,
    simnic,
)

PORT = 7000
# With and without padding, and of those that are summed when they are read.
LENGTHS = [1, 2, 17, 18, 19, 100, 101, 1471, 1472]


def csum_errors(ns: Namespace) -> int:
    """How many packets IP and UDP have found to be broken."""
    with NetNSEnter(ns.name):
        text = Path("/proc/thread-self/net/snmp").read_text("ascii")
    names, values = re.findall(r"^Udp: (.*)$", text, re.MULTILINE)
    return int(dict(zip(names.split(), values.split()))["InCsumErrors"])


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
    peer.configure("192.0.2.1/24")
    far.configure("192.0.2.2/24")
    errors = csum_errors(container)
    log = KernelLog()
    with (
        container.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        remote.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("192.0.2.1", PORT))
        client.connect(("192.0.2.1", PORT))
        for length in LENGTHS:
            client.send((bytes(range(256)) * 6)[:length])
            ksft_eq(len(server.recv(2048)), length)
    summed = sum(n for name, n in nic.counters.items() if name.endswith("_complete"))
    ksft_ge(summed, len(LENGTHS))
    ksft_eq(csum_errors(container), errors)
    ksft_eq(log.complaints(), [])


def main() -> None:
    ksft_run([test_redirected])
    ksft_exit()


if __name__ == "__main__":
    main()
