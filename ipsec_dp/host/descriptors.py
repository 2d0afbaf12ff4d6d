"""Messages between two processes of one gateway, each with a few descriptors at the most (SCM_RIGHTS of unix(7)); what is long is
memory that is handed over by its descriptor (memfd_create(2))."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct

TABLE = 1024  # descriptors for which there is room from the start
MEMORY_OCTETS_MAX = 256 << 20  # names, digests and what a configuration says: ten thousand tunnels take a few MB
_DESCRIPTOR = struct.Struct("=i")


def received(channel: socket.socket, octets: int, most: int = 1) -> tuple[bytes, list[int]]:
    """A message, empty at the end, and `most` of the descriptors that came with it, which no program that is started inherits.

    recvmsg itself: recv_fds of Python 3.11 passes no flags on.
    """
    room = socket.CMSG_LEN(most * _DESCRIPTOR.size)
    message, ancillary, _, _ = channel.recvmsg(octets, room, socket.MSG_CMSG_CLOEXEC)
    return message, [
        descriptor
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (descriptor,) in _DESCRIPTOR.iter_unpack(data[: len(data) // _DESCRIPTOR.size * _DESCRIPTOR.size])
    ]


def send(channel: socket.socket, message: bytes, *descriptors: int) -> None:
    """Raises OSError."""
    rights = ((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors)),) if descriptors else ()
    channel.sendmsg([message], rights)


def memory_of(content: bytes = b"") -> int:
    """Memory that holds it, by a descriptor that the caller closes."""
    made = os.memfd_create("ipsec-dp", os.MFD_CLOEXEC)
    with open(made, "wb", closefd=False) as file:
        file.write(content)
    return made


def content_of(descriptor: int) -> bytes:
    """All that is there. Raises OSError when it is too much."""
    if os.fstat(descriptor).st_size > MEMORY_OCTETS_MAX:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return file.read(MEMORY_OCTETS_MAX)


def make_room(count: int = TABLE) -> None:
    """The kernel's table of this process's descriptors has room for so many from now on, as far as the process may have them: it
    grows with the first that finds none, and where there are threads that one waits for all processors, 10 ms or more. OSError."""
    opened = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # it may have no more than fewer
            os.close(fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, count - 1))
    finally:
        os.close(opened)
