#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
The steps in which Cilium connects pods, one after the other.
"""

import socket
from dataclasses import replace

from lib.py import ksft_busy_wait, ksft_eq, ksft_exit, ksft_run, ksft_true
from lib.py import AttachType, Hook, Namespace, cases, link_gone, namespaces
from lib.py import program_gone
from lib.py.pods import HEADROOM, TAILROOM, Counter, Host, Pod

PORT = 7000
BLOCKED_PORT = 9
DATAGRAMS = 10


def two_pods() -> tuple[Host, Pod, Pod]:
    host, first, second = namespaces(3)
    return (
        Host(host),
        Pod("red", first, "192.0.2.11"),
        Pod("blue", second, "192.0.2.12"),
    )


def send(sender: Namespace, address: str, port: int = PORT, count: int = 1) -> int:
    """How many datagrams the sender was not told are lost."""
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        sent = 0
        for _ in range(count):
            try:
                client.sendto(b"x", (address, port))
            except OSError:
                continue
            sent += 1
        return sent


def talk(sender: Pod, receiver: Pod) -> None:
    """A request and its answer."""
    with (
        sender.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        receiver.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
    ):
        server.bind((receiver.address, PORT))
        client.sendto(b"question", (receiver.address, PORT))
        data, (address, port) = server.recvfrom(16)
        ksft_eq((data, address), (b"question", sender.address))
        server.sendto(b"answer", (address, port))
        ksft_eq(client.recvfrom(16), (b"answer", (receiver.address, PORT)))


def test_nothing_leaves_before() -> None:
    """Until its programs are there, nothing leaves the pod."""
    host, red, blue = two_pods()
    for pod in (red, blue):
        host.create(pod)
        host.hand_over(pod)
        pod.device.wait_operational()
    before = red.device.stats
    send(red.ns, blue.address, count=DATAGRAMS)
    after = red.device.stats
    ksft_eq(after["tx_packets"], before["tx_packets"])
    ksft_eq(after["tx_dropped"] - before["tx_dropped"], DATAGRAMS)
    ksft_eq(host.port(red).stats["rx_packets"], 0)
    host.attach(red)
    host.attach(blue)
    talk(red, blue)


def test_room() -> None:
    host, red, _ = two_pods()
    host.connect(red)
    data = host.port(red).link["linkinfo"]["data"]
    ksft_eq((data["headroom"], data["tailroom"]), (HEADROOM, TAILROOM))
    data = red.device.link["linkinfo"]["data"]
    ksft_eq((data["headroom"], data["tailroom"]), (HEADROOM, TAILROOM))


def test_talk() -> None:
    """Each packet passes the sender's program, and is brought straight to the
    other pod: the program on the way into that pod is not asked."""
    host, red, blue = two_pods()
    host.connect(red, blue)
    before = host.counts()
    devices = (red.device, blue.device, host.port(red), host.port(blue))
    stats = [port.stats for port in devices]
    talk(red, blue)
    after = host.counts()
    ksft_eq(
        [after[counter] - before[counter] for counter in Counter],
        [2, 0, 2, 0],
        "from pod, to pod, delivered, blocked",
    )
    for port, old in zip(devices, stats, strict=True):
        new = port.stats
        sends = port in (red.device, blue.device)
        ksft_eq(new["tx_packets"] - old["tx_packets"], int(sends), port.name)
        ksft_eq(new["rx_packets"] - old["rx_packets"], 1, port.name)


def test_from_host() -> None:
    """What the host itself sends passes the program on its own end."""
    host, red, _ = two_pods()
    host.connect(red)
    host.ns.ip("addr add 192.0.2.1/32 dev lo")
    before = host.count(Counter.TO_POD)
    with red.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((red.address, PORT))
        send(host.ns, red.address)
        ksft_eq(server.recvfrom(16)[0], b"x")
    ksft_eq(host.count(Counter.TO_POD) - before, 1)


def test_policy() -> None:
    """A program refuses what policy forbids, and says how often."""
    host, red, blue = two_pods()
    host.connect(red, blue)
    before = red.device.stats
    send(red.ns, blue.address, BLOCKED_PORT, DATAGRAMS)
    ksft_eq(host.count(Counter.BLOCKED), DATAGRAMS)
    after = red.device.stats
    ksft_eq(after["tx_dropped"] - before["tx_dropped"], DATAGRAMS)
    ksft_eq(host.port(red).stats["rx_packets"], 0)
    talk(red, blue)


def in_place(host: Host, pod: Pod) -> None:
    """Each hook runs the program of its pinned link, and no other one."""
    for told in host.links(pod):
        found = Hook.of(host.port(pod), AttachType(told.attach_type)).query()
        ksft_eq((found.progs, found.links), ([told.prog], [told.id]))


def test_agent_restart() -> None:
    """The links outlive the agent; the next one updates them in place."""
    host, red, blue = two_pods()
    host.connect(red, blue)
    talk(red, blue)
    old = host.links(red, blue)
    host.restart([red, blue])
    new = host.links(red, blue)
    programs = {told.prog for told in old}
    ksft_eq((len(programs), programs & {told.prog for told in new}), (3, set()))
    # In all else they are the links that they were.
    kept = [replace(told, prog=now.prog) for told, now in zip(old, new, strict=True)]
    ksft_eq(new, kept)
    for pod in (red, blue):
        in_place(host, pod)
    # The old ones went with the agent: neither links nor hooks have kept them.
    for number in programs:
        program_gone(number)
    before = host.count(Counter.FROM_POD)
    talk(red, blue)
    ksft_eq(host.count(Counter.FROM_POD) - before, 2)


def test_pod_restart() -> None:
    """The pod goes with its namespace, and comes back under the same name."""
    host, red, blue = two_pods()
    host.connect(red, blue)
    talk(red, blue)
    links = host.links(blue)
    ksft_true(all(told.ifindex for told in links))
    blue.ns.delete()
    ksft_busy_wait(
        lambda: host.port(blue).name not in host.ns.devices(),
        deadline=60,
        comment="the host's end is left",
    )
    # As long as they are pinned they stay, and refer to nothing.
    ksft_eq(host.links(blue), [replace(told, ifindex=0) for told in links])
    host.forget(blue)
    for told in links:
        link_gone(told.id)
    blue = Pod("blue", namespaces(1)[0], blue.address)
    host.connect(blue)
    talk(red, blue)
    talk(blue, red)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
