#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Devices that go, stop or change while a ring of io_uring is being filled.
"""

from lib.py import ksft_busy_wait, ksft_eq, ksft_exit, ksft_in, ksft_not_in, ksft_run
from lib.py import ksft_true, ksft_variants
from lib.py import cases, emptied, namespaces, queue_get
from lib.py.pods import Pod
from lib.py.simnic import LOADED, unload
from lib.py.zcrx import GATEWAY, Load, Node, Receiver, beside, open_ring

QUEUE = 2


class Loaded:
    """A pod with a leased queue, by which more and more comes into a ring."""

    def __init__(self, kind: str = "pair") -> None:
        self.node = Node()
        (self.pod,) = self.node.pods
        self.lend(kind)
        self.receiver = Receiver(self.device, self.leased)
        self.before = self.node.nic.counters
        self.load = Load(self.node.connection(self.pod))
        self.node.flowing(QUEUE)

    def lend(self, kind: str) -> None:
        self.device = beside(self.pod) if kind == "single" else self.pod.device
        self.leased = self.node.lend(self.pod, self.device, QUEUE)

    def stop(self) -> None:
        self.load.stop()
        self.receiver.kill()

    def goes_on(self) -> None:
        """The same ring: what comes now is in its memory as all before was, and
        nothing is missing."""
        ksft_true(self.node.bound(QUEUE))
        self.node.flowing(QUEUE)
        sent = self.load.finish()
        ksft_eq(self.receiver.finish(), str(sent))
        self.node.by_ring(self.before, QUEUE, size=sent)

    def works(self) -> None:
        """Another ring on the same queue."""
        self.stop()
        self.node.released(QUEUE)
        self.node.transfer(self.pod, self.device, self.leased, QUEUE)

    def returned(self) -> None:
        """The queue is the NIC's again."""
        self.node.released(QUEUE)
        ksft_not_in("lease", queue_get(self.node.nic, QUEUE))
        ksft_eq(open_ring(self.node.nic, QUEUE), "")
        self.node.released(QUEUE)


@ksft_variants(["pair", "single"])
def test_nic_unloaded(kind: str) -> None:
    """Takes with it the device that leased of it, and that one's peer."""
    loaded = Loaded(kind)
    unload()
    ksft_true(not LOADED.exists())
    if kind == "pair":
        emptied(loaded.pod.ns)
        ksft_eq(loaded.node.host.ns.devices(), set())
    else:
        ksft_eq(loaded.pod.ns.devices(), {loaded.pod.device.name})
    loaded.receiver.kill()


def test_nic_down() -> None:
    """The queue stays leased and bound, and serves when the NIC is up again."""
    loaded = Loaded()
    loaded.node.nic.down()
    loaded.node.nic_up()
    ksft_in("lease", queue_get(loaded.node.nic, QUEUE))
    loaded.goes_on()
    loaded.works()


def test_nic_moved() -> None:
    """Into another namespace and back, the queue still leased."""
    loaded = Loaded()
    nic = loaded.node.nic
    (other,) = namespaces(1)
    moved = nic.move(other)
    moved.up()
    ksft_in("lease", queue_get(moved, QUEUE))
    moved.move(nic.ns)
    loaded.node.nic_up()
    nic.configure(f"{GATEWAY}/24")
    loaded.goes_on()
    loaded.works()


def test_nic_resized() -> None:
    """Other rings, and more of them, under the leased queue."""
    loaded = Loaded()
    nic = loaded.node.nic
    for args in (f"-G {nic.name} rx 32", f"-L {nic.name} combined 8"):
        nic.ns.ethtool(args)
    ksft_in("lease", queue_get(nic, QUEUE))
    loaded.goes_on()
    loaded.works()


@ksft_variants(["primary", "peer", "namespace"])
def test_pair_deleted(how: str) -> None:
    """The ring stays, without a queue; the queue is the NIC's."""
    loaded = Loaded()
    node, pod = loaded.node, loaded.pod
    if how == "primary":
        node.host.ns.rtnl.dellink({"ifname": node.host.port(pod).name})
    elif how == "peer":
        pod.ns.rtnl.dellink({"ifname": pod.device.name})
    else:
        loaded.receiver.kill()
        pod.ns.delete()
        ksft_busy_wait(
            lambda: node.host.port(pod).name not in node.host.ns.devices(),
            deadline=60,
            comment="the pair stays",
        )
    loaded.returned()
    loaded.stop()
    node.host.forget(pod)
    back = Pod(pod.name, namespaces(1)[0], pod.address, pod.rx_queues)
    node.host.connect(back)
    leased = node.lend(back, back.device, QUEUE)
    node.transfer(back, back.device, leased, QUEUE)


def test_single_deleted() -> None:
    """The same, and the pair beside it does not notice."""
    loaded = Loaded("single")
    loaded.pod.ns.rtnl.dellink({"ifname": loaded.device.name})
    loaded.returned()
    loaded.stop()
    loaded.node.copy(loaded.pod, QUEUE)
    loaded.lend("single")
    loaded.node.transfer(loaded.pod, loaded.device, loaded.leased, QUEUE)


def test_receiver_killed() -> None:
    """The ring goes with who had it, and leaves the lease."""
    loaded = Loaded()
    loaded.receiver.kill()
    loaded.node.released(QUEUE)
    ksft_in("lease", queue_get(loaded.node.nic, QUEUE))
    loaded.stop()
    loaded.node.copy(loaded.pod, QUEUE)
    loaded.works()


def test_device_down() -> None:
    """The pod's own device, which the queue does not hang on."""
    loaded = Loaded()
    loaded.device.down()
    loaded.device.up()
    loaded.device.wait_operational()
    loaded.pod.ns.ip(f"route add default dev {loaded.device.name}")
    loaded.goes_on()
    loaded.works()


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
