"""What the kernel's packet filter logs to a group of ours (nfnetlink_log): read without waiting, passed to a callback.

Rules with `log prefix "…" group N` send here. The kernel's own log would show such lines for the host's first network namespace
only, and in most containers to nobody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.host import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# <linux/netlink.h>, <linux/netfilter/nfnetlink.h>, <linux/netfilter/nfnetlink_log.h>
NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 1, 4, 2
SUBSYSTEM = 4 << 8
PACKET, CONFIG = SUBSYSTEM, SUBSYSTEM | 1
CFG_COMMAND, CFG_MODE, CFG_TIMEOUT = 1, 2, 4
BIND = b"\x01"
COPY_PACKET = 2
ATTRIBUTE_PAYLOAD, ATTRIBUTE_PREFIX = 9, 10

SNAP_OCTETS = 128  # of each packet: its headers
WAIT_CENTISECONDS = 10  # that the kernel collects lines
DATAGRAM_MAX = 1 << 17

MESSAGE, ATTRIBUTE = struct.Struct("=IH"), struct.Struct("=HH")  # length and kind come first in both


class Line(NamedTuple):
    """The text that the rule gave, and the beginning of the packet."""

    prefix: str
    packet: bytes


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _config(group: int, attribute: bytes) -> bytes:
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, group) + attribute
    return struct.pack("=IHHII", 16 + len(body), CONFIG, NLM_F_REQUEST | NLM_F_ACK, 0, 0) + body


def _messages(datagram: bytes, header: struct.Struct, least: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of the parts that a datagram or message consists of, each padded to four octets."""
    at = 0
    while at + least <= len(datagram):
        octets, kind = header.unpack_from(datagram, at)
        if octets < least:
            return
        yield kind, datagram[at + least : at + octets]
        at += octets + -octets % 4


def lines(datagram: bytes) -> list[Line]:
    """The log lines in what the kernel sent."""
    found = []
    for kind, body in _messages(datagram, MESSAGE, 16):
        if kind == PACKET:
            attributes = dict(_messages(body[4:], ATTRIBUTE, 4))
            prefix = attributes.get(ATTRIBUTE_PREFIX, b"").rstrip(b"\0").decode(errors="replace")
            found.append(Line(prefix, attributes.get(ATTRIBUTE_PAYLOAD, b"")))
    return found


class LogReader:
    """Listens to one group of the calling thread's namespace until closed. HostError: somebody else has it, or we may not."""

    def __init__(self, group: int, received: Callable[[Line], None]) -> None:
        self._received = received
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        mode = struct.pack("!IBx", SNAP_OCTETS, COPY_PACKET)
        try:
            for attribute in (
                _attribute(CFG_COMMAND, BIND),
                _attribute(CFG_MODE, mode),
                _attribute(CFG_TIMEOUT, struct.pack("!I", WAIT_CENTISECONDS)),
            ):
                self._ask(group, attribute)
        except OSError as error:
            self._socket.close()
            raise HostError(f"listening to log group {group}: {os.strerror(error.errno or 0)}") from error
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def _ask(self, group: int, attribute: bytes) -> None:
        self._socket.sendto(_config(group, attribute), (0, 0))
        answer = self._socket.recv(DATAGRAM_MAX)
        kind, error = struct.unpack_from("=H", answer, 4)[0], struct.unpack_from("=i", answer, 16)[0]
        if kind == NLMSG_ERROR and error:
            raise OSError(-error, os.strerror(-error))

    def _readable(self) -> None:
        try:
            datagram = self._socket.recv(DATAGRAM_MAX)
        except OSError:
            return  # lines were lost: more of them than the socket holds
        for line in lines(datagram):
            self._received(line)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
