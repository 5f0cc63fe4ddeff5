#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Programs of a user namespace that was delegated the right to load them.
"""

import ctypes
import os
import signal
import struct
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lib.py import ksft_busy_wait, ksft_eq, ksft_exit, ksft_pr, ksft_run, ksft_variants
from lib.py import AttachType, HOOKS, NetNSEnter, Policy, Program, Way, answer, cases
from lib.py import defer, frame, insn, link_ids, token_create, way

SYS_FSOPEN, SYS_FSCONFIG, SYS_FSMOUNT = 430, 431, 432
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 1, 6

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *args: int | bytes | None) -> int:
    result = _libc.syscall(number, *args)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


class Child:
    """A process that is root of a user namespace of its own."""

    def __init__(self, ns: str, work: Callable[["Child"], None]) -> None:
        # What it says to us, and what we say to it.
        self._said, says = os.pipe()
        hears, self._hears = os.pipe()
        with NetNSEnter(ns):
            self.pid = os.fork()
            if not self.pid:
                # Within, for it must not leave the namespace.
                self._says, self._from = says, hears
                self._run(work)
        os.close(says)
        os.close(hears)
        defer(self.end)

    def _run(self, work: Callable[["Child"], None]) -> None:
        status = 1
        try:
            os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS)
            work(self)
            status = 0
        except Exception:  # noqa: BLE001
            ksft_pr(traceback.format_exc())
        finally:
            os._exit(status)

    def tell(self, number: int) -> None:
        os.write(self._says, struct.pack("=i", number))

    def wait(self) -> None:
        os.read(self._from, 1)

    def listen(self) -> int:
        """The next number it tells, or OSError where it has ended."""
        data = os.read(self._said, 4)
        if not data:
            raise OSError(0, "the child has ended")
        return int(struct.unpack("=i", data)[0])

    def resume(self) -> None:
        os.write(self._hears, b"x")

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._said)
            os.close(self._hears)
            self.pid = 0


def take_over(child: Child, number: int) -> int:
    """A descriptor of the child's, as one of ours."""
    pidfd = call(SYS_PIDFD_OPEN, child.pid, 0)
    try:
        return call(SYS_PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)


def delegate(child: Child, **rights: str) -> None:
    """Lets a file system that the child asked for come to be, with rights."""
    for name in ("uid", "gid"):
        if name == "gid":
            Path(f"/proc/{child.pid}/setgroups").write_text("deny", encoding="ascii")
        Path(f"/proc/{child.pid}/{name}_map").write_text("0 0 1", encoding="ascii")
    child.resume()
    context = take_over(child, child.listen())
    try:
        for name, value in rights.items():
            call(
                SYS_FSCONFIG,
                context,
                FSCONFIG_SET_STRING,
                f"delegate_{name}s".encode(),
                value.encode(),
                0,
            )
        call(SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
    finally:
        os.close(context)
    child.resume()


def token_of(child: Child) -> int:
    """In the child: the token, once the parent has said what it is good for."""
    child.tell(0)
    child.wait()
    context = call(SYS_FSOPEN, b"bpf", 0)
    child.tell(context)
    child.wait()
    mount = call(SYS_FSMOUNT, context, 0, 0)
    return token_create(os.open(".", os.O_RDONLY, dir_fd=mount))


def packet(each: Way) -> bool:
    with each.sender.packets() as out:
        return out.send(frame(each.receiver.address))


@ksft_variants(HOOKS)
def test_delegated(kind: AttachType) -> None:
    """Works as any program does, and goes with the process that linked it."""
    each = way(kind)
    before = link_ids()

    def work(child: Child) -> None:
        code = [insn.mov(insn.Reg.R0, Policy.DROP), insn.ret()]
        token = token_of(child)
        program = Program(code, token=token)
        each.hook.attach(program)
        each.hook.detach(program)
        child.tell(each.hook.link(program).fd)
        while True:
            time.sleep(1000)

    child = Child(each.hook.ns, work)
    child.listen()
    delegate(child, cmd="any", prog="any", attach="any")
    child.listen()
    ksft_eq((each.hook.query().count, each.hook.query().revision), (1, 4))
    ksft_eq(set(each.hook.query().links), link_ids() - before)
    ksft_eq(packet(each), False)
    child.end()
    ksft_busy_wait(
        lambda: link_ids() == before, deadline=60, comment="the link is left"
    )
    ksft_eq((each.hook.query().count, packet(each)), (0, True))


def test_not_delegated() -> None:
    """A token for something else is none for this; nor does one query."""
    each = way()

    def work(child: Child) -> None:
        code = [insn.mov(insn.Reg.R0, 0), insn.ret()]
        token = token_of(child)
        answers = [
            answer(Program, code, token=token),
            answer(Program, code),
            answer(each.hook.query),
        ]
        child.tell(int(answers == ["EPERM"] * 3))

    child = Child(each.hook.ns, work)
    child.listen()
    delegate(child, cmd="map_create", prog="sched_cls")
    ksft_eq(child.listen(), 1)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
