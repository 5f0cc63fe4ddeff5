#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Who may create, change and delete netkit devices.
"""

import subprocess
from pathlib import Path

from lib.py import (
    Namespace,
    Policy,
    capabilities,
    cmd,
    defer,
    ksft_busy_wait,
    ksft_eq,
    ksft_exit,
    ksft_in,
    ksft_ne,
    ksft_run,
    namespaces,
    netkit,
    refused,
    single,
)

REFUSED = "RTNETLINK answers: Operation not permitted"


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

    def ip(self, args: str) -> str:
        """What ip complains about."""
        enter = f"nsenter --target {self.pid} --user --preserve-credentials --net"
        return cmd(f"{enter} ip {args}", fail=False).stderr.strip()

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
    ksft_eq(stranger.ip("link add nk0 type netkit peer name nk1"), "")
    ksft_eq(stranger.devices(), {"nk0", "nk1"})
    for request in (
        f"link add nk2 type netkit peer name nk3 netns {ns.name}",
        f"link add nk2 netns {ns.name} type netkit peer name nk3",
        f"link add nk2 netns {ns.name} type netkit single",
    ):
        ksft_in(REFUSED, stranger.ip(request))
    ksft_eq((ns.devices(), stranger.devices()), (set(), {"nk0", "nk1"}))


def test_change() -> None:
    """Who has the peer does not have the primary, through which both are changed."""
    (ns,) = namespaces(1)
    stranger = Stranger()
    given(ns, stranger)
    for data in ("blackhole", "peer blackhole"):
        ksft_ne(stranger.ip(f"link set nk1 type netkit {data}"), "")
    link = ns.rtnl.getlink("nk0")
    ksft_eq(link.data["policy"], Policy.PASS)
    ksft_eq(link.data["peer-policy"], Policy.PASS)


def test_delete() -> None:
    """One end is enough to delete both."""
    (ns,) = namespaces(1)
    stranger = Stranger()
    given(ns, stranger)
    ksft_eq(stranger.ip("link del nk1"), "")
    ksft_eq((ns.devices(), stranger.devices()), (set(), set()))


def main() -> None:
    ksft_run([test_nobody, test_create, test_change, test_delete])
    ksft_exit()


if __name__ == "__main__":
    main()
