#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Who may create, change and delete netkit devices.
"""

import os
import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from lib.py import ksft_busy_wait, ksft_eq, ksft_exit, ksft_run
from lib.py import Namespace, NetNSEnter, Pairing, Policy, Rtnl, capabilities, cases
from lib.py import defer, fork, namespaces, netkit, ns_fd, refused, single
from lib.py.rtnl import Refused
from net.lib.py import NetdevFamily, NlError

LOOPBACK = 1


class Stranger:
    """Somebody who may do anything in a network namespace of his own, and nothing elsewhere."""

    def __init__(self) -> None:
        process = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", "cat"], stdin=subprocess.PIPE
        )
        defer(process.communicate)
        self.pid = process.pid
        comm = Path(f"/proc/{self.pid}/comm")
        ksft_busy_wait(
            lambda: comm.read_text(encoding="ascii") == "cat\n",
            deadline=30,
            comment="there is no namespace",
        )

    def answers(
        self, request: Callable[..., None], *args: object
    ) -> list[tuple[str, str | None]]:
        """How a request of his is refused; empty if it is not."""
        ours, his = fork.Pipe(duplex=False)
        process = fork.Process(target=self._send, args=(his, request, *args))
        process.start()
        his.close()
        with ours:
            told = ours.recv()
        process.join()
        return told

    def _send(
        self, to: Connection, request: Callable[..., None], *args: object
    ) -> None:
        # In a process of its own: there is no way back out of a user namespace.
        for kind in ("user", "net"):
            with open(f"/proc/{self.pid}/ns/{kind}", encoding="ascii") as ns:
                os.setns(ns.fileno())
        with refused() as answers:
            request(Rtnl(), *args)
        to.send(answers)

    def devices(self) -> set[str]:
        path = f"/proc/{self.pid}/net/dev"
        lines = Path(path).read_text(encoding="ascii").splitlines()[2:]
        return {line.split(":")[0].strip() for line in lines} - {"lo"}


def given(ns: Namespace, stranger: Stranger) -> None:
    """A pair of which a stranger has the peer."""
    ns.ip(f"link add nk0 type netkit peer name nk1 netns {stranger.pid}")
    ksft_eq((ns.devices(), stranger.devices()), ({"nk0"}, {"nk1"}))


def test_nobody() -> None:
    """Without CAP_NET_ADMIN nothing is done, whatever the device."""
    (ns,) = namespaces(1)
    port = single(ns)
    requests = (
        lambda: ns.rtnl.newlink({"ifname": "nk1"} | netkit()),
        lambda: port.change(policy=Policy.PASS),
        lambda: ns.rtnl.dellink({"ifname": port.name}),
    )
    with capabilities():
        for request in requests:
            with refused() as answers:
                request()
            ksft_eq(answers, [("EPERM", None)])
    ksft_eq(ns.devices(), {port.name})


def test_create() -> None:
    """Both namespaces must be one's own."""
    (ns,) = namespaces(1)
    stranger = Stranger()
    link = {"ifname": "nk0"} | netkit(peer_info={"ifname": "nk1"})
    ksft_eq(stranger.answers(Rtnl.newlink, link), [])
    ksft_eq(stranger.devices(), {"nk0", "nk1"})
    with ns_fd(ns.name) as fd:
        elsewhere = {"ifname": "nk2", "net-ns-fd": fd}
        for link in (
            {"ifname": "nk3"} | netkit(peer_info=elsewhere),
            elsewhere | netkit(peer_info={"ifname": "nk3"}),
            elsewhere | netkit(pairing=Pairing.SINGLE),
        ):
            ksft_eq(stranger.answers(Rtnl.newlink, link), [("EPERM", None)])
    ksft_eq((ns.devices(), stranger.devices()), (set(), {"nk0", "nk1"}))


def test_change() -> None:
    """Who has the peer does not have the primary, through which both are changed."""
    (ns,) = namespaces(1)
    stranger = Stranger()
    given(ns, stranger)
    for name in ("policy", "peer-policy"):
        wish = netkit(**{name: Policy.DROP})
        ksft_eq(stranger.answers(Rtnl.change, "nk1", wish), [("EACCES", None)])
    link = ns.rtnl.getlink("nk0")
    ksft_eq(link.data["policy"], Policy.PASS)
    ksft_eq(link.data["peer-policy"], Policy.PASS)


def test_delete() -> None:
    """One end is enough to delete both."""
    (ns,) = namespaces(1)
    stranger = Stranger()
    given(ns, stranger)
    ksft_eq(stranger.answers(Rtnl.dellink, {"ifname": "nk1"}), [])
    ksft_eq((ns.devices(), stranger.devices()), (set(), set()))


def lease(_: Rtnl, device: int) -> None:
    """Asks for a queue of the loopback device, which has none to lend."""
    queue = {"ifindex": LOOPBACK, "queue": {"id": 0, "type": "rx"}}
    request = {"ifindex": device, "type": "rx", "lease": queue}
    try:
        NetdevFamily().queue_create(request)
    except NlError as error:
        raise Refused(-error.nl_msg.error, None) from error


def test_lease() -> None:
    """Who does not administer the whole system is not even asked what to lease."""
    stranger = Stranger()
    link = {"ifname": "nk0"} | netkit(pairing=Pairing.SINGLE)
    ksft_eq(stranger.answers(Rtnl.newlink, link, 2), [])
    ksft_eq(stranger.answers(lease, 2), [("EPERM", None)])
    (ns,) = namespaces(1)
    with NetNSEnter(ns.name), refused() as answers:
        lease(ns.rtnl, single(ns, link={"num-rx-queues": 2}).link.index)
    ksft_eq(answers, [("EINVAL", None)])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
