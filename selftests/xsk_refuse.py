#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
AF_XDP sockets that are refused, by whom it may be, and that the rest works on.
"""

from dataclasses import replace

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, Bind, Fix, Hook, INGRESS, LEASED, Leased, Mode
from lib.py import NetdevSimDev, Port, QUEUE, Redirection, XdpSocket, answer, cases
from lib.py import defer, frames_to, insn, lease, leased, lessee, made, namespaces
from lib.py import needs, netkit, redirecting, simnic, single
from lib.py.bpf import F
from lib.py.zcrx import Node, Receiver


@ksft_variants(
    [
        KsftNamedVariant("unleased", 0, Bind.ZEROCOPY, "EOPNOTSUPP"),
        KsftNamedVariant("not_there", 2, Bind.ZEROCOPY, "EINVAL"),
        KsftNamedVariant("not_there_copy", 2, Bind.COPY, "EINVAL"),
        KsftNamedVariant("contradiction", 1, Bind.ZEROCOPY | Bind.COPY, "EINVAL"),
    ]
)
def test_queue(queue: int, flags: Bind, error: str) -> None:
    at = leased()
    ksft_eq(answer(XdpSocket, at.device, queue, flags), error)
    at.works(at.socket())


@ksft_variants(
    [KsftNamedVariant("zerocopy", Bind.ZEROCOPY), KsftNamedVariant("copy", Bind.COPY)]
)
def test_busy(flags: Bind) -> None:
    """One socket at a time, however it is bound."""
    at = leased()
    sock = at.socket(flags)
    for second in (Bind.ZEROCOPY, Bind.COPY, Bind.ANY):
        ksft_eq(answer(XdpSocket, at.device, LEASED, second), "EBUSY")
    at.arrive(sock)


def test_leased_queue() -> None:
    """A queue that was leased is the container's, with a socket or without."""
    at = leased()
    for flags in (Bind.ZEROCOPY, Bind.COPY):
        ksft_eq(answer(XdpSocket, at.nic, QUEUE, flags), "EBUSY")
    sock = at.socket()
    ksft_eq(answer(XdpSocket, at.nic, QUEUE), "EBUSY")
    at.works(sock)


def test_lease_busy() -> None:
    """A queue that has a socket cannot be leased."""
    at = leased()
    (container,) = namespaces(1)
    other = replace(at, queue=QUEUE + 1)
    hosts = XdpSocket(at.nic, other.queue)
    device = single(container, link={"num-rx-queues": 2})
    ksft_eq(answer(lease, device, at.nic, other.queue), "EBUSY")
    hosts.close()
    other.wait_free()
    ksft_eq(lease(device, at.nic, other.queue), LEASED)


def test_pair() -> None:
    """A pair's queues are for packets: its sockets get copies."""
    host, remote = namespaces(2)
    nic, far = simnic(host, remote)
    host.rtnl.newlink(
        netkit(mode=Mode.L2, peer_info={"ifname": "nk1", "num-rx-queues": 2})
    )
    peer = Port(host, "nk1")
    ksft_eq(lease(peer, nic, QUEUE), LEASED)
    ksft_eq(answer(XdpSocket, peer, LEASED, Bind.ZEROCOPY), "EOPNOTSUPP")
    at = Leased(nic, far, peer, Redirection(nic))
    nic.steer(peer.address, QUEUE)
    sock = at.socket(Bind.ANY)
    ksft_eq(sock.is_zerocopy, False)
    at.arrive(sock)


def test_program() -> None:
    """XDP programs are for the NIC."""
    at = leased()
    ksft_eq(answer(Redirection, at.device), "EOPNOTSUPP")
    at.works(at.socket())


def test_generic() -> None:
    """What comes by the stack, whatever it says of its queue, is not for a socket
    whose rings are the NIC's."""
    needs(Fix.XSK_GENERIC)
    at = leased()
    sock = at.socket()
    device, entry = at.device, made(at.device.ns, "entry")
    program = insn.queue_writer(LEASED + 1, *redirecting(device.link.index, INGRESS))
    Hook.of(entry, AttachType.TCX_EGRESS).link(program)
    Redirection(device, F.XDP_GENERIC)[LEASED] = sock
    with entry.packets() as out:
        for data in frames_to(device.address, 4):
            out.send(data)
    # Before these, they would have come.
    at.works(sock)


def test_ring_beside() -> None:
    """A NIC serves no socket while a ring receives from another of its queues."""
    node = Node()
    (pod,) = node.pods
    receiver = Receiver(node.nic, QUEUE + 1)
    device = lessee(pod.ns, node.nic, QUEUE)
    ksft_eq(answer(XdpSocket, device, LEASED), "EBUSY")
    receiver.kill()
    node.released(QUEUE + 1)
    node.split_headers("off")
    at = Leased(node.nic, node.far, device, Redirection(node.nic))
    at.works(at.socket())


def test_pool_fails() -> None:
    """The error is the NIC's; nothing is left of the attempt."""
    at = leased()
    at.nic.fail("xsk_pool")
    ksft_eq(answer(XdpSocket, at.device, LEASED), "EIO")
    ksft_eq(at.nic.failures_left("xsk_pool"), 0)
    ksft_eq(at.users, {"lease"})
    at.works(at.socket())


def test_pool_fails_any() -> None:
    """A socket that takes anything gets copies then."""
    at = leased()
    at.nic.fail("xsk_pool")
    sock = at.socket(Bind.ANY)
    ksft_eq(at.nic.failures_left("xsk_pool"), 0)
    ksft_eq(sock.is_zerocopy, False)
    at.arrive(sock)
    at.close(sock)
    at.works(at.socket())


def test_nic_without() -> None:
    """A NIC that cannot do AF_XDP lends its queues, but sockets there get copies."""
    host, container = namespaces(2)
    nsim = NetdevSimDev(queue_count=2, ns=host)
    defer(nsim.remove)
    device = single(container, link={"num-rx-queues": 2})
    ksft_eq(lease(device, Port(host, nsim.nsims[0].ifname), 1), LEASED)
    ksft_eq(answer(XdpSocket, device, LEASED, Bind.ZEROCOPY), "EOPNOTSUPP")
    ksft_eq(XdpSocket(device, LEASED, Bind.ANY).is_zerocopy, False)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
