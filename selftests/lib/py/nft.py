# SPDX-License-Identifier: GPL-2.0

"""
A netfilter chain that drops what a device sends, without the nft program.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from net.lib.py import Netlink, NetNSEnter

from .rtnl import HEADER, Attribute, Attrs, Scope, Writer, raise_error

NETLINK_NETFILTER = 12
NFPROTO_UNSPEC, NFPROTO_NETDEV = 0, 5
SUBSYSTEM = 10 << 8
BATCH_BEGIN, BATCH_END = 16, 17
NEWTABLE, NEWCHAIN, DELTABLE = SUBSYSTEM | 0, SUBSYSTEM | 3, SUBSYSTEM | 2
NF_DROP = 0
NF_NETDEV_EGRESS = 1

TABLE: Scope = {"name": Attribute(1)}
HOOK: Scope = {"number": Attribute(1), "priority": Attribute(2), "device": Attribute(3)}
CHAIN: Scope = {
    "table": Attribute(1),
    "name": Attribute(3),
    "hook": Attribute(4, scope=HOOK),
    "policy": Attribute(5),
    "type": Attribute(7),
}


def _number(value: int) -> bytes:
    return struct.pack("!I", value)


def _message(
    kind: int,
    family: int,
    resource: int,
    flags: int = 0,
    scope: Scope | None = None,
    attrs: Attrs | None = None,
) -> bytes:
    writer = Writer(bytearray(HEADER.size))
    writer.message += struct.pack("!BBH", family, 0, resource)
    writer.put(scope or {}, attrs or {})
    HEADER.pack_into(
        writer.message,
        0,
        len(writer.message),
        kind,
        Netlink.NLM_F_REQUEST | flags,
        0,
        0,
    )
    return bytes(writer.message)


def _batch(nft: socket.socket, *messages: bytes) -> None:
    begin = _message(BATCH_BEGIN, NFPROTO_UNSPEC, SUBSYSTEM >> 8)
    end = _message(BATCH_END, NFPROTO_UNSPEC, SUBSYSTEM >> 8)
    nft.send(b"".join((begin, *messages, end)))
    for _ in messages:
        answer = nft.recv(1 << 16)
        raise_error(answer[HEADER.size :], 0, {})


@contextmanager
def egress_dropped(ns: str, device: str) -> Iterator[None]:
    """Whatever leaves through the device is dropped, as far as it is asked."""
    with (
        NetNSEnter(ns),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as nft,
    ):
        nft.settimeout(10)
        how = Netlink.NLM_F_CREATE | Netlink.NLM_F_ACK
        _batch(
            nft,
            _message(NEWTABLE, NFPROTO_NETDEV, 0, how, TABLE, {"name": "netkit"}),
            _message(
                NEWCHAIN,
                NFPROTO_NETDEV,
                0,
                how,
                CHAIN,
                {
                    "table": "netkit",
                    "name": "egress",
                    "hook": {
                        "number": _number(NF_NETDEV_EGRESS),
                        "priority": _number(0),
                        "device": device,
                    },
                    "policy": _number(NF_DROP),
                    "type": "filter",
                },
            ),
        )
        try:
            yield
        finally:
            _batch(
                nft,
                _message(
                    DELTABLE,
                    NFPROTO_NETDEV,
                    0,
                    Netlink.NLM_F_ACK,
                    TABLE,
                    {"name": "netkit"},
                ),
            )
