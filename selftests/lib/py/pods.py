# SPDX-License-Identifier: GPL-2.0

"""
A host that connects pods by netkit devices, in the steps in which Cilium does.
"""

import shutil
import socket
import struct
from enum import IntEnum
from pathlib import Path

from net.lib.py import NetNSEnter, defer

from .bpf import BpfLink, LinkInfo, pin_path
from .libbpf import Link, Object
from .netkit import Mode, Namespace, Policy, Port, Scrub, netkit
from .rtnl import ns_fd

PROGRAMS = Path(__file__).parents[2] / "pod.bpf.o"
HEADROOM = 32
TAILROOM = 16


class Counter(IntEnum):
    FROM_POD = 0
    TO_POD = 1
    DELIVERED = 2
    BLOCKED = 3


class Pod:
    """A namespace with an address, and the device by which the host has it."""

    def __init__(
        self, name: str, ns: Namespace, address: str, rx_queues: int = 1
    ) -> None:
        self.name = name
        self.ns = ns
        self.address = address
        self.rx_queues = rx_queues

    @property
    def device(self) -> Port:
        return Port(self.ns, "eth0")


class Host:
    """What an agent does for the pods of its host."""

    def __init__(self, ns: Namespace, name: str = "pods") -> None:
        self.ns = ns
        self._pins = Path(pin_path(name))
        defer(shutil.rmtree, self._pins, ignore_errors=True)
        self.object = Object(PROGRAMS)
        ns.sysctl("net/ipv4/ip_forward", 1)
        ns.sysctl("net/ipv4/conf/all/rp_filter", 0)

    def port(self, pod: Pod) -> Port:
        return Port(self.ns, f"lxc_{pod.name}")

    def _pin(self, pod: Pod, program: str) -> Path:
        return self._pins / pod.name / program

    def create(self, pod: Pod, scrub: Scrub = Scrub.NONE) -> None:
        """A pair whose end in the pod sends nothing before there is a program."""
        self.ns.rtnl.newlink(
            {"ifname": self.port(pod).name}
            | netkit(
                mode=Mode.L3,
                policy=Policy.PASS,
                peer_policy=Policy.DROP,
                scrub=scrub,
                peer_scrub=Scrub.NONE,
                headroom=HEADROOM,
                tailroom=TAILROOM,
                peer_info={
                    "ifname": f"tmp_{pod.name}",
                    "num-rx-queues": pod.rx_queues,
                },
            )
        )
        self.ns.sysctl(f"net/ipv4/conf/{self.port(pod).name}/rp_filter", 0)
        self.port(pod).up()

    def hand_over(self, pod: Pod) -> None:
        """Moves the peer into the pod, where it gets its name and address."""
        with ns_fd(pod.ns.name) as fd:
            self.ns.rtnl.change(f"tmp_{pod.name}", {"net-ns-fd": fd})
        pod.ns.rtnl.change(f"tmp_{pod.name}", {"ifname": "eth0"})
        pod.device.up()
        pod.device.configure(f"{pod.address}/32")
        pod.ns.ip("route add default dev eth0")
        self.ns.ip(f"route add {pod.address}/32 dev {self.port(pod).name}")

    def attach(self, pod: Pod) -> None:
        """All programs are named by the host's end, and stay when the agent goes."""
        ifindex = self.port(pod).link.index
        with NetNSEnter(self.ns.name):
            for kind, program in (
                ("netkit", "to_pod"),
                ("netkit", "from_pod"),
                ("tcx", "deliver"),
            ):
                link = self.object.attach(kind, program, ifindex)
                link.pin(self._pin(pod, program))
                # From now on nothing but the pin holds it.
                link.close()
        self.object.store(
            "pods", socket.inet_aton(pod.address), struct.pack("=I", ifindex)
        )

    def deliver_from(self, port: Port) -> None:
        """Brings what comes in by another device of the host to the pods."""
        with NetNSEnter(self.ns.name):
            self.object.attach("tcx", "deliver", port.link.index)

    def connect(self, *pods: Pod) -> None:
        """All the steps for each pod, after which it can talk."""
        for pod in pods:
            self.create(pod)
            self.attach(pod)
            self.hand_over(pod)
            for port in (pod.device, self.port(pod)):
                port.wait_operational()

    def restart(self, pods: list[Pod]) -> None:
        """A new agent puts its programs into the links that the old one left."""
        old = self.object
        self.object = Object(PROGRAMS, shared=old, maps="counters pods")
        for pod in pods:
            for program in ("to_pod", "from_pod", "deliver"):
                link = Link.open(self._pin(pod, program))
                link.update(self.object.program(program))
                link.close()
        old.close()

    def links(self, *pods: Pod) -> list[LinkInfo]:
        """What the kernel tells of the links that are pinned for pods."""
        found = []
        for pod in pods:
            for pin in sorted(self._pin(pod, "").iterdir()):
                link = BpfLink.pinned(str(pin))
                found.append(link.info)
                # Or it would live on for that reason.
                link.close()
        return found

    def forget(self, pod: Pod) -> None:
        """What is left to do when a pod has gone."""
        self.object.remove("pods", socket.inet_aton(pod.address))
        for pin in self._pin(pod, "").iterdir():
            pin.unlink()
        self._pin(pod, "").rmdir()

    def count(self, counter: Counter) -> int:
        return self.object.number("counters", counter)

    def counts(self) -> dict[Counter, int]:
        return {counter: self.count(counter) for counter in Counter}
