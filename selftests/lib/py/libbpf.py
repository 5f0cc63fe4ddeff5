# SPDX-License-Identifier: GPL-2.0

"""
Programs from object files, by libbpf.
"""

import ctypes
import os
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self

from net.lib.py import KsftSkipEx, defer

from .bpf import F

LIBRARY = "libbpf.so.1"
_Pointer = ctypes.c_void_p


@cache
def libbpf() -> ctypes.CDLL:
    """The library; where it is not installed, the test case is skipped."""
    try:
        return ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise KsftSkipEx(f"no {LIBRARY}") from error


def _function(name: str, result: object, *arguments: object) -> Callable[..., Any]:
    """One of its functions, looked up when it is called: files that import this
    must get as far as their plan."""

    def call(*values: object) -> Any:
        function = getattr(libbpf(), name)
        function.restype = result
        function.argtypes = arguments
        return function(*values)

    return call


_open = _function("bpf_object__open", _Pointer, ctypes.c_char_p)
_load = _function("bpf_object__load", ctypes.c_int, _Pointer)
_close = _function("bpf_object__close", None, _Pointer)
_find_program = _function(
    "bpf_object__find_program_by_name", _Pointer, _Pointer, ctypes.c_char_p
)
_find_map = _function(
    "bpf_object__find_map_fd_by_name", ctypes.c_int, _Pointer, ctypes.c_char_p
)
_reuse = _function("bpf_map__reuse_fd", ctypes.c_int, _Pointer, ctypes.c_int)
_find_map_object = _function(
    "bpf_object__find_map_by_name", _Pointer, _Pointer, ctypes.c_char_p
)
_link_open = _function("bpf_link__open", _Pointer, ctypes.c_char_p)
_link_pin = _function("bpf_link__pin", ctypes.c_int, _Pointer, ctypes.c_char_p)
_link_update = _function("bpf_link__update_program", ctypes.c_int, _Pointer, _Pointer)
_link_destroy = _function("bpf_link__destroy", ctypes.c_int, _Pointer)
_lookup = _function(
    "bpf_map_lookup_elem", ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p
)
_update = _function(
    "bpf_map_update_elem",
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_uint64,
)
_delete = _function("bpf_map_delete_elem", ctypes.c_int, ctypes.c_int, ctypes.c_char_p)


class _AttachOpts(ctypes.Structure):
    """struct bpf_netkit_opts, and struct bpf_tcx_opts, which is the same."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("relative_fd", ctypes.c_uint32),
        ("relative_id", ctypes.c_uint32),
        ("expected_revision", ctypes.c_uint64),
    ]


_attachers = {
    kind: _function(
        f"bpf_program__attach_{kind}",
        _Pointer,
        _Pointer,
        ctypes.c_int,
        ctypes.POINTER(_AttachOpts),
    )
    for kind in ("netkit", "tcx")
}


def _checked(pointer: int | None) -> int:
    if not pointer:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return pointer


def _succeeded(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class _Handle:
    """What libbpf made, closed when the test case ends if not before."""

    def __init__(self, pointer: int, close: Callable[[int], object]) -> None:
        self._handle: int | None = pointer
        self._close = close
        defer(self.close)

    @property
    def _pointer(self) -> int:
        assert self._handle is not None, "closed"
        return self._handle

    def close(self) -> None:
        if self._handle is not None:
            self._close(self._handle)
            self._handle = None


class Link(_Handle):
    """A link, which lives on where it is pinned."""

    def __init__(self, pointer: int) -> None:
        super().__init__(pointer, _link_destroy)

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(_checked(_link_open(bytes(path))))

    def pin(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _succeeded(_link_pin(self._pointer, bytes(path)))

    def update(self, program: int) -> None:
        _succeeded(_link_update(self._pointer, program))


class Object(_Handle):
    """A loaded object file; its maps are those of another one, if given."""

    def __init__(self, path: Path, shared: Self | None = None, maps: str = "") -> None:
        super().__init__(_checked(_open(bytes(path))), _close)
        for name in maps.split() if shared else ():
            made = _checked(_find_map_object(self._pointer, name.encode()))
            _succeeded(_reuse(made, shared.map(name)))
        _succeeded(_load(self._pointer))

    def program(self, name: str) -> int:
        return _checked(_find_program(self._pointer, name.encode()))

    def map(self, name: str) -> int:
        return _succeeded(_find_map(self._pointer, name.encode()))

    def attach(self, kind: str, name: str, ifindex: int) -> Link:
        """Behind what is attached already; kind is netkit or tcx."""
        opts = _AttachOpts(sz=ctypes.sizeof(_AttachOpts), flags=F.AFTER)
        return Link(_checked(_attachers[kind](self.program(name), ifindex, opts)))

    def number(self, name: str, key: int) -> int:
        """One of an array of numbers."""
        value = ctypes.create_string_buffer(8)
        _succeeded(_lookup(self.map(name), struct.pack("=I", key), value))
        return struct.unpack("=Q", value.raw)[0]

    def store(self, name: str, key: bytes, value: bytes) -> None:
        _succeeded(_update(self.map(name), key, value, 0))

    def remove(self, name: str, key: bytes) -> None:
        _succeeded(_delete(self.map(name), key))
