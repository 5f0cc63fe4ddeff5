#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
How AF_XDP sockets on leased queues wake the NIC up.
"""

import select
from collections.abc import Callable

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_run
from lib.py import ksft_true, ksft_variants
from lib.py import Bind, XdpSocket, answer, cases, frames_to, leased, operational, same

FLAGS = Bind.ZEROCOPY | Bind.NEED_WAKEUP
Wake = Callable[[XdpSocket], object]


@ksft_variants(
    [
        KsftNamedVariant("send", XdpSocket.wake_tx),
        KsftNamedVariant("poll", lambda sock: sock.poll(select.POLLOUT)),
    ]
)
def test_transmit(wake: Wake) -> None:
    """The NIC does not look before."""
    at = leased()
    sock = at.socket(FLAGS)
    ksft_true(sock.tx_needs_wakeup)
    frames = frames_to(at.remote.address, 4)
    with at.remote.packets() as into:
        sock.queue(*frames)
        at.pass_by()
        ksft_true(into.empty())
        ksft_eq(sock.completed(), 0)
        wake(sock)
        same([into.receive().data for _ in frames], frames)
    sock.complete(4)


@ksft_variants(
    [
        KsftNamedVariant("send", XdpSocket.wake_tx),
        KsftNamedVariant("receive", XdpSocket.wake_rx),
    ]
)
def test_down(wake: Wake) -> None:
    """The answer is the NIC's; it sends later what was queued meanwhile."""
    at = leased()
    sock = at.socket(FLAGS)
    ksft_busy_wait(lambda: sock.rx_needs_wakeup, deadline=30, comment="needs none")
    at.nic.down()
    ksft_eq(answer(wake, sock), "ENETDOWN")
    frames = frames_to(at.remote.address)
    sock.queue(*frames)
    with at.remote.packets() as into:
        operational(at.nic, at.remote)
        same([into.receive().data], frames)
    at.arrive(sock)


def test_device_down() -> None:
    """Then the core does not ask."""
    at = leased()
    sock = at.socket(FLAGS)
    at.device.down()
    for wake in (sock.wake_tx, sock.wake_rx):
        ksft_eq(answer(wake), "ENETDOWN")
    at.device.up()
    at.works(sock)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
