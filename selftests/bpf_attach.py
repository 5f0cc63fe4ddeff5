#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Programs attached to the hooks of a pair: in what order they run, and what the
kernel tells about them.
"""

import errno
from collections.abc import Iterable

from lib.py import KsftNamedVariant, ksft_eq, ksft_exit, ksft_run, ksft_variants
from lib.py import AttachType, Attached, BpfLink, F, HOOKS, Hook, Program, answer, cases
from lib.py import defer, frame, insn, namespaces, pair, program_exists, program_gone
from lib.py import way, ways

MOST = 63


class Chain:
    """A hook and programs named by letters, which tell when they run."""

    def __init__(self, kind: AttachType) -> None:
        self.way = way(kind)
        self.hook = self.way.hook
        self._trace = insn.Trace()
        self.programs: dict[str, Program] = {}
        self._packets = self.way.sender.packets()
        defer(self._packets.__exit__)

    def __getitem__(self, name: str) -> Program:
        if name not in self.programs:
            self.programs[name] = self._trace.program(ord(name))
        return self.programs[name]

    def attach(self, names: str) -> None:
        for name in names:
            self.hook.attach(self[name])

    def runs(self) -> str:
        self._trace.take()
        self._packets.send(frame(self.way.receiver.address))
        return "".join(map(chr, self._trace.take()))

    def expect(
        self, names: str, revision: int, links: Iterable[BpfLink] | None = None
    ) -> None:
        """What is attached, as told and as seen by packets."""
        held = {link.info.prog: link.id for link in links or ()}
        ids = [self[name].id for name in names]
        ksft_eq(
            self.hook.query(),
            Attached(revision, len(names), ids, [held.get(one, 0) for one in ids]),
        )
        ksft_eq(self.runs(), names)

    def refuses(self, error: str, *args: object, **kwargs: object) -> None:
        """Attaching fails, and nothing changes."""
        self._unchanged(error, self.hook.attach, *args, **kwargs)

    def refuses_detach(self, error: str, *args: object, **kwargs: object) -> None:
        self._unchanged(error, self.hook.detach, *args, **kwargs)

    def _unchanged(self, error: str, *args: object, **kwargs: object) -> None:
        before = self.hook.query()
        ksft_eq(answer(*args, **kwargs), error)
        ksft_eq(self.hook.query(), before)


def relatives() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(
            f"{hook.name}_{'link' if link else 'program'}_{'id' if by_id else 'fd'}",
            *hook.params,
            link,
            by_id,
        )
        for hook in HOOKS
        for link in (False, True)
        for by_id in (False, True)
    ]


@ksft_variants(relatives())
def test_relative(kind: AttachType, link: bool, by_id: bool) -> None:
    """Before and after what is there, however that is named."""
    chain = Chain(kind)
    names = F.LINK if link else F.NONE
    if by_id:
        names |= F.ID
    made: Program | BpfLink = chain["m"]
    links = []
    if link:
        made = chain.hook.link(chain["m"])
        links = [made]
    else:
        chain.hook.attach(chain["m"])
    at = made.id if by_id else made.fd
    chain.hook.attach(chain["b"], F.BEFORE | names, at)
    chain.hook.attach(chain["y"], F.AFTER | names, at)
    chain.expect("bmy", 4, links)
    # In between, where others have to make room.
    chain.hook.attach(chain["c"], F.BEFORE | names, at)
    chain.hook.attach(chain["x"], F.AFTER | names, at)
    chain.expect("bcmxy", 6, links)
    links.append(chain.hook.link(chain["d"], F.BEFORE | names, at))
    links.append(chain.hook.link(chain["w"], F.AFTER | names, at))
    chain.expect("bcdmwxy", 8, links)


@ksft_variants(HOOKS)
def test_ends(kind: AttachType) -> None:
    """Relative to nothing is first and last; last, too, without a wish."""
    chain = Chain(kind)
    chain.hook.attach(chain["m"], F.BEFORE)
    chain.hook.attach(chain["l"], F.BEFORE)
    chain.hook.attach(chain["n"], F.AFTER)
    chain.hook.attach(chain["o"])
    links = [
        chain.hook.link(chain["k"], F.BEFORE),
        chain.hook.link(chain["p"], F.AFTER),
        chain.hook.link(chain["q"]),
    ]
    chain.expect("klmnopq", 8, links)


@ksft_variants(HOOKS)
def test_replace(kind: AttachType) -> None:
    """In place, wherever that is; the old one may come back."""
    chain = Chain(kind)
    chain.attach("abc")
    for old, new, after in (("b", "x", "axc"), ("a", "y", "yxc"), ("c", "z", "yxz")):
        chain.hook.attach(chain[new], F.REPLACE, replace=chain[old])
        chain.expect(after, chain.hook.query().revision)
    chain.attach("b")
    chain.expect("yxzb", 8)


def test_replace_refused() -> None:
    chain = Chain(AttachType.PRIMARY)
    chain.attach("ab")
    chain.hook.link(chain["l"])
    chain.refuses("EBUSY", chain["x"], F.REPLACE, replace=chain["l"])
    chain.refuses("ENOENT", chain["x"], F.REPLACE, replace=chain["y"])
    # Attached already, be it the same that is to be replaced.
    chain.refuses("EEXIST", chain["a"], F.REPLACE, replace=chain["a"])
    chain.refuses("EEXIST", chain["a"], F.REPLACE, replace=chain["b"])


def test_replace_at() -> None:
    """A place besides the program to be replaced has to agree with it."""
    chain = Chain(AttachType.PRIMARY)
    chain.attach("abc")
    for flags, relative in (
        (F.BEFORE, "b"),
        (F.BEFORE, "a"),
        (F.AFTER, "b"),
        (F.AFTER, "c"),
    ):
        chain.refuses(
            "ERANGE",
            chain["x"],
            F.REPLACE | flags,
            chain[relative].fd,
            replace=chain["b"],
        )
    for flags in (F.BEFORE, F.AFTER):
        chain.refuses("ERANGE", chain["x"], F.REPLACE | flags, replace=chain["b"])
        chain.refuses(
            "ENOENT",
            chain["x"],
            F.REPLACE | flags,
            chain["y"].fd,
            replace=chain["b"],
        )
    chain.hook.attach(
        chain["x"], F.REPLACE | F.BEFORE, chain["c"].fd, replace=chain["b"]
    )
    chain.expect("axc", 5)
    chain.hook.attach(
        chain["y"], F.REPLACE | F.AFTER, chain["a"].fd, replace=chain["x"]
    )
    chain.expect("ayc", 6)


@ksft_variants(HOOKS)
def test_revision(kind: AttachType) -> None:
    """One more with each change; a wrong one is refused."""
    chain = Chain(kind)
    hook = chain.hook
    ksft_eq(hook.query(), Attached(1, 0, [], []))

    def stale(revision: int) -> None:
        for wrong in (revision - 1, revision + 1, 1 << 63):
            if not wrong:
                # Which means any.
                continue
            chain.refuses("ESTALE", chain["z"], revision=wrong)
            ksft_eq(answer(hook.link, chain["z"], revision=wrong), "ESTALE")
            if hook.query().count:
                chain.refuses_detach("ESTALE", None, revision=wrong)
        ksft_eq(hook.query().revision, revision)

    stale(1)
    hook.attach(chain["a"], revision=1)
    stale(2)
    link = hook.link(chain["b"], revision=2)
    stale(3)
    hook.attach(chain["c"], F.REPLACE, replace=chain["a"], revision=3)
    stale(4)
    link.update(chain["a"])
    stale(5)
    link.update(chain["a"])
    stale(5)
    hook.detach(chain["c"], revision=5)
    stale(6)
    chain.expect("a", 6, [link])


def test_revision_of_nothing() -> None:
    """Told as the first, though the count goes on."""
    chain = Chain(AttachType.PRIMARY)
    chain.attach("a")
    chain.hook.detach(chain["a"])
    ksft_eq(chain.hook.query(), Attached(1, 0, [], []))
    chain.refuses("ESTALE", chain["a"], revision=1)
    chain.hook.attach(chain["a"], revision=3)
    chain.expect("a", 4)


def test_hooks_apart() -> None:
    """One of the primary, one of the peer, of each pair; programs of all."""
    chain = Chain(AttachType.PRIMARY)
    ns = chain.way.sender.ns
    ns.rtnl.newlink({"ifname": "other", "linkinfo": {"kind": "netkit"}})
    other = Hook(ns.name, ns.rtnl.getlink("other").index)
    hooks = [chain.hook, other]
    hooks += [Hook(hook.ns, hook.ifindex, AttachType.PEER) for hook in hooks]
    for number, hook in enumerate(hooks):
        for _ in range(number):
            hook.attach(chain["c"])
            hook.detach(chain["c"])
        hook.attach(chain["a"])
        hook.attach(chain["b"], F.BEFORE)
    ksft_eq([hook.query().revision for hook in hooks], [3, 5, 7, 9])
    ids = [chain["b"].id, chain["a"].id]
    ksft_eq([hook.query().progs for hook in hooks], [ids] * 4)


def test_query_room() -> None:
    """All that fits is told, and how many there are."""
    chain = Chain(AttachType.PEER)
    chain.attach("ab")
    link = chain.hook.link(chain["c"])
    ids = [chain[name].id for name in "abc"]
    ksft_eq(chain.hook.ask(0), (0, Attached(4, 3, [], [])))
    for room in (1, 2):
        ksft_eq(
            chain.hook.ask(room),
            (errno.ENOSPC, Attached(4, 3, ids[:room], [0] * room)),
        )
    for room in (3, 4, 1000):
        ksft_eq(chain.hook.ask(room), (0, Attached(4, 3, ids, [0, 0, link.id])))


@ksft_variants(["empty", "attached"])
def test_query_flags(state: str) -> None:
    """Query accepts no flags."""
    chain = Chain(AttachType.PRIMARY)
    if state == "attached":
        chain.attach("a")
    for flags in (1, 2, F.LINK, 1 << 31):
        ksft_eq(chain.hook.ask(query_flags=flags)[0], errno.EINVAL)
        ksft_eq(chain.hook.ask(attach_flags=flags)[0], errno.EINVAL)
    ksft_eq(chain.hook.ask()[0], 0)


@ksft_variants(HOOKS)
def test_full(kind: AttachType) -> None:
    """As many as the kernel takes all run, and it takes no more."""
    chain = Chain(kind)
    names = "".join(map(chr, range(100, 100 + MOST)))
    chain.attach(names)
    chain.expect(names, MOST + 1)
    for flags in (F.NONE, F.BEFORE, F.AFTER):
        chain.refuses("ERANGE", chain["!"], flags)
        ksft_eq(answer(chain.hook.link, chain["!"], flags), "ERANGE")
    chain.refuses("ERANGE", chain["!"], F.BEFORE, chain[names[5]].fd)
    chain.hook.attach(chain["!"], F.REPLACE, replace=chain[names[7]])
    names = names[:7] + "!" + names[8:]
    chain.expect(names, MOST + 2)
    chain.hook.detach(chain[names[9]])
    chain.hook.attach(chain["?"], F.AFTER, chain[names[-2]].fd)
    names = names[:9] + names[10:-1] + "?" + names[-1]
    chain.expect(names, MOST + 4)
    for _ in range(MOST):
        chain.hook.detach(None, F.BEFORE)
    ksft_eq(chain.runs(), "")


@ksft_variants(HOOKS)
def test_detach(kind: AttachType) -> None:
    """By program, wherever it is."""
    chain = Chain(kind)
    chain.attach("abcde")
    for name, left in (("c", "abde"), ("a", "bde"), ("e", "bd"), ("d", "b")):
        chain.hook.detach(chain[name])
        chain.expect(left, chain.hook.query().revision)
        chain.refuses_detach("ENOENT", chain[name])
    chain.hook.detach(chain["b"])
    ksft_eq((chain.hook.query().count, chain.runs()), (0, ""))


def test_detach_at() -> None:
    """By place alone; where nothing is beyond the end, the end itself goes."""
    chain = Chain(AttachType.PRIMARY)
    chain.attach("abcdefghi")
    chain.hook.detach(None)
    chain.hook.detach(None, F.BEFORE)
    chain.hook.detach(None, F.AFTER)
    chain.expect("bcdefg", 13)
    chain.hook.detach(None, F.BEFORE, chain["e"].fd)
    chain.hook.detach(None, F.AFTER | F.ID, chain["e"].id)
    chain.expect("bceg", 15)
    chain.hook.detach(None, F.BEFORE, chain["b"].fd)
    chain.hook.detach(None, F.AFTER, chain["g"].fd)
    chain.expect("ce", 17)


def test_detach_program_at() -> None:
    """A place besides a program has to agree with it."""
    chain = Chain(AttachType.PRIMARY)
    chain.attach("abcd")
    for flags, relative in ((F.BEFORE, "b"), (F.BEFORE, "d"), (F.AFTER, "c")):
        chain.refuses_detach("ERANGE", chain["b"], flags, chain[relative].fd)
    chain.refuses_detach("ERANGE", chain["b"], F.BEFORE)
    chain.refuses_detach("ENOENT", chain["b"], F.BEFORE, chain["x"].fd)
    chain.hook.detach(chain["b"], F.BEFORE, chain["c"].fd)
    chain.hook.detach(chain["d"], F.AFTER, chain["c"].fd)
    chain.expect("ac", 7)


def test_detach_held() -> None:
    """What a link holds stays, also if only its place is named."""
    chain = Chain(AttachType.PRIMARY)
    first = chain.hook.link(chain["a"])
    chain.attach("b")
    last = chain.hook.link(chain["c"])
    chain.refuses_detach("EBUSY", chain["a"])
    chain.refuses_detach("EBUSY", None)
    for flags in (F.BEFORE, F.AFTER):
        chain.refuses_detach("EBUSY", None, flags)
        chain.refuses_detach("EBUSY", None, flags, chain["b"].fd)
    chain.hook.detach(None, F.AFTER | F.LINK, first.fd)
    chain.expect("ac", 5, [first, last])


@ksft_variants(HOOKS)
def test_twice(kind: AttachType) -> None:
    chain = Chain(kind)
    chain.attach("ab")
    for flags in (F.NONE, F.BEFORE, F.AFTER):
        chain.refuses("EEXIST", chain["a"], flags)
    ksft_eq(answer(chain.hook.link, chain["a"]), "EEXIST")
    chain.expect("ab", 3)


@ksft_variants(["detached", "replaced", "deleted", "peer_deleted"])
def test_released(how: str) -> None:
    """A program lives as long as it is attached, and no longer."""
    primary, peer = pair(*namespaces(2))
    hooks = [each.hook for each in ways(primary, peer).values()]
    ids = []
    for hook in hooks:
        program = insn.verdict(0)
        ids.append(program.id)
        hook.attach(program)
        program.close()
    ksft_eq([program_exists(number) for number in ids], [True, True])
    if how == "detached":
        for hook in hooks:
            hook.detach(None)
    elif how == "replaced":
        for hook, number in zip(hooks, ids, strict=True):
            old = Program.by_id(number)
            hook.attach(insn.verdict(0), F.REPLACE, replace=old)
            old.close()
    else:
        port = primary if how == "deleted" else peer
        port.ns.rtnl.dellink({"ifname": port.name})
    for number in ids:
        program_gone(number)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
