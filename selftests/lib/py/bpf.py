# SPDX-License-Identifier: GPL-2.0

"""
BPF programs, maps, links, and the bpf(2) system call that handles them.

The system call itself, since libbpf refuses some requests before the kernel
sees them, and the tests are about what the kernel makes of them.
"""

import ctypes
import os
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Self

from net.lib.py import KsftNamedVariant, defer, ksft_busy_wait

from .netkit import Mode, Port, namespaces, pair
from .rtnl import entered, error_name

# Of most architectures 280, of this one another.
SYS_BPF = 321 if os.uname().machine == "x86_64" else 280
ATTR_SIZE = 152

_libc = ctypes.CDLL(None, use_errno=True)


class Cmd(IntEnum):
    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_GET_FD_BY_ID = 13
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    LINK_DETACH = 34


class AttachType(IntEnum):
    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47
    PRIMARY = 54
    PEER = 55


HOOKS = [
    KsftNamedVariant("primary", AttachType.PRIMARY),
    KsftNamedVariant("peer", AttachType.PEER),
]
# Both hooks and both modes, once each: what a packet passes is the same code in
# all four combinations.
HOOKS_AND_MODES = [
    KsftNamedVariant("primary_L3", AttachType.PRIMARY, Mode.L3),
    KsftNamedVariant("peer_L2", AttachType.PEER, Mode.L2),
]


class F(IntFlag):
    """Flags of an attachment."""

    NONE = 0
    REPLACE = 1 << 2
    BEFORE = 1 << 3
    AFTER = 1 << 4
    ID = 1 << 5
    LINK = 1 << 13
    # Of one for XDP.
    XDP_GENERIC = 1 << 1
    XDP_DRIVER = 1 << 2


class ProgType(IntEnum):
    SOCKET_FILTER = 1
    SCHED_CLS = 3
    XDP = 6


def answer(request: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The name of the error that a request ends with; "" without one."""
    try:
        request(*args, **kwargs)
    except OSError as error:
        assert error.errno is not None
        return error_name(error.errno)
    return ""


def bpf(cmd: Cmd, attr: bytes) -> int:
    """The system call; what it returns, or OSError."""
    buffer = ctypes.create_string_buffer(attr.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
    return _call(cmd, buffer)


def _call(cmd: Cmd, buffer: ctypes.Array) -> int:
    result = _libc.syscall(SYS_BPF, int(cmd), buffer, len(buffer))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class Fd:
    """A file descriptor, closed when the test case ends if not before."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        defer(self.close)

    @property
    def fd(self) -> int:
        assert self._fd is not None, "closed"
        return self._fd

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def pin(self, path: str) -> None:
        name = ctypes.create_string_buffer(path.encode())
        bpf(Cmd.OBJ_PIN, struct.pack("=QI", ctypes.addressof(name), self.fd))
        defer(_unpin, path)

    def _info(self, size: int) -> bytes:
        info = ctypes.create_string_buffer(size)
        bpf(
            Cmd.OBJ_GET_INFO_BY_FD,
            struct.pack("=IIQ", self.fd, size, ctypes.addressof(info)),
        )
        return info.raw


def pin_path(name: str) -> str:
    """Where to pin something, out of the way of other processes."""
    return f"/sys/fs/bpf/netkit-{os.getpid()}-{name}"


def _unpin(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


class Map(Fd):
    """An array of numbers of 64 bits, of programs, or of AF_XDP sockets."""

    ARRAY = 2
    PROG_ARRAY = 3
    XSKMAP = 17

    def __init__(self, entries: int = 1, kind: int = ARRAY, words: int = 1) -> None:
        self._value = struct.Struct(f"={words}Q" if kind == self.ARRAY else "=I")
        attr = struct.pack("=IIII", kind, 4, self._value.size, entries)
        super().__init__(bpf(Cmd.MAP_CREATE, attr))

    def __getitem__(self, key: int) -> int:
        return self.read(key)[0]

    def __setitem__(self, key: int, number: int) -> None:
        self.write(key, number)

    def read(self, key: int = 0) -> tuple[int, ...]:
        value = ctypes.create_string_buffer(self._value.size)
        self._access(Cmd.MAP_LOOKUP_ELEM, key, value)
        return self._value.unpack(value.raw)

    def write(self, key: int, *numbers: int) -> None:
        value = ctypes.create_string_buffer(
            self._value.pack(*numbers), self._value.size
        )
        self._access(Cmd.MAP_UPDATE_ELEM, key, value)

    def _access(self, cmd: Cmd, key: int, value: ctypes.Array) -> None:
        number = ctypes.c_uint32(key)
        bpf(
            cmd,
            struct.pack(
                "=IIQQQ",
                self.fd,
                0,
                ctypes.addressof(number),
                ctypes.addressof(value),
                0,
            ),
        )


class Program(Fd):
    """A loaded program."""

    def __init__(
        self,
        instructions: Iterable[bytes],
        kind: ProgType = ProgType.SCHED_CLS,
        name: str = "",
    ) -> None:
        code = b"".join(instructions)
        insns = ctypes.create_string_buffer(code, len(code))
        licence = ctypes.create_string_buffer(b"GPL")
        log = ctypes.create_string_buffer(1 << 16)
        attr = struct.pack(
            "=IIQQIIQII16s",
            kind,
            len(code) // 8,
            ctypes.addressof(insns),
            ctypes.addressof(licence),
            1,
            len(log),
            ctypes.addressof(log),
            0,
            0,
            name.encode(),
        )
        try:
            fd = bpf(Cmd.PROG_LOAD, attr)
        except OSError as error:
            error.add_note(log.value.decode())
            raise
        super().__init__(fd)

    @classmethod
    def by_id(cls, number: int) -> Fd:
        return Fd(bpf(Cmd.PROG_GET_FD_BY_ID, struct.pack("=I", number)))

    @property
    def id(self) -> int:
        return struct.unpack_from("=II", self._info(256))[1]

    @property
    def tag(self) -> str:
        """The same for all programs of the same code."""
        return self._info(256)[8:16].hex()

    @property
    def runs(self) -> int:
        """How often it ran, while run statistics were enabled."""
        return struct.unpack_from("=QQ", self._info(256), 192)[1]


def program_exists(number: int) -> bool:
    try:
        # To be closed at once, or it would exist for that reason.
        Program.by_id(number).close()
    except FileNotFoundError:
        return False
    return True


def program_gone(number: int) -> None:
    """Waits until a program is no more: it is freed behind one's back."""
    ksft_busy_wait(
        lambda: not program_exists(number), deadline=60, comment="the program is left"
    )


@dataclass(frozen=True)
class LinkInfo:
    """What the kernel tells of a link."""

    type: int
    id: int
    prog: int
    ifindex: int
    attach_type: int


class BpfLink(Fd):
    """A link, which keeps a program attached."""

    @classmethod
    def pinned(cls, path: str) -> Self:
        name = ctypes.create_string_buffer(path.encode())
        return cls(bpf(Cmd.OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0)))

    @classmethod
    def by_id(cls, number: int) -> Self:
        return cls(bpf(Cmd.LINK_GET_FD_BY_ID, struct.pack("=I", number)))

    def update(self, new: Program, old: Program | None = None) -> None:
        bpf(
            Cmd.LINK_UPDATE,
            struct.pack(
                "=IIII",
                self.fd,
                new.fd,
                F.REPLACE if old else F.NONE,
                old.fd if old else 0,
            ),
        )

    def detach(self) -> None:
        bpf(Cmd.LINK_DETACH, struct.pack("=I", self.fd))

    @property
    def info(self) -> LinkInfo:
        kind, number, prog, _, ifindex, attach_type = struct.unpack_from(
            "=IIIIII", self._info(64)
        )
        return LinkInfo(kind, number, prog, ifindex, attach_type)

    @property
    def id(self) -> int:
        return self.info.id

    @property
    def fdinfo_text(self) -> str:
        return Path(f"/proc/self/fdinfo/{self.fd}").read_text(encoding="ascii")

    @property
    def fdinfo(self) -> dict[str, str]:
        lines = self.fdinfo_text.splitlines()
        return dict(line.split(":\t", 1) for line in lines)


def link_ids() -> set[int]:
    """All the links that there are, of any kind."""
    found: set[int] = set()
    buffer = ctypes.create_string_buffer(ATTR_SIZE)
    try:
        while True:
            _call(Cmd.LINK_GET_NEXT_ID, buffer)
            number = struct.unpack_from("=I", buffer.raw, 4)[0]
            found.add(number)
            struct.pack_into("=I", buffer, 0, number)
    except FileNotFoundError:
        return found


def links_of(*programs: Program) -> set[int]:
    """Of all the links that there are, those that hold these programs."""
    ids = {program.id for program in programs}
    return {number for number in link_ids() if _held(number) in ids}


def _held(number: int) -> int:
    """The program that a link holds; 0 where the link has gone."""
    end = time.monotonic() + 10
    while True:
        try:
            link = BpfLink.by_id(number)
        except FileNotFoundError:
            return 0
        except BlockingIOError:
            # Not complete; whoever is making it will soon be done.
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            program = link.info.prog
            link.close()
            return program


def link_gone(number: int) -> None:
    """Waits until a link is no more: so is it freed."""
    ksft_busy_wait(
        lambda: number not in link_ids(), deadline=60, comment="the link is left"
    )


@dataclass(frozen=True)
class Attached:
    """What is attached to a device, in the order in which it runs."""

    revision: int
    count: int
    progs: list[int]
    links: list[int]


def _descriptor(program: Program | int) -> int:
    return program if isinstance(program, int) else program.fd


@dataclass(frozen=True)
class Hook:
    """Where programs are attached: a device, as its namespace sees it, or if
    that has no name, the one of the caller."""

    ns: str
    ifindex: int
    kind: int = AttachType.PRIMARY

    @classmethod
    def of(cls, port: Port, kind: AttachType = AttachType.PRIMARY) -> Self:
        return cls(port.ns.name, port.link.index, kind)

    def _call(self, cmd: Cmd, attr: bytes) -> int:
        with entered(self.ns):
            return bpf(cmd, attr)

    def attach(
        self,
        program: Program | int,
        flags: F = F.NONE,
        relative: int = 0,
        revision: int = 0,
        replace: Program | int = 0,
    ) -> None:
        """relative is a descriptor, or with F.ID a number; the others may be."""
        attr = struct.pack(
            "=IIIIIIQ",
            self.ifindex,
            _descriptor(program),
            self.kind,
            flags,
            _descriptor(replace),
            relative,
            revision,
        )
        self._call(Cmd.PROG_ATTACH, attr)

    def detach(
        self,
        program: Program | int | None,
        flags: F = F.NONE,
        relative: int = 0,
        revision: int = 0,
    ) -> None:
        attr = struct.pack(
            "=IIIIIIQ",
            self.ifindex,
            _descriptor(program or 0),
            self.kind,
            flags,
            0,
            relative,
            revision,
        )
        self._call(Cmd.PROG_DETACH, attr)

    def link(
        self,
        program: Program | int,
        flags: F = F.NONE,
        relative: int = 0,
        revision: int = 0,
    ) -> BpfLink:
        attr = struct.pack(
            "=IIIIIIQ",
            _descriptor(program),
            self.ifindex,
            self.kind,
            flags,
            relative,
            0,
            revision,
        )
        return BpfLink(self._call(Cmd.LINK_CREATE, attr))

    def query(self, room: int = 64) -> Attached:
        """room is for how many programs the caller has memory."""
        error, found = self.ask(room)
        if error:
            raise OSError(error, os.strerror(error))
        return found

    def ask(
        self,
        room: int = 64,
        query_flags: int = 0,
        attach_flags: int = 0,
        memory: int | None = None,
    ) -> tuple[int, Attached]:
        """errno, and what the kernel told all the same; memory is the address
        that it is given for the programs instead of one of ours."""
        progs = (ctypes.c_uint32 * room)()
        links = (ctypes.c_uint32 * room)()
        layout = struct.Struct("=IIIIQIIQQQQ")
        attr = layout.pack(
            self.ifindex,
            self.kind,
            query_flags,
            attach_flags,
            memory or (ctypes.addressof(progs) if room else 0),
            room,
            0,
            0,
            ctypes.addressof(links) if room else 0,
            0,
            0,
        )
        buffer = ctypes.create_string_buffer(attr.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
        error = 0
        with entered(self.ns):
            try:
                _call(Cmd.PROG_QUERY, buffer)
            except OSError as refusal:
                error = refusal.errno or 0
        told = layout.unpack_from(buffer.raw)
        shown = min(told[5], room)
        return error, Attached(
            told[10], told[5], list(progs[:shown]), list(links[:shown])
        )


@dataclass(frozen=True)
class Way:
    """One direction through a pair, and its hook."""

    sender: Port
    receiver: Port
    hook: Hook


def ways(primary: Port, peer: Port) -> dict[AttachType, Way]:
    """Both hooks are those of the primary, also the one of what the peer sends."""
    return {
        kind: Way(*ends, Hook.of(primary, kind))
        for kind, ends in (
            (AttachType.PRIMARY, (primary, peer)),
            (AttachType.PEER, (peer, primary)),
        )
    }


def way(kind: AttachType = AttachType.PRIMARY, count: int = 2, **data: int) -> Way:
    """One direction of a new pair, between so many namespaces."""
    spaces = namespaces(count)
    return ways(*pair(spaces[0], spaces[-1], **data))[kind]
