#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Leases queues of a NIC to containers, inside the guest, and shows what each queue counted.

The NIC is simulated; what is not as it must be ends this with one line and status 1.
"""

import json
from pathlib import Path

from lib.py import Mode, Nic, Port, cmd, namespaces, simnic, single
from lib.py.leased import frames_to
from lib.py.simnic import CHANNELS, nsid
from lib.py.xsk import Redirection, XdpSocket
from lib.py.zcrx import PACKETS, SIZE, Node, Receiver
from showing import equal, heading, show

LEASE = Path(__file__).parent / "lease"
QUEUE = 2
FRAMES = 16
COUNTERS = {
    "packets": "packets",
    "unreadable": "into the ring",
    "xsk": "into the socket",
}


def lend(nic: Nic, device: Port) -> int:
    """Leases the queue, and prints the call."""
    number = nsid(device.ns, nic.ns)
    said = cmd(
        f"{LEASE} {device.name} {QUEUE} {nic.link.index} {number}",
        ns=device.ns.name,
        timeout=120,
    )
    print(
        f"  queue {QUEUE} of {nic.name}, which namespace {number} has, for {device.name} of the container:"
    )
    for line in (said.stderr + said.stdout).splitlines():
        print(f"  {line}")
    return json.loads(said.stdout)["id"]


def show_queues(nic: Nic, before: dict[str, int]) -> dict[str, int]:
    """Prints what each receive queue counted, and returns what was not on the ordinary path."""
    growth = {name: count - before[name] for name, count in nic.counters.items()}
    print(
        "  "
        + f"{nic.name}".ljust(16)
        + "".join(f"{text:>18}" for text in COUNTERS.values())
    )
    special = {}
    for queue in range(CHANNELS):
        counts = {f"rx{queue}_{name}": growth[f"rx{queue}_{name}"] for name in COUNTERS}
        print(
            f"  queue {queue}".ljust(18)
            + "".join(f"{count:>18}" for count in counts.values())
        )
        del counts[f"rx{queue}_packets"]
        special |= {name: count for name, count in counts.items() if count}
    return special


def ring() -> None:
    """A container's end of a pair has the queue, a ring of io_uring in it the packets."""
    heading("11. io_uring with zero copy: the container's end of a pair leases a queue")
    node = Node()
    (pod,) = node.pods
    leased = lend(node.nic, pod.device)
    node.steer(pod, QUEUE)
    receiver = Receiver(pod.device, leased)
    before = node.nic.counters
    node.send(pod)
    arrived = receiver.finish()
    print(
        f"  {arrived} bytes sent over TCP from far away, compared where the ring has them"
    )
    equal("bytes in the ring", arrived, str(SIZE))
    counts = show_queues(node.nic, before)
    equal("queues with packets in a ring", [*counts], [f"rx{QUEUE}_unreadable"])
    # More of them if some were sent again.
    unreadable = min(counts[f"rx{QUEUE}_unreadable"], PACKETS)
    equal("packets in the ring", unreadable, PACKETS)


def sock() -> None:
    """A single device has the queue, a socket of AF_XDP on it the frames."""
    heading("12. AF_XDP without copying: a single device leases a queue")
    host, remote, container = namespaces(3)
    nic, far = simnic(host, remote)
    device = single(container, mode=Mode.L2, link={"num-rx-queues": 2})
    leased = lend(nic, device)
    nic.steer(device.address, QUEUE)
    server = XdpSocket(device, leased)
    equal("zero copy of the socket", server.is_zerocopy, True)
    server.fill(2 * FRAMES)
    Redirection(nic)[QUEUE] = server
    before = nic.counters
    frames = frames_to(device.address, FRAMES)
    with far.packets() as client:
        for data in frames:
            client.send(data)
        equal("frames in the socket", server.receive(FRAMES) == frames, True)
        answers = frames_to(far.address, FRAMES)
        server.send(*answers)
        equal("answers", [client.receive().data for _ in answers] == answers, True)
    print(
        f"  {FRAMES} frames from far away, and {FRAMES} answers by the socket: each as it was sent"
    )
    equal("frames in a socket", show_queues(nic, before), {f"rx{QUEUE}_xsk": FRAMES})
    sent = nic.counters[f"tx{QUEUE}_xsk"] - before[f"tx{QUEUE}_xsk"]
    print(f"  sent out of the socket by queue {QUEUE}: {sent} frames")
    equal("frames out of the socket", sent, FRAMES)


if __name__ == "__main__":
    show(ring)
    show(sock)
