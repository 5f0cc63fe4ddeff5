# SPDX-License-Identifier: GPL-2.0

"""
Frames of our own, sent and received through packet sockets.

The protocol number is one that nothing in the kernel handles, so that a
socket sees the test's frames only, and only those that a device received.
"""

import errno
import ipaddress
import select
import socket
import struct
from dataclasses import dataclass
from typing import Self

from net.lib.py import NetNSEnter

ETH_P_TEST = 0x88B5  # IEEE 802: local experimental
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_HLEN = 14
NO_PROTOCOL = 253  # IP: for experimentation
BROADCAST = b"\xff" * 6

# What a packet's sender notes on it.
MARK = 0x1234
PRIORITY = 5

SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_TXTIME = 61
SO_RCVMARK = 75
SO_RCVPRIORITY = 82
CLOCK_REALTIME = 0
UDP_SEGMENT = 103

SOL_PACKET = 263
PACKET_VNET_HDR = 15
VNET_HEADER = struct.Struct("=BBHHHH")
VNET_NEEDS_CSUM = 1


@dataclass(frozen=True)
class Received:
    """A frame and what the kernel noted about it."""

    data: bytes
    type: int
    mark: int | None = None
    priority: int | None = None
    time: int | None = None


@dataclass(frozen=True)
class Offloaded:
    """A frame with what is left to do about it."""

    needs_csum: bool
    gso_type: int
    gso_size: int
    length: int


def frame(
    destination: bytes,
    payload: bytes = b"",
    length: int = 60,
    protocol: int = ETH_P_TEST,
) -> bytes:
    header = destination + bytes(6) + struct.pack("!H", protocol)
    return (header + payload).ljust(length, b"\0")


def protocol_of(data: bytes) -> int:
    return int.from_bytes(data[ETH_HLEN - 2 : ETH_HLEN])


def ip_frame(destination: bytes, to: str) -> bytes:
    """A frame with an IP packet that somebody far away sent there, of a
    protocol that nobody speaks."""
    address = ipaddress.ip_address(to).packed
    if len(address) == 4:
        length, source = 46, bytes([192, 0, 2, 1])
        fields = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, NO_PROTOCOL, 0)
        protocol = ETH_P_IP
    else:
        length, source = 6, bytes.fromhex("20010db8").ljust(16, b"\1")
        fields = struct.pack("!IHBB", 6 << 28, length, NO_PROTOCOL, 64)
        protocol = ETH_P_IPV6
    return frame(destination, fields + source + address, protocol=protocol)


def send_segments(client: socket.socket, size: int, count: int) -> None:
    """One packet of UDP that counts as many."""
    control = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
    client.sendmsg([bytes(size * count)], control)


class PacketSocket:
    """A packet socket in a namespace, on one of its devices."""

    def __init__(self, ns: str, device: str, protocol: int = ETH_P_TEST) -> None:
        with NetNSEnter(ns):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._socket.bind((device, protocol))
        for option in (SO_RCVMARK, SO_RCVPRIORITY, SO_TIMESTAMPNS):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 1)
        self._socket.settimeout(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def setsockopt(self, option: int, value: int | bytes) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, option, value)

    def send(self, data: bytes, txtime: int | None = None) -> bool:
        """Whether the device took the frame."""
        control = []
        if txtime is not None:
            self.setsockopt(SO_TXTIME, struct.pack("=II", CLOCK_REALTIME, 0))
            control.append((socket.SOL_SOCKET, SO_TXTIME, struct.pack("=Q", txtime)))
        try:
            self._socket.sendmsg([data], control)
        except OSError as error:
            # What a packet socket makes of NET_XMIT_DROP.
            if error.errno != errno.ENOBUFS:
                raise
            return False
        return True

    def receive(self) -> Received:
        data, control, _, address = self._socket.recvmsg(1 << 17, 256)
        found = {kind: value for _, kind, value in control}
        seconds, nanoseconds = struct.unpack("=qq", found[SO_TIMESTAMPNS])
        return Received(
            data,
            address[2],
            struct.unpack("=I", found[socket.SO_MARK])[0],
            struct.unpack("=I", found[socket.SO_PRIORITY])[0],
            seconds * 1_000_000_000 + nanoseconds,
        )

    def empty(self, seconds: float = 0) -> bool:
        """Nothing has arrived, nor does for so long."""
        return not select.select([self._socket], [], [], seconds)[0]


class Capture(PacketSocket):
    """A packet socket that sees what offloads left of the frames."""

    def __init__(self, ns: str, device: str, protocol: int) -> None:
        super().__init__(ns, device, protocol)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.setsockopt(SO_RCVBUFFORCE, 64 << 20)

    def frames(self) -> list[Offloaded]:
        """All that have come, up to the first pause."""
        found = []
        while not self.empty(0.2):
            data = self._socket.recv(1 << 20)
            flags, gso_type, _, gso_size, _, _ = VNET_HEADER.unpack_from(data)
            found.append(
                Offloaded(
                    bool(flags & VNET_NEEDS_CSUM),
                    gso_type,
                    gso_size,
                    len(data) - VNET_HEADER.size,
                )
            )
        return found
