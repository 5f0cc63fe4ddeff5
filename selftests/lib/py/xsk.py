# SPDX-License-Identifier: GPL-2.0

"""
AF_XDP sockets, as raw as the tests need them, and how frames get to them.

The rings are words in memory that the kernel shares.  Each has one writer, and
what it points at is written before it is.
"""

import ctypes
import mmap
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Iterable
from enum import IntFlag
from typing import NamedTuple, Self

from net.lib.py import NetNSEnter, defer, ksft_busy_wait, ksft_eq

from .bpf import AttachType, F, Hook, Map, Program, ProgType
from .insn import XDP_RX_QUEUE, Helper, Reg, call, load32, map_fd, mov, ret
from .netkit import Port
from .rtnl import error_name

AF_XDP = 44
SOL_XDP = 283
XDP_PASS = 2

XDP_MMAP_OFFSETS = 1
XDP_RX_RING = 2
XDP_TX_RING = 3
XDP_UMEM_REG = 4
XDP_UMEM_FILL_RING = 5
XDP_UMEM_COMPLETION_RING = 6
XDP_OPTIONS = 8

OPTIONS_ZEROCOPY = 1
RING_NEED_WAKEUP = 1

DESCRIPTOR = struct.Struct("=QII")
ADDRESS = struct.Struct("=Q")
SOCKADDR = struct.Struct("=HHIII")
UMEM_REG = struct.Struct("=QQIIII")

CHUNK = 2048
ENTRIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


class Bind(IntFlag):
    """How a socket is bound."""

    ANY = 0
    SHARED_UMEM = 1 << 0
    COPY = 1 << 1
    ZEROCOPY = 1 << 2
    NEED_WAKEUP = 1 << 3


class Offsets(NamedTuple):
    """Where in the memory of a ring things are."""

    producer: int
    consumer: int
    entries: int
    flags: int


# Of each ring: the option that makes it, where it is mapped, and its entries.
RINGS = {
    "rx": (XDP_RX_RING, 0, DESCRIPTOR),
    "tx": (XDP_TX_RING, 0x80000000, DESCRIPTOR),
    "fill": (XDP_UMEM_FILL_RING, 0x100000000, ADDRESS),
    "completion": (XDP_UMEM_COMPLETION_RING, 0x180000000, ADDRESS),
}


class Ring:
    """One of the rings of a socket, of which this is one end."""

    def __init__(self, sock: socket.socket, kind: str) -> None:
        option, where, self._entry = RINGS[kind]
        sock.setsockopt(SOL_XDP, option, ENTRIES)
        known = struct.unpack("=16Q", sock.getsockopt(SOL_XDP, XDP_MMAP_OFFSETS, 128))
        at = 4 * list(RINGS).index(kind)
        self._at = Offsets(*known[at : at + 4])
        self._memory = mmap.mmap(
            sock.fileno(), self._at.entries + ENTRIES * self._entry.size, offset=where
        )
        # A word is written at once; struct would write it byte by byte.
        self._words = memoryview(self._memory).cast("I")

    def close(self) -> None:
        self._words.release()
        self._memory.close()

    @property
    def needs_wakeup(self) -> bool:
        return bool(self._words[self._at.flags // 4] & RING_NEED_WAKEUP)

    def put(self, entries: Iterable[tuple[int, ...]]) -> None:
        produced = self._words[self._at.producer // 4]
        for entry in entries:
            self._entry.pack_into(self._memory, self._place(produced), *entry)
            produced = (produced + 1) & 0xFFFFFFFF
        self._words[self._at.producer // 4] = produced

    def take(self) -> list[tuple[int, ...]]:
        """All that the kernel has put there."""
        consumed = self._words[self._at.consumer // 4]
        count = (self._words[self._at.producer // 4] - consumed) & 0xFFFFFFFF
        entries = [
            self._entry.unpack_from(self._memory, self._place(consumed + i))
            for i in range(count)
        ]
        self._words[self._at.consumer // 4] = (consumed + count) & 0xFFFFFFFF
        return entries

    def _place(self, number: int) -> int:
        return self._at.entries + number % ENTRIES * self._entry.size


class Umem:
    """Memory for frames, in chunks."""

    def __init__(self) -> None:
        self.size = 2 * ENTRIES * CHUNK
        self.memory = mmap.mmap(-1, self.size)
        self._free = deque(range(0, self.size, CHUNK))

    def register(self, sock: socket.socket) -> None:
        start = ctypes.c_char.from_buffer(self.memory)
        sock.setsockopt(
            SOL_XDP,
            XDP_UMEM_REG,
            UMEM_REG.pack(ctypes.addressof(start), self.size, CHUNK, 0, 0, 0),
        )

    def take(self, count: int) -> list[int]:
        return [self._free.popleft() for _ in range(count)]

    def give(self, address: int) -> None:
        self._free.append(address // CHUNK * CHUNK)


class XdpSocket:
    """A socket on a queue of a device, until the end of the test case.

    One that shares the memory of another one is bound like that one, and has
    its rings of buffers too if it is on the same queue.
    """

    def __init__(
        self,
        port: Port,
        queue: int,
        flags: Bind = Bind.ZEROCOPY,
        shared: Self | None = None,
    ) -> None:
        with NetNSEnter(port.ns.name):
            self._socket = socket.socket(AF_XDP, socket.SOCK_RAW)
        self._rings: dict[str, Ring] = {}
        defer(self.close)
        self._where = (port.link.index, queue)
        if shared and shared._where == self._where:
            self._buffers = shared._buffers
        else:
            self._buffers = {kind: self._ring(kind) for kind in ("fill", "completion")}
        self._rx, self._tx = self._ring("rx"), self._ring("tx")
        self._umem = shared._umem if shared else Umem()
        if not shared:
            self._umem.register(self._socket)
        self._bind(Bind.SHARED_UMEM if shared else flags, shared)

    def _ring(self, kind: str) -> Ring:
        self._rings[kind] = Ring(self._socket, kind)
        return self._rings[kind]

    def _bind(self, flags: Bind, shared: Self | None) -> None:
        """Python's own knows only the addresses of some families."""
        address = SOCKADDR.pack(
            AF_XDP, flags, *self._where, shared.fileno() if shared else 0
        )
        if _libc.bind(self._socket.fileno(), address, len(address)):
            error = ctypes.get_errno()
            self.close()
            raise OSError(error, os.strerror(error))

    def close(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings = {}
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_zerocopy(self) -> bool:
        options = self._socket.getsockopt(SOL_XDP, XDP_OPTIONS, 4)
        return bool(struct.unpack("=I", options)[0] & OPTIONS_ZEROCOPY)

    @property
    def error(self) -> str:
        """The name of what has happened to it; "" for nothing."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return error_name(number) if number else ""

    @property
    def rx_needs_wakeup(self) -> bool:
        return self._buffers["fill"].needs_wakeup

    @property
    def tx_needs_wakeup(self) -> bool:
        return self._tx.needs_wakeup

    def fill(self, count: int) -> None:
        """Gives the kernel so many chunks to receive frames in."""
        self._buffers["fill"].put((address,) for address in self._umem.take(count))

    def queue(self, *frames: bytes) -> None:
        """Has frames sent, as soon as the kernel looks."""
        descriptors = []
        for data, address in zip(frames, self._umem.take(len(frames))):
            self._umem.memory[address : address + len(data)] = data
            descriptors.append((address, len(data), 0))
        self._tx.put(descriptors)

    def wake_rx(self) -> None:
        self._socket.recv(1, socket.MSG_DONTWAIT)

    def wake_tx(self) -> None:
        self._socket.send(b"", socket.MSG_DONTWAIT)

    def poll(self, events: int, seconds: float = 0) -> int:
        """Waits for events; the kernel wakes up who asks for it."""
        poll = select.poll()
        poll.register(self._socket, events)
        return dict(poll.poll(1000 * seconds)).get(self.fileno(), 0)

    def send(self, *frames: bytes) -> None:
        self.queue(*frames)
        self.wake_tx()

    def received(self) -> list[bytes]:
        """The frames that have come."""
        frames = []
        for address, length, _ in self._rx.take():
            frames.append(self._umem.memory[address : address + length])
            self._umem.give(address)
        return frames

    def receive(self, count: int = 1) -> list[bytes]:
        """So many frames, or those that come before it takes too long."""
        frames = self.received()
        while len(frames) < count and self.poll(select.POLLIN, 30) & select.POLLIN:
            frames += self.received()
        return frames

    def completed(self) -> int:
        """How many frames the kernel is done with since the last call."""
        entries = self._buffers["completion"].take()
        for (address,) in entries:
            self._umem.give(address)
        return len(entries)

    def complete(self, count: int) -> None:
        """Waits until the kernel is done with so many frames."""
        done = 0

        def all_done() -> bool:
            nonlocal done
            done += self.completed()
            return done >= count

        ksft_busy_wait(all_done, deadline=30, comment="frames are not completed")
        ksft_eq(done, count)


class Redirection:
    """Has a NIC, or generic XDP on a device, give the frames of its queues to sockets."""

    def __init__(self, nic: Port, flags: F = F.NONE) -> None:
        self._sockets = Map(16, Map.XSKMAP)
        program = Program(
            [
                load32(Reg.R2, Reg.R1, XDP_RX_QUEUE),
                map_fd(Reg.R1, self._sockets),
                # Of queues without sockets, frames go on as they are.
                mov(Reg.R3, XDP_PASS),
                call(Helper.REDIRECT_MAP),
                ret(),
            ],
            ProgType.XDP,
        )
        Hook.of(nic, AttachType.XDP).link(program, flags)

    def __setitem__(self, queue: int, to: XdpSocket) -> None:
        self._sockets[queue] = to.fileno()
