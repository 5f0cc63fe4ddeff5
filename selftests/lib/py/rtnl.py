# SPDX-License-Identifier: GPL-2.0

"""
Link messages of rtnetlink, as raw as the tests need them.

YNL refuses to send what these tests are about: attributes of a wrong size, a
read-only attribute, a malformed nested request for the peer, which its
specification leaves opaque.  A request is written here as a dictionary in the
order in which the attributes are to be sent; a value given as bytes is sent as
it is, whatever its type.
"""

import errno
import ipaddress
import itertools
import os
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from net.lib.py import Netlink, NetNSEnter

from .packet import SO_RCVBUFFORCE

Value = int | str | bytes | Mapping[str, "Value"]
Attrs = Mapping[str, Value]
Decoded = dict[str, object]

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22

RTMGRP_LINK = 1
SOL_NETLINK = 270
NETLINK_EXT_ACK = 11

HEADER = struct.Struct("=IHHII")
IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBI")
IFA_F_NODAD = 2
ATTR = struct.Struct("=HH")
NLA_TYPE_MASK = 0x3FFF


class Attribute(NamedTuple):
    """Number and format of an attribute.

    The format is that of the struct module, "str" for a string or None for
    plain bytes; an attribute with a scope holds attributes, after a header of
    so many bytes.
    """

    number: int
    format: str | None = None
    scope: "Scope | None" = None
    header: int = 0


Scope = Mapping[str, Attribute]

STATS = (
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
)

LINK: dict[str, Attribute] = {
    "address": Attribute(1),
    "broadcast": Attribute(2),
    "ifname": Attribute(3, "str"),
    "mtu": Attribute(4, "I"),
    "link": Attribute(5, "I"),
    "qdisc": Attribute(6, "str"),
    "master": Attribute(10, "I"),
    "txqlen": Attribute(13, "I"),
    "operstate": Attribute(16, "B"),
    "net-ns-pid": Attribute(19, "I"),
    "stats64": Attribute(23),
    "group": Attribute(27, "I"),
    "net-ns-fd": Attribute(28, "I"),
    "promiscuity": Attribute(30, "I"),
    "num-tx-queues": Attribute(31, "I"),
    "num-rx-queues": Attribute(32, "I"),
    "carrier": Attribute(33, "B"),
    "carrier-changes": Attribute(35, "I"),
    "link-netnsid": Attribute(37, "i"),
    "gso-max-segs": Attribute(40, "I"),
    "gso-max-size": Attribute(41, "I"),
    "min-mtu": Attribute(50, "I"),
    "max-mtu": Attribute(51, "I"),
    "perm-address": Attribute(54),
    "gro-max-size": Attribute(58, "I"),
    "tso-max-size": Attribute(59, "I"),
    "tso-max-segs": Attribute(60, "I"),
    "allmulti": Attribute(61, "I"),
    "gso-ipv4-max-size": Attribute(63, "I"),
    "headroom": Attribute(68, "H"),
    "tailroom": Attribute(69, "H"),
}

NETKIT: dict[str, Attribute] = {
    "peer-info": Attribute(1, scope=LINK, header=IFINFO.size),
    "primary": Attribute(2, "B"),
    "policy": Attribute(3, "I"),
    "peer-policy": Attribute(4, "I"),
    "mode": Attribute(5, "I"),
    "scrub": Attribute(6, "I"),
    "peer-scrub": Attribute(7, "I"),
    "headroom": Attribute(8, "H"),
    "tailroom": Attribute(9, "H"),
    "pairing": Attribute(10, "I"),
    # One more than the kernel knows.
    "unknown": Attribute(11, "I"),
}

LINKINFO: dict[str, Attribute] = {
    "kind": Attribute(1, "str"),
    "data": Attribute(2, scope=NETKIT),
}

# Of another kind of device, whose attributes are none of ours.
OTHER_LINKINFO: dict[str, Attribute] = {"kind": LINKINFO["kind"]}

ADDRESS: dict[str, Attribute] = {
    "address": Attribute(1),
    "local": Attribute(2),
    "flags": Attribute(8, "I"),
}

LINK["linkinfo"] = Attribute(18, scope=LINKINFO)


def error_name(number: int) -> str:
    """The name of an error number, or the number if it has none."""
    # Two names for one number, of which Python prefers the other.
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"
    return errno.errorcode.get(number, str(number))


class Refused(Exception):
    """The kernel's answer to a request that it did not carry out."""

    def __init__(self, error: int, attribute: str | None) -> None:
        self.error = error_name(error)
        self.attribute = attribute
        super().__init__(f"{self.error}, attribute {attribute}")


def _align(length: int) -> int:
    return (length + 3) & ~3


@dataclass
class Writer:
    """Message under construction, and where in it each attribute starts."""

    message: bytearray
    where: dict[int, str] = field(default_factory=dict)

    def put(self, scope: Scope, attrs: Attrs, path: str = "") -> None:
        for name, value in attrs.items():
            self._put_one(scope[name], value, path + name)

    def _put_one(self, attribute: Attribute, value: Value, path: str) -> None:
        start = len(self.message)
        self.where[start] = path
        self.message += bytes(ATTR.size)
        self._put_payload(attribute, value, path)
        ATTR.pack_into(self.message, start, len(self.message) - start, attribute.number)
        self.message += bytes(_align(len(self.message)) - len(self.message))

    def _put_payload(self, attribute: Attribute, value: Value, path: str) -> None:
        if isinstance(value, bytes):
            self.message += value
        elif isinstance(value, str):
            self.message += value.encode() + b"\0"
        elif isinstance(value, int):
            self.message += struct.pack(f"={attribute.format}", value)
        else:
            self._put_nested(attribute, dict(value), path)

    def _put_nested(
        self, attribute: Attribute, attrs: dict[str, Value], path: str
    ) -> None:
        if attribute.scope is None:
            raise TypeError(f"{path} holds no attributes")
        if attribute.header:
            # Not an attribute: the index in the header before the peer's.
            self.message += IFINFO.pack(0, 0, attrs.pop("ifi-index", 0), 0, 0)
        self.put(attribute.scope, attrs, f"{path}.")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + ATTR.size <= len(data):
        length, number = ATTR.unpack_from(data, offset)
        yield number & NLA_TYPE_MASK, data[offset + ATTR.size : offset + length]
        offset += _align(length)


def _decode_value(attribute: Attribute, payload: bytes) -> object:
    if attribute.scope is LINKINFO:
        return _decode_linkinfo(payload)
    if attribute.scope is not None:
        return _decode(attribute.scope, payload[attribute.header :])
    if attribute.format == "str":
        return payload.rstrip(b"\0").decode()
    if attribute.format is None:
        return payload
    return struct.unpack(f"={attribute.format}", payload)[0]


def _decode_linkinfo(payload: bytes) -> Decoded:
    info = _decode(OTHER_LINKINFO, payload)
    return _decode(LINKINFO, payload) if info["kind"] == "netkit" else info


def _decode(scope: Scope, data: bytes) -> Decoded:
    """Attributes that we know, in the order in which they came."""
    names = {attribute.number: name for name, attribute in scope.items()}
    return {
        names[number]: _decode_value(scope[names[number]], payload)
        for number, payload in _attributes(data)
        if number in names
    }


@dataclass(frozen=True)
class Link:
    """A link as the kernel reports it."""

    index: int
    type: int
    flags: int
    attrs: Decoded
    raw: bytes

    @classmethod
    def parse(cls, message: bytes) -> Self:
        _, kind, index, flags, _ = IFINFO.unpack_from(message)
        raw = message[IFINFO.size :]
        return cls(index, kind, flags, _decode(LINK, raw), raw)

    def __getitem__(self, name: str) -> object:
        return self.attrs[name]

    @property
    def name(self) -> str:
        return str(self.attrs["ifname"])

    @property
    def address(self) -> str:
        return bytes(self.attrs["address"]).hex(":")

    @property
    def kind(self) -> str | None:
        return self.attrs.get("linkinfo", {}).get("kind")

    @property
    def data(self) -> Decoded:
        """The driver's own attributes."""
        return self.attrs["linkinfo"]["data"]

    @property
    def raw_data(self) -> bytes:
        """The driver's own attributes, as they were sent."""
        linkinfo = dict(_attributes(self.raw))[LINK["linkinfo"].number]
        return dict(_attributes(linkinfo))[LINKINFO["data"].number]

    @property
    def stats(self) -> dict[str, int]:
        return dict(zip(STATS, struct.unpack_from("=9Q", self.attrs["stats64"])))


class Rtnl:
    """Requests about the links of one network namespace, or if that has no name,
    the one of the caller."""

    def __init__(self, ns: str = "") -> None:
        with entered(ns):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
            )
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        # Deletion of many devices takes its time, with checkers above all.
        self._socket.settimeout(300)
        self._sequence = itertools.count(1)

    def close(self) -> None:
        """An open socket would keep the namespace."""
        self._socket.close()

    def newlink(self, attrs: Attrs, index: int = 0, flags: int = 0) -> None:
        self._request(
            RTM_NEWLINK, attrs, index, flags, Netlink.NLM_F_CREATE | Netlink.NLM_F_EXCL
        )

    def change(self, name: str, attrs: Attrs, flags: int = 0, mask: int = 0) -> None:
        self._request(RTM_NEWLINK, attrs, self.getlink(name).index, flags, 0, mask)

    def dellink(self, attrs: Attrs) -> None:
        self._request(RTM_DELLINK, attrs)

    def getlink(self, name: str) -> Link:
        return Link.parse(self._request(RTM_GETLINK, {"ifname": name})[0])

    def links(self) -> list[Link]:
        return [
            Link.parse(message)
            for message in self._request(RTM_GETLINK, {}, how=Netlink.NLM_F_DUMP)
        ]

    def names(self) -> set[str]:
        return {link.name for link in self.links()}

    def newaddr(self, name: str, address: str) -> None:
        """An address with the length of its prefix, of which nobody asks first."""
        interface = ipaddress.ip_interface(address)
        family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        length, index = interface.network.prefixlen, self.getlink(name).index
        self._send(
            RTM_NEWADDR,
            IFADDR.pack(family, length, 0, 0, index),
            ADDRESS,
            {
                "address": interface.packed,
                "local": interface.packed,
                "flags": IFA_F_NODAD,
            },
            Netlink.NLM_F_CREATE | Netlink.NLM_F_EXCL,
        )

    def addresses(self) -> list[bytes]:
        """Those of all devices, as messages."""
        return self._request(RTM_GETADDR, {}, how=Netlink.NLM_F_DUMP)

    def _request(
        self,
        kind: int,
        attrs: Attrs,
        index: int = 0,
        flags: int = 0,
        how: int = 0,
        mask: int = 0,
    ) -> list[bytes]:
        header = IFINFO.pack(0, 0, index, flags, mask)
        return self._send(kind, header, LINK, attrs, how)

    def _send(
        self, kind: int, header: bytes, scope: Scope, attrs: Attrs, how: int
    ) -> list[bytes]:
        sequence = next(self._sequence)
        writer = Writer(bytearray(HEADER.size))
        writer.message += header
        writer.put(scope, attrs)
        HEADER.pack_into(
            writer.message,
            0,
            len(writer.message),
            kind,
            Netlink.NLM_F_REQUEST | Netlink.NLM_F_ACK | how,
            sequence,
            0,
        )
        self._socket.send(writer.message)
        return list(self._answers(sequence, writer.where))

    def _answers(self, sequence: int, where: Mapping[int, str]) -> Iterator[bytes]:
        """Messages up to the one that ends every request."""
        while True:
            data = self._socket.recv(1 << 17)
            while data:
                length, kind, flags, seq, _ = HEADER.unpack_from(data)
                body, data = data[HEADER.size : length], data[_align(length) :]
                if seq != sequence:
                    continue
                if kind == Netlink.NLMSG_ERROR:
                    raise_error(body, flags, where)
                if kind in (Netlink.NLMSG_ERROR, Netlink.NLMSG_DONE):
                    return
                yield body


def raise_error(body: bytes, flags: int, where: Mapping[int, str]) -> None:
    error, request_length = struct.unpack_from("=iI", body)
    if not error:
        return
    extack: dict[int, bytes] = {}
    if flags & Netlink.NLM_F_ACK_TLVS:
        extack = dict(_attributes(body[4 + request_length :]))
    attribute = None
    if Netlink.NLMSGERR_ATTR_OFFS in extack:
        (offset,) = struct.unpack("=I", extack[Netlink.NLMSGERR_ATTR_OFFS])
        attribute = where.get(offset, f"offset {offset}")
    raise Refused(-error, attribute)


class Monitor:
    """Notifications about the links of a namespace."""

    def __init__(self, ns: str) -> None:
        with NetNSEnter(ns):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
            )
        # What is not read at once is not to be lost.
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._socket.bind((0, RTMGRP_LINK))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self) -> None:
        """Until there is a notification."""
        if not select.select([self._socket], [], [], 60)[0]:
            raise TimeoutError("no notification")

    def seen(self) -> list[tuple[int, Link]]:
        """Types and links of all notifications so far."""
        found = []
        while True:
            try:
                data = self._socket.recv(1 << 17, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            _, kind, _, _, _ = HEADER.unpack_from(data)
            found.append((kind, Link.parse(data[HEADER.size :])))


def entered(ns: str) -> AbstractContextManager[object]:
    """Within a namespace, or if that has no name, where the caller is."""
    return NetNSEnter(ns) if ns else nullcontext()


@contextmanager
def ns_fd(ns: str) -> Iterator[int]:
    """A descriptor of a namespace, closed soon: it keeps the namespace."""
    fd = os.open(f"/run/netns/{ns}", os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)
