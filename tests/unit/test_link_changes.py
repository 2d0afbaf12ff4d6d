"""Which interfaces changed, from octets: as rtnetlink reports them, a limited number at a time."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from ipsec_dp.host import changes
from ipsec_dp.host.changes import AT_ONCE
from ipsec_dp.host.link_changes import LinkChangesSocket
from ipsec_dp.host.requests import HEADER

NEWLINK, DELADDR, NEWROUTE = 16, 21, 24


def report(kind: int, index: int) -> bytes:
    """Of an interface with this number."""
    body = struct.pack("=BBHI8x", socket.AF_INET, 0, 0, index)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 1, 0) + body


class Reports:
    """A netlink socket with datagrams that wait; None: some were lost."""

    def __init__(self, *waiting: bytes | None) -> None:
        self.waiting = list(waiting)

    def recv(self, _octets: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        data = self.waiting.pop(0)
        if data is None:
            raise OSError(errno.ENOBUFS, "lost")
        return data


@pytest.fixture
def listening(monkeypatch):
    def listening(*waiting: bytes | None) -> tuple[Reports, LinkChangesSocket]:
        source: Any = Reports(*waiting)
        monkeypatch.setattr(changes, "open_reports", lambda *_: source)
        return source, LinkChangesSocket()

    return listening


def test_links_and_addresses_count_and_nothing_else(listening):
    _, made = listening(report(NEWLINK, 7) + report(DELADDR, 8), report(NEWROUTE, 9), report(NEWLINK, 10)[:-9])
    assert made.read() == {7, 8}
    assert made.read() == set()


def test_lost_ones_may_have_been_any(listening):
    _, made = listening(report(NEWLINK, 7), None, report(NEWLINK, 8))
    assert made.read() is None


def test_a_flood_is_read_in_parts(listening):
    source, made = listening(*[report(NEWLINK, index) for index in range(1, AT_ONCE + 3)])
    assert made.read() == set(range(1, AT_ONCE + 1))
    assert len(source.waiting) == 2, "the rest of the control plane has its turn first"
    assert made.read() == {AT_ONCE + 1, AT_ONCE + 2}
