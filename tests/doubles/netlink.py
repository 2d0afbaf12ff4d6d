"""The kernel's end of a netlink socket, in memory."""

from __future__ import annotations


class MemoryNetlink:
    """What waits is read in order; an error number is raised in the place of a datagram."""

    def __init__(self, *waiting: bytes | int) -> None:
        self.waiting = list(waiting)

    def recv(self, octets: int) -> bytes:
        del octets
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.pop(0)
        if isinstance(first, int):
            raise OSError(first, "error")
        return first

    def fileno(self) -> int:
        return 7
