"""Netlink requests and their answers, whatever the family: one way to open a socket, to ask and to read what comes back.

struct nlmsghdr  length 4, type 2, flags 2, sequence 4, port 4
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

from ipsec_dp.host import HostError
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

# <linux/netlink.h>
SOL_NETLINK = 270
NLMSG_ERROR, NLMSG_DONE = 2, 3
REQUEST, MULTIPART = 0x1, 0x2

HEADER = struct.Struct("=IHHII")
READ_OCTETS = 1 << 16  # the kernel's parts of a dump are half of that at the most
ANSWER_SECONDS = 5.0  # only a broken kernel takes that long


class NetlinkRefusedError(HostError):
    """The kernel refused a socket, or what was asked by it; `code` is an errno."""

    def __init__(self, what: str, code: int) -> None:
        short = code in (errno.EMFILE, errno.ENFILE)  # of what a person can give
        super().__init__(f"{what}: {os_errors.text_of(OSError(code, os.strerror(code))) if short else os.strerror(code)}")
        self.code = code


class NetlinkAnswer(NamedTuple):
    """One message: type, flags, and the datagram with where its body begins and ends in it."""

    kind: int
    flags: int
    data: bytes
    at: int
    end: int

    @property
    def code(self) -> int:
        """What the end of a dump, or an acknowledgement, says: an errno, 0: all is well."""
        return -int(struct.unpack_from("=i", self.data, self.at)[0])


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Type, flags and sequence number of each message of a datagram, and where its body begins and ends."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, at + HEADER.size, at + length
        at += (length + 3) & ~3


class Requests:
    """A netlink socket in the network namespace of the calling thread, for `with`. Every method may raise NetlinkRefusedError.

    The kernel carries out what a send holds before that send returns: nothing here waits, the answers are there.
    """

    def __init__(self, family: int, what: str, *, port: int = 0, options: Iterable[int] = ()) -> None:
        """`what` begins a refusal ("rtnetlink"); `port`: the netlink port to ask from, 0: any; `options`: those of SOL_NETLINK."""
        self._what = what
        self._sequence = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        except OSError as error:
            raise self._refused(error) from error
        try:
            for option in options:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((port, 0))
            self._socket.settimeout(ANSWER_SECONDS)
        except OSError as error:
            self._socket.close()
            raise self._refused(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def _refused(self, error: OSError) -> NetlinkRefusedError:
        return NetlinkRefusedError(self._what, error.errno or 0)

    def next_message(self, kind: int, flags: int, body: bytes) -> bytes:
        """A request, of a sequence number of its own."""
        self._sequence += 1
        return self.message(kind, flags, body)

    def message(self, kind: int, flags: int, body: bytes) -> bytes:
        """A request of the same sequence number as the one before."""
        return HEADER.pack(HEADER.size + len(body), kind, flags, self._sequence, 0) + body

    def send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise self._refused(error) from error

    def receive(self) -> bytes:
        """One datagram."""
        try:
            return self._socket.recv(READ_OCTETS)
        except OSError as error:
            raise self._refused(error) from error

    def answers(self) -> Iterator[NetlinkAnswer]:
        """Those to the request that was made last: its whole dump with what ends it, or the only one."""
        while True:
            data = self.receive()
            for kind, flags, sequence, at, end in messages(data):
                if sequence != self._sequence:
                    continue
                yield NetlinkAnswer(kind, flags, data, at, end)
                if kind in (NLMSG_DONE, NLMSG_ERROR) or not flags & MULTIPART:
                    return
