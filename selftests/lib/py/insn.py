# SPDX-License-Identifier: GPL-2.0

"""
BPF instructions, and the programs that several tests use.
"""

import struct
from enum import IntEnum

from .bpf import Map, Program


class Reg(IntEnum):
    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)


def _insn(
    opcode: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0
) -> bytes:
    return struct.pack("=BBhi", opcode, src << 4 | dst, offset, imm)


def mov(dst: Reg, value: int | Reg) -> bytes:
    if isinstance(value, Reg):
        return _insn(0xBF, dst, value)
    return _insn(0xB7, dst, imm=value)


def mov32(dst: Reg, value: int) -> bytes:
    """The upper half is zero then."""
    return _insn(0xB4, dst, imm=value - (value >> 31 << 32))


def _alu(operation: int, dst: Reg, value: int | Reg) -> bytes:
    if isinstance(value, Reg):
        return _insn(operation | 0x0F, dst, value)
    return _insn(operation | 0x07, dst, imm=value)


def add(dst: Reg, value: int | Reg) -> bytes:
    return _alu(0x00, dst, value)


def conjoin(dst: Reg, value: int | Reg) -> bytes:
    return _alu(0x50, dst, value)


def shift_left(dst: Reg, value: int | Reg) -> bytes:
    return _alu(0x60, dst, value)


def load64(dst: Reg, src: Reg, offset: int) -> bytes:
    return _insn(0x79, dst, src, offset)


def load32(dst: Reg, src: Reg, offset: int) -> bytes:
    return _insn(0x61, dst, src, offset)


def load8(dst: Reg, src: Reg, offset: int) -> bytes:
    return _insn(0x71, dst, src, offset)


def store32(dst: Reg, offset: int, value: int | Reg) -> bytes:
    if isinstance(value, Reg):
        return _insn(0x63, dst, value, offset)
    return _insn(0x62, dst, offset=offset, imm=value)


def store64(dst: Reg, offset: int, value: int | Reg) -> bytes:
    if isinstance(value, Reg):
        return _insn(0x7B, dst, value, offset)
    return _insn(0x7A, dst, offset=offset, imm=value)


def map_fd(dst: Reg, made: Map) -> bytes:
    return _insn(0x18, dst, 1, imm=made.fd) + _insn(0)


def map_value(dst: Reg, made: Map) -> bytes:
    """The address of the first element of an array."""
    return _insn(0x18, dst, 2, imm=made.fd) + _insn(0)


def atomic_add64(dst: Reg, offset: int, src: Reg) -> bytes:
    return _insn(0xDB, dst, src, offset)


def jump_gt(dst: Reg, src: Reg, skip: int) -> bytes:
    """Skips that many instructions if dst > src."""
    return _insn(0x2D, dst, src, skip)


def jump_ne(dst: Reg, value: int, skip: int) -> bytes:
    return _insn(0x55, dst, offset=skip, imm=value)


def call(helper: int) -> bytes:
    return _insn(0x85, imm=helper)


def ret() -> bytes:
    return _insn(0x95)


class Helper(IntEnum):
    TAIL_CALL = 12
    CLONE_REDIRECT = 13
    REDIRECT = 23
    CHANGE_TAIL = 38
    PULL_DATA = 39
    CHANGE_HEAD = 43
    REDIRECT_MAP = 51
    SK_LOOKUP_UDP = 85
    SK_RELEASE = 86
    SK_ASSIGN = 124
    REDIRECT_NEIGH = 152
    REDIRECT_PEER = 155


# Offsets in struct __sk_buff.
SKB_LEN = 0
SKB_PKT_TYPE = 4
SKB_MARK = 8
SKB_QUEUE_MAPPING = 12
SKB_PROTOCOL = 16
SKB_PRIORITY = 32
SKB_INGRESS_IFINDEX = 36
SKB_IFINDEX = 40
SKB_DATA = 76
SKB_DATA_END = 80
SKB_GSO_SEGS = 164
SKB_GSO_SIZE = 176

# Offset in struct xdp_md.
XDP_RX_QUEUE = 16


def verdict(value: int, name: str = "") -> Program:
    """A program that returns a number."""
    return Program([mov(Reg.R0, value), ret()], name=name)


def counter(made: Map, value: int, name: str = "") -> Program:
    """A program that counts its runs in a map and returns a number."""
    return Program(
        [
            map_value(Reg.R1, made),
            mov(Reg.R2, 1),
            atomic_add64(Reg.R1, 0, Reg.R2),
            mov(Reg.R0, value),
            ret(),
        ],
        name=name,
    )


class Trace:
    """Which programs ran, in their order; of those of one processor a time."""

    ROOM = 64

    def __init__(self) -> None:
        self._map = Map(words=1 + self.ROOM)

    def program(self, number: int, value: int = -1, name: str = "") -> Program:
        """A program that leaves its number and returns a value, at first next."""
        return Program(
            [
                map_value(Reg.R1, self._map),
                load64(Reg.R2, Reg.R1, 0),
                mov(Reg.R3, Reg.R2),
                add(Reg.R3, 1),
                store64(Reg.R1, 0, Reg.R3),
                # For the verifier: within the map.
                conjoin(Reg.R2, self.ROOM - 1),
                shift_left(Reg.R2, 3),
                add(Reg.R1, Reg.R2),
                store64(Reg.R1, 8, number),
                mov(Reg.R0, value),
                ret(),
            ],
            name=name,
        )

    def take(self) -> list[int]:
        """The numbers since the last call."""
        count, *numbers = self._map.read()
        self._map.write(0, *[0] * (1 + self.ROOM))
        return numbers[:count]


def reporter(made: Map, field: int, value: int) -> Program:
    """A program that keeps one of the fields of __sk_buff."""
    return Program(
        [
            load32(Reg.R3, Reg.R1, field),
            map_value(Reg.R2, made),
            store64(Reg.R2, 0, Reg.R3),
            mov(Reg.R0, value),
            ret(),
        ]
    )


def queue_writer(number: int, *then: bytes) -> Program:
    """A program that notes a number as the packet's queue, and goes on with this."""
    return Program(
        [
            mov(Reg.R2, number),
            store32(Reg.R1, SKB_QUEUE_MAPPING, Reg.R2),
            *then,
            ret(),
        ]
    )
