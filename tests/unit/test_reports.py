"""What the kernel reports: passed on while somebody listens, and a flood of ICMP does not hold up the rest."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import contextmanager
from typing import Any

import pytest

from ipsec_dp.host import HostError, too_big, vmgenid
from ipsec_dp.network import reports
from ipsec_dp.network.reports import MESSAGES_A_SECOND, PAUSE_S, IcmpSockets, KernelReports
from tests.doubles.clock import FakeClock, settle


class Icmp:
    """The kernel's end of both raw sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *refused: int) -> None:
        self.kernel: dict[int, socket.socket] = {}
        self._refused = refused
        monkeypatch.setattr(too_big, "open_socket", self._open)
        monkeypatch.setattr(too_big, "READERS", {4: self._read, 6: self._read})

    def _open(self, version: int) -> socket.socket:
        if version in self._refused:
            raise HostError(f"raw ICMP socket for IPv{version}: not permitted")
        self.kernel[version], ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        return ours

    def _read(self, message: bytes) -> Any:
        return None if message == b"of others" else message

    def send(self, version: int, message: bytes) -> None:
        self.kernel[version].send(message)


@contextmanager
def listening(heard: list[Any], clock: FakeClock):
    made = IcmpSockets(too_big.open_socket, too_big.READERS, heard.append, clock, "path MTUs are found by probes alone")
    yield made
    made.close()


def test_messages_of_both_versions_are_passed_on_if_they_quote_something_of_ours(monkeypatch):
    async def life() -> None:
        icmp = Icmp(monkeypatch)
        heard: list[Any] = []
        with listening(heard, FakeClock()):
            for version, message in ((4, b"4"), (4, b"of others"), (6, b"6")):
                icmp.send(version, message)
            await settle()
        assert sorted(heard) == [b"4", b"6"]

    asyncio.run(life())


def test_a_version_that_is_not_permitted_is_done_without(monkeypatch, caplog):
    async def life() -> None:
        icmp = Icmp(monkeypatch, 6)
        heard: list[Any] = []
        with caplog.at_level("INFO"), listening(heard, FakeClock()):
            icmp.send(4, b"4")
            await settle()
        assert heard == [b"4"]

    asyncio.run(life())
    assert "IPv6: not permitted: path MTUs are found by probes alone" in caplog.text


async def flood(icmp: Icmp, count: int) -> None:
    for number in range(count):
        icmp.send(4, str(number).encode())
        if number % 8 == 7:  # what a socket's queue holds
            await settle()
    await settle()


def test_a_flood_is_left_to_the_kernel_for_a_while(monkeypatch):
    async def life() -> None:
        icmp, clock = Icmp(monkeypatch), FakeClock()
        heard: list[Any] = []
        with listening(heard, clock):
            await flood(icmp, MESSAGES_A_SECOND + 1)
            assert len(heard) == MESSAGES_A_SECOND + 1
            icmp.send(4, b"later")
            await clock.advance(PAUSE_S / 2)
            assert heard[-1] != b"later"
            await clock.advance(PAUSE_S / 2)
            await settle()
            assert heard[-1] == b"later"

    asyncio.run(life())


def test_as_many_messages_over_more_time_are_no_flood(monkeypatch):
    async def life() -> None:
        icmp, clock = Icmp(monkeypatch), FakeClock()
        heard: list[Any] = []
        with listening(heard, clock):
            for _ in range(3):
                await flood(icmp, MESSAGES_A_SECOND)
                await clock.advance(PAUSE_S)
            assert len(heard) == 3 * MESSAGES_A_SECOND
            assert clock.next_event is None, "no pause is going on"

    asyncio.run(life())


def test_a_pause_ends_with_the_sockets(monkeypatch):
    async def life() -> None:
        icmp, clock = Icmp(monkeypatch), FakeClock()
        heard: list[Any] = []
        with listening(heard, clock):
            await flood(icmp, MESSAGES_A_SECOND + 1)
        await clock.advance(2 * PAUSE_S)  # would fail on a closed socket

    asyncio.run(life())


def test_where_the_kernel_has_no_uevents_the_rest_works(monkeypatch, caplog):
    def refused() -> socket.socket:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(vmgenid, "listen", refused)
    with caplog.at_level("INFO"):
        KernelReports(FakeClock()).machine_clones(lambda: None).close()
    assert "a cloned virtual machine goes unnoticed: Protocol not supported" in caplog.text


def test_a_change_of_the_network_is_told_if_it_is_one_for_us(monkeypatch):
    class Changes:
        """In place of the rtnetlink socket: reads one octet, b"!" is a change."""

        def __init__(self) -> None:
            self.kernel, self._ours = socket.socketpair()
            made.append(self)

        def fileno(self) -> int:
            return self._ours.fileno()

        def read(self, into: Any) -> None:
            into.links = self._ours.recv(1) == b"!"

        def close(self) -> None:
            self._ours.close()

    async def life() -> None:
        changed: list[bool] = []
        watch = KernelReports(FakeClock()).network_changes(lambda: changed.append(True))
        for octet, expected in ((b".", 0), (b"!", 1), (b".", 1)):
            made[0].kernel.send(octet)
            await settle()
            assert len(changed) == expected
        watch.close()
        made[0].kernel.close()

    made: list[Changes] = []
    monkeypatch.setattr(reports, "ChangesSocket", Changes)
    asyncio.run(life())


def test_interfaces_that_change_are_reported_by_their_number(monkeypatch):
    """Of rtnetlink's messages about links and addresses; None once some were lost."""

    async def life() -> None:
        kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        monkeypatch.setattr(socket, "socket", lambda *_: Bound(ours))
        heard: list[Any] = []
        reading = KernelReports(FakeClock()).interface_changes(heard.append)
        link = struct.pack("=IHHIIBxHiII", 32, 16, 0, 0, 0, 0, 1, 7, 0, 0)  # RTM_NEWLINK of interface 7
        address = struct.pack("=IHHII4BI", 24, 21, 0, 0, 0, socket.AF_INET, 30, 0, 0, 9)  # RTM_DELADDR of interface 9
        kernel.send(link + address)
        await settle()
        reading.close()
        kernel.close()
        assert heard == [{7, 9}]

    asyncio.run(life())


class Bound:
    """A socket pair's end that can be bound to netlink groups."""

    def __init__(self, ours: socket.socket) -> None:
        self.fileno, self.recv, self.close = ours.fileno, ours.recv, ours.close

    def bind(self, groups: Any) -> None:
        assert groups == (0, 0x111)
