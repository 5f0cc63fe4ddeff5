#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Programs that come, change and go while packets pass, and devices that go
while programs run.
"""

import itertools
from collections.abc import Callable

from lib.py import KsftNamedVariant, ksft_busy_wait, ksft_eq, ksft_exit, ksft_gt
from lib.py import ksft_run, ksft_variants
from lib.py import AttachType, BpfLink, F, HOOKS, Hook, Map, Policy, Port
from lib.py import Program, Way, cases, emptied, fork, insn, limit_backlog, link_ids
from lib.py import links_of, namespaces, pair, sending, way, ways

CHANGES = 20


def endless_backlog() -> None:
    """Or a queue that is full drops packets that no program is to blame for."""
    limit_backlog(1000000)


def passing(each: Way) -> None:
    """Waits until a packet that is sent now has passed: none needs to be
    waited for that changes came too fast for."""
    before = each.sender.stats
    ksft_busy_wait(
        lambda: (
            each.sender.stats["tx_packets"] + each.sender.stats["tx_dropped"]
            > before["tx_packets"] + before["tx_dropped"] + 1
        ),
        sleep=0,
        deadline=60,
        comment="no packet passes",
    )


def offered(port: Port) -> int:
    """What the port was given to send, whatever became of it."""
    stats = port.stats
    return stats["tx_packets"] + stats["tx_dropped"]


class Counted:
    """Programs by name, each with a count of the packets that it saw."""

    def __init__(self, **answers: int) -> None:
        self._maps = {name: Map() for name in answers}
        self.program = {
            name: insn.counter(self._maps[name], answer)
            for name, answer in answers.items()
        }

    def __getitem__(self, name: str) -> int:
        return self._maps[name][0]

    def together(self) -> int:
        return sum(made[0] for made in self._maps.values())


@ksft_variants(HOOKS)
def test_attach_detach(kind: AttachType) -> None:
    """Those that stay, before and after, see each packet once."""
    endless_backlog()
    each = way(kind)
    seen = Counted(first=-1, other=-1, last=0)
    each.hook.attach(seen.program["first"])
    each.hook.attach(seen.program["last"])
    with sending(each.sender, each.receiver, each.sender):
        for number in range(CHANGES):
            if number % 2:
                link = each.hook.link(
                    seen.program["other"], F.AFTER, seen.program["first"].fd
                )
                passing(each)
                link.close()
            else:
                each.hook.attach(
                    seen.program["other"], F.BEFORE, seen.program["last"].fd
                )
                passing(each)
                each.hook.detach(seen.program["other"])
    total = offered(each.sender)
    ksft_eq((seen["first"], seen["last"]), (total, total))
    ksft_gt(seen["other"], CHANGES)
    ksft_gt(total, seen["other"])


@ksft_variants(HOOKS)
def test_none_to_some(kind: AttachType) -> None:
    """The only program comes and goes; without it the policy passes all."""
    endless_backlog()
    each = way(kind)
    seen = Counted(only=0)
    with sending(each.sender, each.receiver):
        for _ in range(CHANGES):
            each.hook.attach(seen.program["only"])
            passing(each)
            each.hook.detach(seen.program["only"])
            before = seen["only"]
            passing(each)
            # The one that detached it has waited for the last run.
            ksft_eq(seen["only"], before)
    ksft_eq(each.sender.stats["tx_dropped"], 0)
    ksft_gt(seen["only"], CHANGES)
    ksft_gt(offered(each.sender), seen["only"] + CHANGES)


Change = Callable[[Program, Program], None]


def by_replacement(hook: Hook, first: Program) -> Change:
    hook.attach(first)
    return lambda old, new: hook.attach(new, F.REPLACE, replace=old)


def by_update(hook: Hook, first: Program) -> Change:
    link: BpfLink = hook.link(first)
    return lambda _, new: link.update(new)


def changes() -> list[KsftNamedVariant]:
    return [
        KsftNamedVariant(f"{hook.name}_{name}", *hook.params, begin)
        for hook in HOOKS
        for name, begin in (("replace", by_replacement), ("update", by_update))
    ]


@ksft_variants(changes())
def test_change(kind: AttachType, begin: Callable[[Hook, Program], Change]) -> None:
    """Each packet is seen by one of the two; by the policy, none."""
    endless_backlog()
    each = way(kind, policy=Policy.DROP, peer_policy=Policy.DROP)
    seen = Counted(one=0, two=0)
    programs = itertools.cycle(seen.program.values())
    current = next(programs)
    change = begin(each.hook, current)
    with sending(each.sender, each.receiver, each.sender):
        for _ in range(CHANGES):
            new = next(programs)
            change(current, new)
            current = new
            passing(each)
    ksft_eq(seen.together(), offered(each.sender))
    ksft_gt(min(seen["one"], seen["two"]), CHANGES // 2)
    ksft_eq(each.sender.stats["tx_dropped"], 0)
    ksft_eq(each.receiver.stats["rx_packets"], offered(each.sender))


@ksft_variants(changes())
def test_change_of_mind(
    kind: AttachType, begin: Callable[[Hook, Program], Change]
) -> None:
    """What the one saw is received, what the other saw is dropped."""
    endless_backlog()
    each = way(kind)
    seen = Counted(passing=0, dropping=Policy.DROP)
    programs = itertools.cycle(seen.program.values())
    current = next(programs)
    change = begin(each.hook, current)
    with sending(each.sender, each.sender):
        for _ in range(CHANGES):
            new = next(programs)
            change(current, new)
            current = new
            passing(each)
    ksft_gt(min(seen["passing"], seen["dropping"]), CHANGES // 2)
    ksft_eq(
        (each.sender.stats["tx_packets"], each.sender.stats["tx_dropped"]),
        (seen["passing"], seen["dropping"]),
    )
    ksft_eq(each.receiver.stats["rx_packets"], seen["passing"])


@ksft_variants(HOOKS)
def test_relay(kind: AttachType) -> None:
    """One comes before the other goes: at no time is there none."""
    endless_backlog()
    each = way(kind, policy=Policy.DROP, peer_policy=Policy.DROP)
    seen = Counted(one=0, two=0)
    programs = itertools.cycle(seen.program.values())
    current = next(programs)
    each.hook.attach(current)
    with sending(each.sender, each.sender):
        for number in range(CHANGES):
            new = next(programs)
            each.hook.attach(new, F.BEFORE if number % 2 else F.AFTER)
            each.hook.detach(current)
            current = new
            passing(each)
    ksft_eq(each.sender.stats["tx_dropped"], 0)
    ksft_eq(seen.together(), offered(each.sender))


def test_many_at_work() -> None:
    """Several processes at one hook; each finds its own as it left it."""
    endless_backlog()
    each = way()
    names = ("a", "b", "c")
    seen = Counted(stays=-1, **dict.fromkeys(names, -1))
    each.hook.attach(seen.program["stays"])

    def run(program: Program) -> None:
        number = program.id
        for turn in range(CHANGES // 2):
            if turn % 2:
                each.hook.attach(program, F.BEFORE)
                assert number in each.hook.query().progs
                each.hook.detach(program)
            else:
                link = each.hook.link(program)
                assert link.id in each.hook.query().links
                link.detach()
                link.close()
            assert number not in each.hook.query().progs

    processes = [fork.Process(target=run, args=(seen.program[name],)) for name in names]
    with sending(each.sender, each.receiver):
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    ksft_eq([process.exitcode for process in processes], [0] * len(names))
    found = each.hook.query()
    ksft_eq(found.progs, [seen.program["stays"].id])
    # One change for the first, two for each turn.
    ksft_eq(found.revision, 2 + 2 * (CHANGES // 2) * len(names))
    ksft_eq(links_of(*seen.program.values()), set())
    ksft_eq(seen["stays"], offered(each.sender))


def delete_device(port: Port) -> None:
    port.ns.rtnl.dellink({"ifname": port.name})


def delete_namespace(port: Port) -> None:
    port.ns.delete()


@ksft_variants(
    [
        KsftNamedVariant(f"{side}_{name}", side == "peer", delete)
        for side in ("primary", "peer")
        for name, delete in (
            ("device", delete_device),
            ("namespace", delete_namespace),
        )
    ]
)
def test_delete(side: bool, delete: Callable[[Port], None]) -> None:
    """While programs run; links that are held are of no device then."""
    for _ in range(3):
        ports = pair(*namespaces(2))
        seen = Counted(one=-1, two=-1, three=-1, four=0)
        held = []
        for each in ways(*ports).values():
            for number, program in enumerate(seen.program.values()):
                if number % 2:
                    each.hook.attach(program)
                else:
                    held.append(each.hook.link(program))
        # Whose sockets would keep a namespace alive: the one that stays.
        senders = [ports[1 - side]] * 2
        if delete == delete_device:
            senders += [ports[side]]
        with sending(*senders):
            delete(ports[side])
            emptied(ports[1 - side].ns)
            ksft_eq([link.info.ifindex for link in held], [0] * len(held))
        ksft_gt(seen["four"], 10)
        ksft_eq(len({seen[name] for name in seen.program}), 1)
        numbers = {link.id for link in held}
        for link in held:
            link.close()
        ksft_busy_wait(
            lambda numbers=numbers: not numbers & link_ids(),
            deadline=60,
            comment="links are left",
        )


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
