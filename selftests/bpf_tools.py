#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
What bpftool and libbpf, the usual clients, make of programs at a pair.
"""

import ctypes
import os
import re
from typing import Any

from lib.py import ksft_busy_wait, ksft_eq, ksft_exit, ksft_in, ksft_run, ksft_variants
from lib.py import AttachType, Attached, BpfLink, F, HOOKS, Namespace, NetNSEnter
from lib.py import Policy, Port, Way, answer, bpftool, cases, frame, insn, namespaces
from lib.py import pair, pin_path, way, ways
from lib.py.libbpf import libbpf

ATTRIBUTES = (
    "UNSPEC PEER_INFO PRIMARY POLICY PEER_POLICY MODE SCRUB PEER_SCRUB HEADROOM "
    "TAILROOM PAIRING"
)
TYPES = {
    "netkit_action": {
        "NETKIT_NEXT": -1,
        "NETKIT_PASS": 0,
        "NETKIT_DROP": 2,
        "NETKIT_REDIRECT": 7,
    },
    "netkit_mode": {"NETKIT_L2": 0, "NETKIT_L3": 1},
    "netkit_pairing": {"NETKIT_DEVICE_PAIR": 0, "NETKIT_DEVICE_SINGLE": 1},
    "netkit_scrub": {"NETKIT_SCRUB_NONE": 0, "NETKIT_SCRUB_DEFAULT": 1},
    "": {f"IFLA_NETKIT_{name}": i for i, name in enumerate(ATTRIBUTES.split())}
    | {"__IFLA_NETKIT_MAX": len(ATTRIBUTES.split())},
}
# In a header that bpftool makes.
ENUM = re.compile(r"^enum ?(\w*) \{\n(.*?)\};", re.MULTILINE | re.DOTALL)
MEMBER = re.compile(r"(\w+) = (-?\d+)")
PIN = pin_path("tools")


class Sides:
    """A pair with a program and a link at both of the hooks."""

    def __init__(self) -> None:
        self.ns, self.other = namespaces(2)
        self.ways = ways(*pair(self.ns, self.other))
        self.plain = {}
        self.linked = {}
        self.links = {}
        for kind, each in self.ways.items():
            side = kind.name.lower()
            self.plain[side] = insn.verdict(-1, f"plain_{side}")
            self.linked[side] = insn.verdict(-1, f"linked_{side}")
            each.hook.attach(self.plain[side])
            self.links[side] = each.hook.link(self.linked[side])

    @property
    def index(self) -> int:
        return self.ways[AttachType.PRIMARY].hook.ifindex


def tell(ns: Namespace, args: str) -> Any:
    """What bpftool says in a namespace; not by way of ip netns, which would
    hide the file system of pins."""
    with NetNSEnter(ns.name):
        return bpftool(args, json=True)


def test_net_show() -> None:
    """Both hooks are the primary's, in the order in which programs run."""
    made = Sides()
    expected = []
    for side in ("primary", "peer"):
        common = {"devname": "nk0", "ifindex": made.index, "kind": f"netkit/{side}"}
        expected += [
            common
            | {
                "name": f"plain_{side}",
                "prog_id": made.plain[side].id,
                "prog_flags": [],
                "link_id": 0,
                "link_flags": [],
            },
            common
            | {
                "name": f"linked_{side}",
                "prog_id": made.linked[side].id,
                "prog_flags": [],
                "link_id": made.links[side].id,
                "link_flags": [],
            },
        ]
    for args in ("net show", "net show dev nk0"):
        (found,) = tell(made.ns, args)
        ksft_eq(found["tc"], expected)
    (found,) = tell(made.other, "net show")
    ksft_eq(found["tc"], [])


def links_told(ns: Namespace) -> dict[int, dict[str, object]]:
    return {one["id"]: one for one in tell(ns, "link show")}


def test_link_show() -> None:
    """The device's name as far as the caller's namespace knows it."""
    made = Sides()
    made.links["peer"].pin(PIN)
    told = links_told(made.ns)[made.links["primary"].id]
    ksft_eq(
        {name: told[name] for name in told if name != "pids"},
        {
            "id": made.links["primary"].id,
            "type": "netkit",
            "prog_id": made.linked["primary"].id,
            "devname": "nk0",
            "ifindex": made.index,
            "attach_type": "netkit_primary",
        },
    )
    told = links_told(made.other)[made.links["peer"].id]
    ksft_eq(
        [told[name] for name in ("type", "devname", "ifindex", "attach_type")],
        ["netkit", "nk1", Port(made.other, "nk1").link.index, "netkit_peer"],
    )
    pins = {one["id"]: one["pinned"] for one in tell(made.ns, "-f link show")}
    ksft_eq(pins[made.links["peer"].id], [PIN])
    ksft_eq(pins[made.links["primary"].id], [])


def test_detached() -> None:
    """By the tool, after which it tells that there is no device."""
    made = Sides()
    each, link = made.ways[AttachType.PEER], made.links["peer"]
    bpftool(f"link detach id {link.id}")
    ksft_eq(each.hook.query().links, [0])
    told = links_told(made.ns)[link.id]
    ksft_eq((told["devname"], told["ifindex"]), ("(detached)", 0))
    made.ns.rtnl.dellink({"ifname": "nk0"})
    told = links_told(made.ns)[made.links["primary"].id]
    ksft_eq(
        (told["devname"], told["ifindex"], told["attach_type"]),
        ("(detached)", 0, "netkit_primary"),
    )


def test_prog_show() -> None:
    """Programs are told as what they were loaded as."""
    made = Sides()
    program = made.plain["primary"]
    told = bpftool(f"prog show id {program.id}", json=True)
    ksft_eq(
        (told["id"], told["type"], told["name"]),
        (program.id, "sched_cls", "plain_primary"),
    )
    number = program.id
    program.close()
    ksft_in(number, [one["id"] for one in bpftool("prog show", json=True)])
    made.ways[AttachType.PRIMARY].hook.detach(None, F.BEFORE)
    ksft_busy_wait(
        lambda: number not in [one["id"] for one in bpftool("prog show", json=True)],
        sleep=0.1,
        deadline=60,
        comment="the program is left",
    )


class AttachOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("replace_fd", ctypes.c_int),
        ("relative_fd", ctypes.c_int),
        ("relative_id", ctypes.c_uint32),
        ("expected_revision", ctypes.c_uint64),
    )


class DetachOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("relative_fd", ctypes.c_int),
        ("relative_id", ctypes.c_uint32),
        ("expected_revision", ctypes.c_uint64),
    )


class QueryOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_void_p),
        ("count", ctypes.c_uint32),
        ("prog_attach_flags", ctypes.c_void_p),
        ("link_ids", ctypes.c_void_p),
        ("link_attach_flags", ctypes.c_void_p),
        ("revision", ctypes.c_uint64),
    )


class LinkOpts(ctypes.Structure):
    # The part that is netkit's, of a union that is longer.
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
        ("relative_fd", ctypes.c_uint32),
        ("relative_id", ctypes.c_uint32),
        ("expected_revision", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 4),
    )


class UpdateOpts(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("old_prog_fd", ctypes.c_uint32),
        ("old_map_fd", ctypes.c_uint32),
    )


class Library:
    """libbpf at one hook; its functions raise OSError."""

    def __init__(self, each: Way) -> None:
        self._hook = each.hook

    def _call(self, name: str, *args: object) -> int:
        with NetNSEnter(self._hook.ns):
            result = getattr(libbpf(), name)(*args)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)

    def _at_hook(self, name: str, fd: int, options: ctypes.Structure) -> int:
        options.sz = ctypes.sizeof(options)
        hook = self._hook
        return self._call(name, fd, hook.ifindex, hook.kind, ctypes.byref(options))

    def attach(self, fd: int, **options: int) -> None:
        self._at_hook("bpf_prog_attach_opts", fd, AttachOpts(**options))

    def detach(self, fd: int, **options: int) -> None:
        self._at_hook("bpf_prog_detach_opts", fd, DetachOpts(**options))

    def link(self, fd: int, **options: int) -> BpfLink:
        return BpfLink(self._at_hook("bpf_link_create", fd, LinkOpts(**options)))

    def update(self, link: BpfLink, fd: int, **options: int) -> None:
        made = UpdateOpts(sz=ctypes.sizeof(UpdateOpts), **options)
        self._call("bpf_link_update", link.fd, fd, ctypes.byref(made))

    def query(self, room: int = 64) -> Attached:
        progs, links = (ctypes.c_uint32 * room)(), (ctypes.c_uint32 * room)()
        made = QueryOpts(
            sz=ctypes.sizeof(QueryOpts),
            count=room,
            prog_ids=ctypes.addressof(progs),
            link_ids=ctypes.addressof(links),
        )
        hook = self._hook
        self._call("bpf_prog_query_opts", hook.ifindex, hook.kind, ctypes.byref(made))
        count = made.count
        return Attached(made.revision, count, progs[:count], links[:count])


@ksft_variants(HOOKS)
def test_libbpf_programs(kind: AttachType) -> None:
    """Attached, found, replaced and detached, with places and revisions."""
    each = way(kind)
    library = Library(each)
    a, b, c = (insn.verdict(-1) for _ in range(3))
    ksft_eq(library.query(), Attached(1, 0, [], []))
    library.attach(a.fd, expected_revision=1)
    library.attach(b.fd, flags=F.BEFORE, relative_fd=a.fd)
    library.attach(c.fd, flags=F.AFTER, relative_id=b.id)
    ksft_eq(library.query(), Attached(4, 3, [b.id, c.id, a.id], [0, 0, 0]))
    ksft_eq(library.query(), each.hook.query())
    new = insn.verdict(Policy.DROP)
    library.attach(new.fd, flags=F.REPLACE, replace_fd=c.fd, expected_revision=4)
    ksft_eq(library.query().progs, [b.id, new.id, a.id])
    library.detach(b.fd)
    library.detach(0, flags=F.AFTER)
    ksft_eq(library.query(), Attached(7, 1, [new.id], [0]))
    with each.sender.packets() as out:
        ksft_eq(out.send(frame(each.receiver.address)), False)
    ksft_eq(answer(library.detach, b.fd), "ENOENT")
    ksft_eq(answer(library.attach, new.fd), "EEXIST")
    library.detach(new.fd, expected_revision=7)
    ksft_eq(library.query().count, 0)


@ksft_variants(HOOKS)
def test_libbpf_links(kind: AttachType) -> None:
    each = way(kind)
    library = Library(each)
    a, b, c = (insn.verdict(-1) for _ in range(3))
    first = library.link(a.fd, expected_revision=1)
    second = library.link(b.fd, flags=F.BEFORE | F.LINK, relative_fd=first.fd)
    ksft_eq(library.query(), Attached(3, 2, [b.id, a.id], [second.id, first.id]))
    library.update(second, c.fd)
    library.update(first, b.fd, flags=F.REPLACE, old_prog_fd=a.fd)
    ksft_eq(library.query(), Attached(5, 2, [c.id, b.id], [second.id, first.id]))
    ksft_eq(
        answer(library.update, first, a.fd, flags=F.REPLACE, old_prog_fd=c.fd), "EPERM"
    )
    first.close()
    second.close()
    ksft_eq(library.query().count, 0)


def test_types() -> None:
    """Programs that are built with the kernel's own types find those of netkit."""
    header = bpftool("btf dump file /sys/kernel/btf/vmlinux format c").stdout
    found = {
        name: {member: int(value) for member, value in MEMBER.findall(members)}
        for name, members in ENUM.findall(header)
        if name.startswith("netkit_") or "IFLA_NETKIT_" in members
    }
    ksft_eq(found, TYPES)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
