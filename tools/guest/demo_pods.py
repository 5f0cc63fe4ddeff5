#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Connects two pods as Cilium does, inside the guest, and shows what each program and device counted.

The steps are those of the test of the same; what is not as it must be ends this with one line and status 1.
"""

import socket
from collections.abc import Iterable

from lib.py import Namespace, Port, cmd, link_ids, namespaces, program_exists
from lib.py.pods import Counter, Host, Pod
from showing import equal, heading, show, soon

DATAGRAMS = 10
PINGS = 10
BLOCKED_PORT = 9


def show_devices(host: Host, pods: list[Pod]) -> None:
    """Prints the counters of both ends of each pod's pair."""
    print(f"  {'':<16}{'rx packets':>12}{'tx packets':>12}{'tx dropped':>12}")
    for pod in pods:
        for label, port in (
            (f"host/{host.port(pod).name}", host.port(pod)),
            (f"{pod.name}/eth0", pod.device),
        ):
            stats = port.stats
            print(
                f"  {label:<16}{stats['rx_packets']:>12}{stats['tx_packets']:>12}{stats['tx_dropped']:>12}"
            )


def show_programs(host: Host) -> None:
    """Prints what the programs counted."""
    counts = host.counts()
    print(
        f"  programs: {counts[Counter.FROM_POD]} packets from pods, {counts[Counter.DELIVERED]} brought to the other pod,"
        f" {counts[Counter.TO_POD]} from the host, {counts[Counter.BLOCKED]} refused"
    )


def show_links(ns: Namespace) -> None:
    """Prints the links of the host as bpftool shows them."""
    for line in cmd("bpftool net show", ns=ns.name).stdout.splitlines():
        if "netkit" in line or "tcx" in line:
            print(f"  {line}")


def listed(items: Iterable[object]) -> str:
    """Returns as many as there are as text."""
    return " ".join(map(str, items))


def datagrams(pod: Pod, address: str, port: int) -> None:
    """Sends datagrams that nobody answers; a device may tell the sender that it dropped them."""
    with pod.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(DATAGRAMS):
            try:
                client.sendto(b"x", (address, port))
            except OSError:
                pass


def pings(sender: Pod, receiver: Pod) -> None:
    """Sends pings, all of which must be answered."""
    result = cmd(
        f"ping -q -c {PINGS} -i 0.05 -W 2 {receiver.address}",
        ns=sender.ns.name,
        fail=False,
    )
    summary = [line for line in result.stdout.splitlines() if "received" in line]
    print(f"  {sender.name} -> {receiver.name}: {listed(summary)}")
    equal("packets answered", f" {PINGS} received" in result.stdout, True)


def dropped(port: Port) -> int:
    """Returns how many packets a device refused to send."""
    return port.stats["tx_dropped"]


def restart_agent(host: Host, pods: list[Pod]) -> None:
    """Prints by their numbers which links remain while the programs in them become others, and the old ones go."""
    before = {pod.name: host.links(pod) for pod in pods}
    host.restart(pods)
    replaced = set()
    for pod in pods:
        old, new = before[pod.name], host.links(pod)
        programs = [told.prog for told in old], [told.prog for told in new]
        print(
            f"  {pod.name:<6}links {listed(told.id for told in new)}:"
            f" programs {listed(programs[0])} before, {listed(programs[1])} now"
        )
        equal("pinned links", [told.id for told in new], [told.id for told in old])
        equal("programs that are both", set(programs[0]) & set(programs[1]), set())
        replaced.update(programs[0])
    soon(
        "old programs that are left",
        lambda: set(filter(program_exists, replaced)),
        set(),
    )
    print("  the old agent has gone, and its programs with it")


def leave(host: Host, pod: Pod) -> None:
    """Deletes a pod's namespace, then what is pinned, and prints what becomes of the devices and links."""
    links = {told.id for told in host.links(pod)}
    pod.ns.delete()
    soon("host's end is there", lambda: host.port(pod).name in host.ns.devices(), False)
    targets = [told.ifindex for told in host.links(pod)]
    equal("devices of its links", targets, [0, 0, 0])
    print(
        f"  {pod.name} is gone, and its devices with it; its links are pinned, and refer to devices {listed(targets)}"
    )
    host.forget(pod)
    soon("links that are left", lambda: links & link_ids(), set())
    print("  unpinned, its links are gone, too")


def main() -> None:
    """Goes through the steps."""
    host_ns, red_ns, blue_ns = namespaces(3)
    host = Host(host_ns, "demo")
    red, blue = Pod("red", red_ns, "192.0.2.11"), Pod("blue", blue_ns, "192.0.2.12")
    pods = [red, blue]

    heading(
        "7. Two pods: layer 3, the host's end forwards, the pod's end is a black hole"
    )
    for pod in pods:
        host.create(pod)
        host.hand_over(pod)
        pod.device.wait_operational()
    datagrams(red, blue.address, 7000)
    print(
        f"  {DATAGRAMS} datagrams from red before there is a program: {dropped(red.device)} dropped"
    )
    equal("datagrams dropped", dropped(red.device), DATAGRAMS)

    heading("8. Programs on both ends, by links that are pinned: the pods can talk")
    for pod in pods:
        host.attach(pod)
    show_links(host_ns)
    pings(red, blue)
    pings(blue, red)
    show_programs(host)
    show_devices(host, pods)
    equal("packets brought to the other pod", host.count(Counter.DELIVERED), 4 * PINGS)

    heading("9. A program refuses what policy forbids")
    datagrams(red, blue.address, BLOCKED_PORT)
    show_programs(host)
    equal("datagrams refused", host.count(Counter.BLOCKED), DATAGRAMS)
    equal("datagrams dropped", dropped(red.device), 2 * DATAGRAMS)

    heading("10. A new agent updates the programs in place; a pod is restarted")
    restart_agent(host, pods)
    pings(red, blue)
    leave(host, blue)
    blue = Pod("blue", namespaces(1)[0], blue.address)
    host.connect(blue)
    pings(red, blue)
    show_programs(host)


if __name__ == "__main__":
    show(main)
