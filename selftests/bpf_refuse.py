#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Requests about programs that are refused: errno, which one where two would do,
and nothing changed.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lib.py import ksft_eq, ksft_exit, ksft_run
from lib.py import AttachType, Attached, BpfLink, F, Hook, Map, NetNSEnter, Pairing
from lib.py import ProgType, Program, answer, capabilities, cases, defer, insn, links_of
from lib.py import namespaces, netkit, pair, ways

NOT_A_DESCRIPTOR = 10000
NO_SUCH_ID = (1 << 31) - 1
NO_SUCH_DEVICE = 9999
UNKNOWN_FLAG = 1 << 6
# The first page, and one of the kernel's.
NO_MEMORY = (1, (1 << 64) - 4096)
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF = 12, 21, 39


class Refusal(NamedTuple):
    """A request, by the names of World, and the answer to it."""

    error: str
    target: str = "primary"
    kind: int = AttachType.PRIMARY
    program: str = "new"
    flags: int = F.NONE
    relative: str = "none"
    replace: str = "none"
    revision: int = 0


class World:
    """A pair with two programs and a link at each hook, and what is no pair."""

    def __init__(self) -> None:
        ns, other = namespaces(2)
        primary, peer = pair(ns, other)
        self.hooks = [each.hook for each in ways(primary, peer).values()]
        ns.rtnl.newlink(
            {"ifname": "empty"} | netkit(peer_info={"ifname": "empty_peer"})
        )
        ns.rtnl.newlink({"ifname": "single"} | netkit(pairing=Pairing.SINGLE))
        ns.rtnl.newlink({"ifname": "dummy", "linkinfo": {"kind": "dummy"}})
        # An index that nobody has here.
        other.rtnl.newlink({"ifname": "elsewhere"} | netkit(), 5000)
        self.ns = ns
        self.targets = {
            "primary": primary.link.index,
            "empty": ns.rtnl.getlink("empty").index,
            "peer": ns.rtnl.getlink("empty_peer").index,
            "single": ns.rtnl.getlink("single").index,
            "dummy": ns.rtnl.getlink("dummy").index,
            "lo": 1,
            "elsewhere": 5000,
            "unknown": NO_SUCH_DEVICE,
            "zero": 0,
            "negative": (1 << 32) - 1,
        }
        program = {name: insn.verdict(0) for name in ("new", "first", "second", "held")}
        self.program = program
        express = Program([insn.mov(insn.Reg.R0, 0), insn.ret()], ProgType.XDP)
        filtering = Program(
            [insn.mov(insn.Reg.R0, 0), insn.ret()], ProgType.SOCKET_FILTER
        )
        self.loaded = [*program.values(), express, filtering]
        for hook in self.hooks:
            hook.attach(program["first"])
            hook.attach(program["second"])
        self.link = self.hooks[0].link(program["held"])
        self.hooks[1].attach(program["held"])
        plain = socket.socket()
        defer(plain.close)
        self.numbers = {name: one.fd for name, one in program.items()} | {
            "none": 0,
            "xdp": express.fd,
            "filter": filtering.fd,
            "socket": plain.fileno(),
            "closed": NOT_A_DESCRIPTOR,
            "map": Map().fd,
            "link": self.link.fd,
            "link_id": self.link.id,
            "first_id": program["first"].id,
            "filter_id": filtering.id,
            "unknown_id": NO_SUCH_ID,
        }
        self.hooks += [
            Hook(ns.name, self.targets["empty"], kind)
            for kind in (AttachType.PRIMARY, AttachType.PEER)
        ]

    def state(self) -> tuple[list[Attached], set[int], int]:
        """What is attached, which links hold it, and how many descriptors we have."""
        return (
            [hook.query() for hook in self.hooks],
            links_of(*self.loaded),
            len(os.listdir("/proc/self/fd")),
        )

    def hook(self, case: Refusal) -> Hook:
        return Hook(self.ns.name, self.targets[case.target], case.kind)

    def attach(self, case: Refusal) -> None:
        self.hook(case).attach(
            self.numbers[case.program],
            case.flags,
            self.numbers[case.relative],
            case.revision,
            self.numbers[case.replace],
        )

    def detach(self, case: Refusal) -> None:
        self.hook(case).detach(
            self.numbers[case.program],
            case.flags,
            self.numbers[case.relative],
            case.revision,
        )

    def create(self, case: Refusal) -> None:
        self.hook(case).link(
            self.numbers[case.program],
            case.flags,
            self.numbers[case.relative],
            case.revision,
        )

    def query(self, case: Refusal) -> None:
        self.hook(case).query()

    def check(
        self, request: Callable[[Refusal], None], cases: Iterator[Refusal]
    ) -> None:
        before = self.state()
        for case in cases:
            ksft_eq(answer(request, case), case.error, str(case))
            ksft_eq(self.state(), before, str(case))


def bad_targets(**fields: str) -> Iterator[Refusal]:
    for kind in (AttachType.PRIMARY, AttachType.PEER):
        for target, error in (
            ("unknown", "ENODEV"),
            ("zero", "ENODEV"),
            ("negative", "ENODEV"),
            ("elsewhere", "ENODEV"),
            ("lo", "ENXIO"),
            ("dummy", "ENXIO"),
            ("peer", "EACCES"),
            ("single", "EOPNOTSUPP"),
        ):
            yield Refusal(error, target, kind, **fields)


def bad_kinds() -> Iterator[Refusal]:
    # Of other types of programs, of none, and beyond the last one.
    for kind in (0, 37, 45, 56, 57, 1000, (1 << 32) - 1):
        yield Refusal("EINVAL", kind=kind)
        yield Refusal("EINVAL", "unknown", kind)


def bad_programs() -> Iterator[Refusal]:
    for kind in (AttachType.PRIMARY, AttachType.PEER):
        for program, error in (
            ("xdp", "EINVAL"),
            ("filter", "EINVAL"),
            ("socket", "EINVAL"),
            ("map", "EINVAL"),
            ("link", "EINVAL"),
            ("closed", "EBADF"),
        ):
            yield Refusal(error, kind=kind, program=program)
            # Before the device is looked for.
            yield Refusal(error, "unknown", kind, program)
            yield Refusal(error, "peer", kind, program)


def bad_relatives() -> Iterator[Refusal]:
    """The same for what is attached, linked and detached."""
    for flags in (F.BEFORE, F.AFTER):
        for name, extra, error in (
            ("new", F.NONE, "ENOENT"),
            ("closed", F.NONE, "EBADF"),
            ("socket", F.NONE, "EINVAL"),
            ("filter", F.NONE, "EINVAL"),
            ("link", F.NONE, "EINVAL"),
            ("unknown_id", F.ID, "ENOENT"),
            ("none", F.ID, "ENOENT"),
            ("filter_id", F.ID, "EINVAL"),
            ("first", F.LINK, "EINVAL"),
            ("closed", F.LINK, "EBADF"),
            ("none", F.LINK, "EINVAL"),
            ("none", F.LINK | F.ID, "ENOENT"),
            ("unknown_id", F.LINK | F.ID, "ENOENT"),
        ):
            yield Refusal(error, flags=flags | extra, relative=name)
            # Where nothing is, neither.
            yield Refusal(error, "empty", flags=flags | extra, relative=name)


def bad_places() -> Iterator[Refusal]:
    yield Refusal("ERANGE", flags=F.BEFORE | F.AFTER, relative="first")
    yield Refusal("ERANGE", flags=F.BEFORE | F.AFTER)
    # Something to be near to, and nothing of where.
    yield Refusal("EINVAL", relative="first")
    yield Refusal("EINVAL", flags=F.ID, relative="first_id")
    yield Refusal("EINVAL", flags=F.LINK, relative="link")
    yield Refusal("EINVAL", flags=F.LINK | F.ID, relative="link_id")
    yield Refusal("ESTALE", revision=1)
    yield Refusal("ESTALE", "empty", revision=2)


def bad_replacements() -> Iterator[Refusal]:
    replace = F.REPLACE
    for name, error in (
        ("closed", "EBADF"),
        ("socket", "EINVAL"),
        ("link", "EINVAL"),
        ("filter", "EINVAL"),
    ):
        yield Refusal(error, flags=replace, replace=name)
        # Before the revision, before what is attached already.
        yield Refusal(error, flags=replace, replace=name, revision=77)
        yield Refusal(error, flags=replace, replace=name, program="first")
        # After the device.
        yield Refusal("ENODEV", "unknown", flags=replace, replace=name)
        yield Refusal("EACCES", "peer", flags=replace, replace=name)
    yield Refusal("ENOENT", flags=replace, replace="new")
    yield Refusal("ENOENT", "empty", flags=replace, replace="first")
    yield Refusal("EBUSY", flags=replace, replace="held")
    yield Refusal("ESTALE", flags=replace, replace="new", revision=77)
    yield Refusal("EEXIST", program="second", flags=replace, replace="first")
    yield Refusal("EEXIST", program="first", flags=replace, replace="first")
    # What it would be near to is looked at before what it would replace.
    yield Refusal("EBADF", flags=replace | F.BEFORE, relative="closed", replace="held")


def precedence() -> Iterator[Refusal]:
    """Where an addition has two faults."""
    yield Refusal("EINVAL", "unknown", flags=UNKNOWN_FLAG)
    yield Refusal("EINVAL", "unknown", 1000, "closed")
    yield Refusal("ENODEV", "unknown", revision=77)
    yield Refusal("ENODEV", "unknown", flags=F.BEFORE, relative="closed")
    yield Refusal("EACCES", "peer", program="first", revision=77)
    yield Refusal("ESTALE", program="first", revision=77)
    yield Refusal("ESTALE", flags=F.BEFORE, relative="closed", revision=77)
    yield Refusal("EEXIST", program="first", flags=F.BEFORE, relative="closed")
    yield Refusal("EEXIST", program="held", flags=F.BEFORE | F.AFTER)
    yield Refusal("EBADF", flags=F.BEFORE | F.AFTER, relative="closed")


def test_attach() -> None:
    world = World()
    world.check(world.attach, bad_targets())
    world.check(world.attach, bad_kinds())
    world.check(world.attach, bad_programs())


def test_attach_flags() -> None:
    world = World()
    for flags in (1, 2, UNKNOWN_FLAG, 1 << 7, 1 << 12, 1 << 14, 1 << 31):
        cases = [
            Refusal("EINVAL", flags=flags | more, target=target)
            for more in (F.NONE, F.BEFORE)
            for target in ("primary", "unknown", "peer")
        ]
        world.check(world.attach, iter(cases))
        world.check(world.detach, (one._replace(program="first") for one in cases))


def test_attach_place() -> None:
    world = World()
    world.check(world.attach, bad_relatives())
    world.check(world.attach, bad_places())


def test_attach_replace() -> None:
    world = World()
    world.check(world.attach, bad_replacements())
    world.check(world.attach, precedence())


def test_link() -> None:
    world = World()
    world.check(world.create, bad_targets())
    world.check(world.create, bad_kinds())
    world.check(world.create, bad_programs())
    world.check(world.create, bad_relatives())
    world.check(world.create, bad_places())


def test_link_flags() -> None:
    """Replacement is for programs alone; nobody looks for unknown flags but as
    a wish for a place that is none."""
    world = World()
    link = Refusal("", flags=F.REPLACE)
    world.check(
        world.create,
        iter(
            [
                link._replace(error="ENOENT"),
                link._replace(error="EEXIST", program="first"),
                link._replace(error="EEXIST", program="held"),
                link._replace(error="EINVAL", flags=UNKNOWN_FLAG),
                link._replace(error="EINVAL", flags=1 << 31),
                link._replace(error="ENODEV", flags=UNKNOWN_FLAG, target="unknown"),
                link._replace(error="ESTALE", flags=UNKNOWN_FLAG, revision=77),
            ]
        ),
    )


def test_detach() -> None:
    world = World()
    world.check(world.detach, bad_targets())
    world.check(world.detach, bad_targets(program="none"))
    world.check(world.detach, bad_kinds_to_detach())
    world.check(world.detach, bad_programs())
    world.check(world.detach, bad_detachments())


def bad_kinds_to_detach() -> Iterator[Refusal]:
    for kind in (56, 1000, (1 << 32) - 1):
        yield Refusal("EINVAL", kind=kind, program="first")


def bad_detachments() -> Iterator[Refusal]:
    yield Refusal("ENOENT")
    yield Refusal("ENOENT", kind=AttachType.PEER)
    yield Refusal("EBUSY", program="held")
    yield Refusal("EINVAL", program="first", flags=F.REPLACE)
    yield Refusal("ESTALE", program="first", revision=77)
    # The flag before the revision, that before what is not there.
    yield Refusal("EINVAL", program="first", flags=F.REPLACE, revision=77)
    yield Refusal("ESTALE", revision=77)
    yield Refusal("ESTALE", program="held", revision=77)
    yield Refusal("ESTALE", flags=F.BEFORE, relative="closed", revision=77)
    yield Refusal("EBADF", flags=F.BEFORE, relative="closed")
    yield Refusal("ENOENT", program="none", flags=F.BEFORE, relative="new")
    yield Refusal("EINVAL", program="none", relative="first")
    yield Refusal("EINVAL", program="none", flags=F.ID, relative="first_id")
    # Where nothing is attached nothing else matters.
    for program in ("first", "none"):
        yield Refusal("ENOENT", "empty", program=program)
        yield Refusal("ENOENT", "empty", program=program, revision=77)
        yield Refusal("ENOENT", "empty", program=program, flags=F.REPLACE)
        yield Refusal(
            "ENOENT", "empty", program=program, flags=F.BEFORE, relative="closed"
        )


def test_query() -> None:
    world = World()
    world.check(world.query, bad_targets())
    world.check(world.query, (one for one in bad_kinds() if one.kind))


def test_query_memory() -> None:
    """What does not go there is told; where nothing is attached nothing goes."""
    world = World()
    before = world.state()
    for hook, found in zip(world.hooks, before[0], strict=True):
        for address in NO_MEMORY:
            # Also where there is room for some of them only.
            for room in (64, found.count, 1):
                error, told = hook.ask(room, memory=address)
                ksft_eq(error, errno.EFAULT if found.count else 0)
                ksft_eq((told.revision, told.count), (found.revision, found.count))
            ksft_eq(hook.ask(0, memory=address)[0], 0)
    ksft_eq(world.state(), before)


def test_unprivileged() -> None:
    """Who has a program may attach it; what needs no program needs rights."""
    world = World()
    case = Refusal("EPERM")
    before = world.state()
    for allowed in ((), (CAP_BPF,)):
        with NetNSEnter(world.ns.name), capabilities(*allowed):
            answers = [
                answer(world.query, case),
                answer(world.detach, case._replace(program="none")),
                answer(world.detach, case._replace(program="none", flags=F.BEFORE)),
                # Before the device is looked for.
                answer(world.query, case._replace(target="unknown")),
                answer(world.detach, case._replace(program="none", target="unknown")),
                answer(insn.verdict, 0),
            ]
        ksft_eq(answers, ["EPERM"] * len(answers), str(allowed))
        ksft_eq(world.state(), before)
    with NetNSEnter(world.ns.name), capabilities():
        answers = [
            answer(world.attach, case),
            answer(world.detach, case),
            answer(world.attach, case._replace(program="first")),
        ]
        link = world.hook(case).link(world.numbers["new"])
        answers += [
            answer(world.create, case),
            answer(link.update, world.program["new"]),
            answer(link.detach),
            answer(BpfLink.by_id, world.link.id),
            answer(Program.by_id, world.program["new"].id),
        ]
    link.close()
    ksft_eq(answers, ["", "", "EEXIST", "EEXIST", "", "", "EPERM", "EPERM"])
    for allowed in (CAP_NET_ADMIN, CAP_SYS_ADMIN):
        with NetNSEnter(world.ns.name), capabilities(allowed):
            answers = [
                answer(world.query, case),
                answer(world.detach, case._replace(program="none", flags=F.BEFORE)),
            ]
        ksft_eq(answers, ["", ""], str(allowed))


def in_user_namespace(work: Callable[[], list[str]]) -> list[str]:
    """What a child says that has all the rights, but in a namespace alone."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.unshare(os.CLONE_NEWUSER)
            os.write(writer, ",".join(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as said:
        answers = said.read().split(",")
    ksft_eq(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
    return answers


def test_user_namespace() -> None:
    """Capabilities in a child user namespace do not count."""
    world = World()
    case = Refusal("EPERM")
    before = world.state()
    with NetNSEnter(world.ns.name):
        answers = in_user_namespace(
            lambda: [
                answer(world.query, case),
                answer(world.detach, case._replace(program="none")),
                answer(insn.verdict, 0),
                answer(world.attach, case._replace(target="unknown")),
            ]
        )
    ksft_eq(answers, ["EPERM", "EPERM", "EPERM", "ENODEV"])
    ksft_eq(world.state(), before)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
