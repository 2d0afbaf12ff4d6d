"""Which interfaces changed while a gateway runs: rtnetlink's reports about links and addresses, by the interface's number."""

from __future__ import annotations

import errno
import socket

from ipsec_dp.host import HostError
from ipsec_dp.host.bulk import U32, messages

# <linux/rtnetlink.h>
LINKS, ADDRESSES = (16, 17), (20, 21)  # NEW and DEL
GROUPS = 0x1 | 0x10 | 0x100  # links; IPv4 and IPv6 addresses
INDEX_AT = 4  # of struct ifinfomsg and of struct ifaddrmsg
READ_OCTETS = 1 << 16


class LinkChangesSocket:
    """Reports for the network namespace of the calling thread. HostError when the kernel refuses."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
            self._socket.bind((0, GROUPS))
        except OSError as error:
            raise HostError(f"rtnetlink: {error.strerror or error}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> set[int] | None:
        """The interfaces that were reported since the last call; None: reports were lost, so it may be any."""
        found: set[int] = set()
        lost = False
        while True:
            try:
                data = self._socket.recv(READ_OCTETS)
            except BlockingIOError:
                return None if lost else found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            for kind, _, _, at, end in messages(data):
                if kind in LINKS + ADDRESSES and at + INDEX_AT + U32.size <= end:
                    found.add(U32.unpack_from(data, at + INDEX_AT)[0])
