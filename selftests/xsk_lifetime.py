#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
AF_XDP sockets on leased queues when something of what they need goes or moves.
"""

import threading
from dataclasses import replace

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_in
from lib.py import ksft_run, ksft_true, ksft_variants
from lib.py import Bind, Busy, LEASED, Leased, Monitor, Nic, QUEUE, Redirection
from lib.py import XdpSocket, answer, cases, frames_to, ip, leased, lessee, namespaces
from lib.py import ns_fd, operational, same, simnic, single, spare_c, unload

GROUP = 7
OTHERS = 64
TRIES = 4

FLAGS = [
    KsftNamedVariant("zerocopy", Bind.ZEROCOPY),
    KsftNamedVariant("copy", Bind.COPY),
]


def cut_off(sock: XdpSocket) -> None:
    """The socket has lost its device, and says so."""
    ksft_eq(sock.error, "ENETDOWN")
    for wake in (sock.wake_tx, sock.wake_rx):
        ksft_eq(answer(wake), "ENXIO")


@ksft_variants(FLAGS)
def test_closed(flags: Bind) -> None:
    """The lease stays; frames are the NIC's until there is another socket."""
    at = leased()
    sock = at.socket(flags)
    ksft_eq(at.users, {"lease", "xsk"})
    at.arrive(sock)
    at.close(sock)
    frames = frames_to(at.device.address)
    with at.nic.packets() as into, at.remote.packets() as out:
        out.send(frames[0])
        same([into.receive().data], frames)
    at.works(at.socket())


@ksft_variants(FLAGS)
def test_device_deleted(flags: Bind) -> None:
    """The queue is free at once, while the socket is open."""
    at = leased()
    sock = at.socket(flags)
    with Busy(at, sock) as busy:
        at.device.ns.rtnl.dellink({"ifname": at.device.name})
        cut_off(sock)
        ksft_eq(at.users, set())
    busy.rest(at.nic)
    again = replace(at, device=lessee(at.device.ns, at.nic, QUEUE))
    again.works(again.socket())


def closed_in_time(at: Leased, sock: XdpSocket) -> bool:
    """Closes a socket when the deletion of its group of devices has begun;
    whether it still had its own then."""
    container = at.device.ns
    with Monitor(container.name) as links:
        deletion = threading.Thread(
            target=container.rtnl.dellink, args=({"group": GROUP},)
        )
        deletion.start()
        links.wait()
        error = sock.error
        sock.close()
        deletion.join()
        ksft_eq(links.seen()[-1][1].name, at.device.name)
    ksft_in(error, ("", "ENETDOWN"))
    return not error


@ksft_variants(FLAGS)
def test_closed_while_deleted(flags: Bind) -> None:
    """What a socket leaves to be cleared up later, as its device is going, is
    taken from the NIC all the same."""
    spare_c("it is left with the queue of the NIC")
    host, remote, container = namespaces(3)
    nic, far = simnic(host, remote)
    redirection = Redirection(nic)
    for others in (OTHERS << number for number in range(TRIES)):
        # They go in the order in which they came, and the device last.
        for number in range(others):
            container.rtnl.newlink(
                {
                    "ifname": f"other{number}",
                    "group": GROUP,
                    "linkinfo": {"kind": "dummy"},
                }
            )
        device = lessee(container, nic, QUEUE)
        container.rtnl.change(device.name, {"group": GROUP})
        at = Leased(nic, far, device, redirection)
        sock = at.socket(flags)
        at.arrive(sock)
        closed = closed_in_time(at, sock)
        ksft_eq(at.users, set())
        if closed:
            break
    ksft_true(closed, "the device has always been quicker")
    again = replace(at, device=lessee(container, nic, QUEUE))
    again.works(again.socket())


def test_device_deleted_shared() -> None:
    """So it is with all sockets of the queue."""
    at = leased()
    first = at.socket()
    second = XdpSocket(at.device, LEASED, shared=first)
    at.device.ns.rtnl.dellink({"ifname": at.device.name})
    for sock in (first, second):
        cut_off(sock)
    ksft_eq(at.users, set())


@ksft_variants(FLAGS)
def test_unloaded(flags: Bind) -> None:
    """With the NIC go the devices that have its queues, and no others."""
    at = leased()
    sock = at.socket(flags)
    (other,) = namespaces(1)
    single(other)
    with Busy(at, sock):
        unload()
        cut_off(sock)
    ksft_eq(at.device.ns.devices(), set())
    ksft_eq(other.devices(), {"nk0"})
    sock.close()


def test_namespace_deleted() -> None:
    """It keeps what it has while somebody uses it, and gives the queue back then."""
    at = leased()
    sock = at.socket()
    with ns_fd(at.device.ns.name):
        at.device.ns.delete()
        ksft_eq(at.users, {"lease", "xsk"})
        at.close(sock)
        ksft_eq(at.users, {"lease"})
    ksft_busy_wait(
        lambda: at.users == set(), deadline=60, comment="the queue is not free"
    )


def test_nic_down() -> None:
    """The socket waits for it."""
    at = leased()
    sock = at.socket()
    with Busy(at, sock) as busy:
        at.nic.down()
        ksft_eq((sock.error, sock.is_zerocopy), ("", True))
        operational(at.nic, at.remote)
        busy.flowing()
    busy.settle(at.nic)
    at.works(sock)


def test_bound_down() -> None:
    """A socket may come before the NIC is set up."""
    at = leased()
    at.nic.down()
    sock = at.socket()
    ksft_true(sock.is_zerocopy)
    operational(at.nic, at.remote)
    at.works(sock)


def test_closed_down() -> None:
    """And go before it is again."""
    at = leased()
    sock = at.socket()
    at.nic.down()
    sock.close()
    operational(at.nic, at.remote)
    at.wait_free()
    at.works(at.socket())


def test_nic_moved() -> None:
    """Neither lease nor socket care in which namespace the NIC is."""
    # The module goes first at the end, or the NIC would still be there.
    (other,) = namespaces(1)
    at = leased()
    sock = at.socket()
    with Busy(at, sock) as busy:
        moved = replace(at, nic=at.nic.move(other))
        operational(moved.nic, at.remote)
        ksft_eq(moved.users, {"lease", "xsk"})
        busy.flowing()
    busy.settle(moved.nic)
    moved.works(sock)
    moved.close(sock)


def test_nic_namespace_deleted() -> None:
    """The NIC is in the first one again, and from there goes where it is told."""
    (other,) = namespaces(1)
    at = leased()
    sock = at.socket()
    at.nic.ns.delete()
    ksft_busy_wait(
        lambda: any(link["ifname"] == at.nic.name for link in ip("link", json=True)),
        deadline=60,
        comment="the NIC is not back",
    )
    ip(f"link set {at.nic.name} netns {other.name}")
    moved = replace(at, nic=Nic(other, at.nic.name))
    operational(moved.nic, at.remote)
    moved.works(sock)
    moved.close(sock)


def test_device_moved() -> None:
    """The lease goes along; the socket is left behind."""
    at = leased()
    (other,) = namespaces(1)
    sock = at.socket()
    moved = replace(at, device=at.device.move(other))
    cut_off(sock)
    moved.device.up()
    ksft_eq(at.users, {"lease"})
    moved.works(moved.socket())


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
