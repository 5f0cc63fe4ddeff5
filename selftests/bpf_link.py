#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Links that hold programs at the hooks of a pair, and what becomes of them when
the devices move, change their names or go.
"""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from glob import glob

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, BpfLink, F, HOOKS, Hook, Map, NetNSEnter, Port
from lib.py import ProgType, Program, Way, answer, cases, emptied, frame, insn
from lib.py import link_gone, link_ids, links_of, namespaces, operational, pair
from lib.py import pin_path, program_gone, way, ways

LINK_TYPE_NETKIT = 13
MOST = 63
NO_SUCH_ID = (1 << 31) - 1
NO_SUCH_DEVICE = 9999


def target(link: BpfLink, kind: AttachType) -> int:
    """The device's index, as each of the two places tells it."""
    told = link.info
    ksft_eq((told.type, told.attach_type), (LINK_TYPE_NETKIT, kind))
    text = link.fdinfo
    ksft_eq(text["attach_type"], f"{kind.value} ({kind.name.lower()})")
    ksft_eq(text["ifindex"], str(told.ifindex))
    return told.ifindex


def runs(each: Way, made: Map) -> int:
    """How often a packet on its way is counted."""
    before = made[0]
    with each.sender.packets() as packets:
        packets.send(frame(each.receiver.address))
    return made[0] - before


def alive(*numbers: int) -> list[bool]:
    """Which of these links can be found."""
    return [number in link_ids() for number in numbers]


@ksft_variants(HOOKS)
def test_info(kind: AttachType) -> None:
    """The device told is the one whose packets are meant."""
    each = way(kind)
    program = insn.verdict(0)
    link = each.hook.link(program)
    ksft_eq(target(link, kind), each.sender.link.index)
    ksft_eq((link.info.prog, links_of(program)), (program.id, {link.id}))
    text = link.fdinfo
    ksft_eq(
        (text["link_type"], text["link_id"], text["prog_id"]),
        ("netkit", str(link.id), str(program.id)),
    )


def told_lines(link: BpfLink) -> str:
    """What is told of it beyond what is told of any file."""
    text = link.fdinfo_text
    start = text.index("link_type:")
    names = [line.split(":")[0] for line in text[:start].splitlines()]
    ksft_eq(names, ["pos", "flags", "mnt_id", "ino"])
    return text[start:]


@ksft_variants(HOOKS)
def test_fdinfo(kind: AttachType) -> None:
    """Line by line, for who reads it; without its device a link keeps them all."""
    each = way(kind)
    program = insn.verdict(0)
    link = each.hook.link(program)
    number = {AttachType.PRIMARY: 54, AttachType.PEER: 55}[kind]

    def lines(ifindex: int) -> str:
        return (
            "link_type:\tnetkit\n"
            f"link_id:\t{link.id}\n"
            f"prog_tag:\t{program.tag}\n"
            f"prog_id:\t{program.id}\n"
            f"ifindex:\t{ifindex}\n"
            f"attach_type:\t{number} ({kind.name.lower()})\n"
        )

    ksft_eq(told_lines(link), lines(each.sender.link.index))
    each.sender.ns.rtnl.dellink({"ifname": each.sender.name})
    ksft_eq(told_lines(link), lines(0))


@ksft_variants(HOOKS)
def test_close(kind: AttachType) -> None:
    """The last descriptor takes the program away, and none before it."""
    each = way(kind)
    made = Map()
    link = each.hook.link(insn.counter(made, -1))
    again = BpfLink.by_id(link.id)
    number = link.id
    ksft_eq((again.info, runs(each, made)), (link.info, 1))
    link.close()
    ksft_eq((alive(number), runs(each, made)), ([True], 1))
    again.close()
    link_gone(number)
    ksft_eq((each.hook.query().count, runs(each, made)), (0, 0))


def test_by_id() -> None:
    ksft_eq(answer(BpfLink.by_id, 0), "ENOENT")
    ksft_eq(answer(BpfLink.by_id, NO_SUCH_ID), "ENOENT")
    link = way().hook.link(insn.verdict(0))
    number = link.id
    link.close()
    link_gone(number)
    ksft_eq(answer(BpfLink.by_id, number), "ENOENT")


@ksft_variants(HOOKS)
def test_pin(kind: AttachType) -> None:
    each = way(kind)
    made = Map()
    link = each.hook.link(insn.counter(made, -1))
    told = link.info
    link.pin(pin_path("link"))
    link.close()
    ksft_eq(runs(each, made), 1)
    again = BpfLink.pinned(pin_path("link"))
    ksft_eq(again.info, told)
    again.close()
    os.unlink(pin_path("link"))
    link_gone(told.id)
    ksft_eq(runs(each, made), 0)


@ksft_variants(HOOKS)
def test_update(kind: AttachType) -> None:
    """In its place among others."""
    each = way(kind)
    trace = insn.Trace()
    programs = [trace.program(number) for number in range(4)]
    each.hook.attach(programs[0])
    link = each.hook.link(programs[1])
    each.hook.attach(programs[2])

    def order() -> list[int]:
        trace.take()
        with each.sender.packets() as packets:
            packets.send(frame(each.receiver.address))
        return trace.take()

    ksft_eq((order(), each.hook.query().revision), ([0, 1, 2], 4))
    link.update(programs[3])
    ksft_eq((order(), each.hook.query().revision), ([0, 3, 2], 5))
    ksft_eq(link.info.prog, programs[3].id)
    ksft_eq(each.hook.query().progs[1], programs[3].id)
    ksft_eq(each.hook.query().links, [0, link.id, 0])
    # Only if it is the one that the caller thinks it is.
    link.update(programs[1], programs[3])
    ksft_eq((order(), each.hook.query().revision), ([0, 1, 2], 6))


def test_update_refused() -> None:
    """Never with ENOENT for a hook that is empty: a link has a device only as
    long as it is in the device's hook."""
    each = way()
    old, new, other, held = (insn.verdict(0) for _ in range(4))
    code = [insn.mov(insn.Reg.R0, 0), insn.ret()]
    link = each.hook.link(old)
    each.hook.attach(other)
    keep = each.hook.link(held)
    filtering = Program(code, ProgType.SOCKET_FILTER)
    before = each.hook.query(), link.info
    for error, *programs in (
        ("EPERM", new, new),
        ("EPERM", new, other),
        ("EPERM", new, held),
        # Before it is found that there is nothing to do, or no way to do it.
        ("EPERM", old, new),
        ("EPERM", other, new),
        ("EPERM", filtering, new),
        ("EEXIST", other, old),
        ("EEXIST", other),
        ("EEXIST", held),
        ("EINVAL", filtering),
        ("EINVAL", filtering, old),
    ):
        ksft_eq(answer(link.update, *programs), error)
        ksft_eq((each.hook.query(), link.info), before)
    ksft_eq(keep.info.prog, held.id)


def test_update_to_same() -> None:
    """Nothing happens, and the program is kept as often as it was."""
    each = way()
    made = Map()
    program = insn.counter(made, -1)
    link = each.hook.link(program)
    before = each.hook.query(), link.info
    for old in (None, program) * 10:
        link.update(program, old)
        ksft_eq((each.hook.query(), link.info), before)
    ksft_eq(runs(each, made), 1)
    number = program.id
    program.close()
    ksft_eq(runs(each, made), 1)
    link.close()
    program_gone(number)


@ksft_variants(HOOKS)
def test_detach(kind: AttachType) -> None:
    """The link stays, of no use any more."""
    each = way(kind)
    made = Map()
    program = insn.counter(made, -1)
    link = each.hook.link(program)
    link.detach()
    ksft_eq((each.hook.query().count, runs(each, made)), (0, 0))
    useless(link, kind)
    ksft_eq(link.info.prog, program.id)
    # The program may be attached anew, beside the link that had it.
    again = each.hook.link(program)
    link.close()
    ksft_eq((runs(each, made), each.hook.query().links), (1, [again.id]))


def useless(link: BpfLink, kind: AttachType) -> None:
    """A link without a device: it can be looked at, and closed."""
    ksft_eq(target(link, kind), 0)
    program = insn.verdict(0)
    same = Program.by_id(link.info.prog)
    ksft_eq(answer(link.update, program), "ENOLINK")
    ksft_eq(answer(link.update, program, program), "ENOLINK")
    ksft_eq(answer(link.update, same), "ENOLINK")
    ksft_eq(answer(link.detach), "")
    ksft_eq(target(link, kind), 0)


def delete_primary(primary: Port, _: Port) -> None:
    primary.ns.rtnl.dellink({"ifname": "nk0"})


def delete_peer(_: Port, peer: Port) -> None:
    peer.ns.rtnl.dellink({"ifname": "nk1"})


def delete_primary_namespace(primary: Port, peer: Port) -> None:
    primary.ns.delete()
    emptied(peer.ns)


def delete_peer_namespace(primary: Port, peer: Port) -> None:
    peer.ns.delete()
    emptied(primary.ns)


@ksft_variants(
    [
        KsftNamedVariant("primary", delete_primary),
        KsftNamedVariant("peer", delete_peer),
        KsftNamedVariant("primary_namespace", delete_primary_namespace),
        KsftNamedVariant("peer_namespace", delete_peer_namespace),
    ]
)
def test_device_gone(delete: Callable[[Port, Port], None]) -> None:
    """Links of both hooks, held by descriptors, pins or both, live on."""
    primary, peer = pair(*namespaces(2))
    held: list[tuple[BpfLink, AttachType]] = []
    pinned: list[tuple[str, AttachType]] = []
    for kind, each in ways(primary, peer).items():
        each.hook.attach(insn.verdict(-1))
        links = [each.hook.link(insn.verdict(-1)) for _ in range(3)]
        each.hook.attach(insn.verdict(-1), F.BEFORE)
        for name, link in zip("ab", links, strict=False):
            link.pin(pin_path(kind.name + name))
        pinned.append((pin_path(kind.name + "a"), kind))
        links[0].close()
        held += [(link, kind) for link in links[1:]]
    delete(primary, peer)
    held += [(BpfLink.pinned(path), kind) for path, kind in pinned]
    ksft_eq(len(held), 6)
    for link, kind in held:
        useless(link, kind)
    numbers = [link.id for link, _ in held]
    for path in glob(pin_path("*")):
        os.unlink(path)
    for link, _ in held:
        link.close()
    for number in numbers:
        link_gone(number)


@ksft_variants(HOOKS)
def test_moved(kind: AttachType) -> None:
    """The link follows the device, and so does the index it tells."""
    ns, other, third = namespaces(3)
    primary, peer = pair(ns, other)
    made = Map()
    link = ways(primary, peer)[kind].hook.link(insn.counter(made, -1))
    # So that indices change.
    for port in (primary, peer):
        third.rtnl.newlink(
            {"ifname": f"taken{port.name}", "linkinfo": {"kind": "dummy"}},
            port.link.index,
        )
    gone_hook = Hook.of(primary, kind)
    primary, peer = primary.move(third), peer.move(third)
    operational(primary, peer)
    each = ways(primary, peer)[kind]
    ksft_eq(target(link, kind), each.sender.link.index)
    ksft_eq((each.hook.query().links, runs(each, made)), ([link.id], 1))
    ksft_eq(answer(gone_hook.query), "ENODEV")
    new = insn.counter(made, -1)
    link.update(new)
    ksft_eq((each.hook.query().progs, runs(each, made)), ([new.id], 1))
    link.close()
    ksft_eq((each.hook.query().count, runs(each, made)), (0, 0))


@ksft_variants(HOOKS)
def test_renamed(kind: AttachType) -> None:
    ns, other = namespaces(2)
    primary, peer = pair(ns, other)
    made = Map()
    before = ways(primary, peer)[kind]
    link = before.hook.link(insn.counter(made, -1))
    ns.ip("link set nk0 name a")
    other.ip("link set nk1 name b")
    each = ways(Port(ns, "a"), Port(other, "b"))[kind]
    ksft_eq(target(link, kind), each.sender.link.index)
    ksft_eq((each.hook, runs(each, made)), (before.hook, 1))


def test_attached_already() -> None:
    """By whatever way; the other hook does not count."""
    hooks = [each.hook for each in ways(*pair(*namespaces(2))).values()]
    program, linked = insn.verdict(0), insn.verdict(0)
    hooks[0].attach(program)
    hooks[0].link(linked)
    for flags in (F.NONE, F.BEFORE, F.AFTER):
        for one in (program, linked):
            ksft_eq(answer(hooks[0].link, one, flags), "EEXIST")
            ksft_eq(answer(hooks[0].attach, one, flags), "EEXIST")
    links = [hooks[1].link(one) for one in (program, linked)]
    ksft_eq(hooks[1].query().links, [link.id for link in links])


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


@ksft_variants(HOOKS)
def test_too_many(kind: AttachType) -> None:
    """What is refused leaves no link and no descriptor."""
    each = way(kind)
    trace = insn.Trace()
    links = [each.hook.link(trace.program(number)) for number in range(MOST)]
    program = insn.verdict(0)
    before = each.hook.query(), descriptors()
    for flags in (F.NONE, F.BEFORE, F.AFTER) * 3:
        ksft_eq(answer(each.hook.link, program, flags), "ERANGE")
        ksft_eq(answer(each.hook.attach, program, flags), "ERANGE")
        ksft_eq((each.hook.query(), descriptors()), before)
    ksft_eq(links_of(program), set())
    ksft_eq(each.hook.query().links, [link.id for link in links])
    links[17].update(program)
    links[5].close()
    each.hook.link(trace.program(5), F.BEFORE)
    with each.sender.packets() as packets:
        packets.send(frame(each.receiver.address))
    expected = [number for number in range(MOST) if number != 5]
    # The one that replaced number 17 ended it there.
    ksft_eq(trace.take(), [5] + expected[:16])


@ksft_variants(
    [
        KsftNamedVariant("stale", F.NONE, "none", 77, "ESTALE"),
        KsftNamedVariant("relative", F.BEFORE, "program", 0, "ENOENT"),
        KsftNamedVariant("range", F.BEFORE | F.AFTER, "none", 0, "ERANGE"),
    ]
)
def test_failed_create(flags: F, relative: str, revision: int, error: str) -> None:
    """Neither a link nor a reference to the program is left."""
    hook = way().hook
    program, near = insn.verdict(0), insn.verdict(0)
    before = hook.query(), descriptors()
    for _ in range(20):
        at = near.fd if relative == "program" else 0
        ksft_eq(answer(hook.link, program, flags, at, revision), error)
    ksft_eq((hook.query(), descriptors()), before)
    ksft_eq(links_of(program), set())
    number = program.id
    program.close()
    program_gone(number)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nobody gets another one meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@ksft_variants(HOOKS)
def test_no_descriptor(kind: AttachType) -> None:
    """A link that nobody could hold attaches nothing."""
    each = way(kind)
    program, attached = insn.verdict(-1), insn.verdict(-1)
    each.hook.attach(attached)
    before = each.hook.query(), descriptors()
    # To enter the namespace takes descriptors, too.
    hook = replace(each.hook, ns="")
    with NetNSEnter(each.hook.ns), no_descriptors():
        # Before a place for it is looked for, and after the device.
        answers = [answer(hook.link, one) for one in (program, attached) * 10]
        elsewhere = answer(replace(hook, ifindex=NO_SUCH_DEVICE).link, program)
    ksft_eq((set(answers), elsewhere), ({"EMFILE"}, "ENODEV"))
    ksft_eq((each.hook.query(), descriptors()), before)
    ksft_eq(links_of(program, attached), set())
    number = program.id
    program.close()
    program_gone(number)
    # It was for the link alone.
    program = insn.verdict(-1)
    with NetNSEnter(each.hook.ns), no_descriptors():
        hook.attach(program)
    ksft_eq(each.hook.query().progs, [attached.id, program.id])


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
