# SPDX-License-Identifier: GPL-2.0

"""
Where packets can be redirected to, and what the devices count of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from net.lib.py import ksft_busy_wait, ksft_eq

from .bpf import Program, Way
from .insn import Helper, Reg, call, mov, ret
from .netkit import Namespace, Port, operational, pair
from .packet import frame


def redirect(index: int, flags: int = 0, helper: Helper = Helper.REDIRECT) -> Program:
    return Program(
        [
            mov(Reg.R1, index),
            mov(Reg.R2, flags),
            call(helper),
            ret(),
        ]
    )


def made(ns: Namespace, name: str, kind: str = "dummy", up: bool = True) -> Port:
    ns.rtnl.newlink({"ifname": name, "linkinfo": {"kind": kind}})
    port = Port(ns, name)
    if up:
        port.up()
    return port


def veth(ns: Namespace, other: Namespace) -> tuple[Port, Port]:
    """One end in each of the namespaces."""
    ns.ip(f"link add v0 type veth peer name v1 netns {other.name}")
    ports = Port(ns, "v0"), Port(other, "v1")
    operational(*ports)
    return ports


def second_pair(ns: Namespace, other: Namespace) -> tuple[Port, Port]:
    """Of other names than the first one."""
    return pair(ns, other, names=("nk2", "nk3"))


@contextmanager
def grown(**expected: tuple[Port, dict[str, int]]) -> Iterator[None]:
    """What the devices count meanwhile; what is not expected is nought."""
    before = {name: port.stats for name, (port, _) in expected.items()}
    yield
    for name, (port, growth) in expected.items():
        # Where packets pass a queue they are counted later.
        ksft_busy_wait(
            lambda port=port, growth=growth, start=before[name]: all(
                port.stats[key] - start[key] >= value for key, value in growth.items()
            ),
            deadline=30,
            comment=name,
        )
        after = port.stats
        if "rx_packets" in growth:
            # Of the core's, where no socket waits for the frame.
            del after["rx_dropped"]
        ksft_eq(
            {key: after[key] - before[name][key] for key in after},
            dict.fromkeys(after, 0) | growth,
            name,
        )


def sent(count: int = 1, length: int = 60) -> dict[str, int]:
    return {"tx_packets": count, "tx_bytes": count * length}


def received(count: int = 1, length: int = 60) -> dict[str, int]:
    return {"rx_packets": count, "rx_bytes": count * length}


def send(each: Way, count: int = 1, destination: bytes | None = None) -> list[bool]:
    data = frame(destination or each.receiver.address)
    with each.sender.packets() as out:
        return [out.send(data) for _ in range(count)]
