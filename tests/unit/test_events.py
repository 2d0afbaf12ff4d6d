"""What the loops report, and who does what about it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from contextlib import AsyncExitStack
from ipaddress import ip_address
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.databases.sad_events import Acquire, DeviceFailure, IkeDatagram, OffloadLoss, SendRefusal, UnknownSpi
from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import Channel, Endpoint, Offload, SaCondition, SaFlag
from ipsec_dp.gateway.events import ACQUIRE_AGAIN_S, Events
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.strangers import LIMITS, StrangersEvents
from ipsec_dp.util.slices import SLICE_S
from tests.doubles.clock import FakeClock
from tests.unit.gateway_doubles import Calls, MemorySad, config_of, path_to, until

LINK = 3
UNUSED = Offload(0)


@pytest.fixture
def site(tmp_path):
    """Events of a gateway whose IKE answers as a test says: `knows` (SAs of its own), `makes` (whether it makes SAs on demand)."""
    made = SimpleNamespace(clock=FakeClock(), sad=MemorySad(), failures=[], refusals=[], knows={}, makes=True, paths={}, pipes={})
    made.spd = Spd(config_of(tmp_path))
    made.ike = Calls("ike", named=made.knows.get, acquire=lambda *_: made.makes, paths=lambda: made.paths)
    made.manual = SimpleNamespace(paths={"by-hand": path_to("192.0.2.2", LINK)})
    made.notices = Notices(made.clock, StrangersEvents())
    made.events = Events(
        spd=made.spd,
        plane=cast("Any", SimpleNamespace(punt_descriptor=lambda channel: made.pipes[channel][0])),
        sad=cast("Any", made.sad),
        manual=made.manual,
        ike=cast("Any", made.ike),
        notices=made.notices,
        device_failed=lambda *failure: made.failures.append(failure),
        refused=made.refusals.append,
        clock=made.clock,
    )
    return made


def condition(site, tunnel, flags):
    """Of the outbound SA of a new CHILD_SA."""
    number = site.spd.tunnel_numbers[tunnel]
    child = site.sad.add(number, 0x1001, 0x2001, peer=Endpoint(ip_address("198.51.100.7"), 4711))
    return SaCondition(child.outbound, number, 0x2001, flags)


def last_error(site, tunnel):
    found = site.notices.last_error(tunnel)
    return None if found is None else found.text


# ---- traffic without an SA -------------------------------------------------------------------------------------------------------


def test_nothing_is_asked_again_once_the_loops_are_no_longer_heard(site):
    async def life():
        for channel in Channel:
            site.pipes[channel] = os.pipe()
        async with AsyncExitStack() as stack:
            site.events.listen(stack)
            site.events.handle(Acquire(site.spd.tunnel_numbers["up"], 0, b"packet"))
            site.events.handle(Acquire(site.spd.tunnel_numbers["waiting"], 0, b"packet"))
            await site.clock.advance(ACQUIRE_AGAIN_S)
            assert len(site.sad.asked) == 2
            site.events.handle(Acquire(site.spd.tunnel_numbers["up"], 0, b"packet"))
        await site.clock.advance(ACQUIRE_AGAIN_S)
        for pair in site.pipes.values():
            for descriptor in pair:
                os.close(descriptor)

    asyncio.run(life())
    assert len(site.sad.asked) == 2


def test_a_packet_without_an_sa_goes_to_ike(site):
    site.events.handle(Acquire(site.spd.tunnel_numbers["up"], 0, b"packet"))
    assert site.ike.calls == [("ike.acquire", "up", b"packet")]
    assert last_error(site, "up") is None


def test_where_ike_makes_none_it_is_the_tunnels_last_error(site):
    site.makes = False
    site.events.handle(Acquire(site.spd.tunnel_numbers["up"], 0, b"packet"))
    assert last_error(site, "up") == 'tunnel "up": traffic, but no SA to carry it'


def test_the_next_packet_may_ask_after_a_while(site):
    async def story():
        number = site.spd.tunnel_numbers["up"]
        site.events.handle(Acquire(number, 0, b"packet"))
        await site.clock.advance(ACQUIRE_AGAIN_S - 0.01)
        assert site.sad.asked == []
        await site.clock.advance(0.01)
        assert site.sad.asked == [number]

    asyncio.run(story())


def test_a_tunnel_that_was_removed_meanwhile_asks_nobody(site):
    site.events.handle(Acquire(4711, 0, b"packet"))
    asyncio.run(site.clock.advance(ACQUIRE_AGAIN_S))
    assert (site.ike.calls, site.sad.asked) == ([], [])


# ---- conditions of SAs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "hard"),
    [
        (SaFlag.SOFT_LIMIT, False),
        (SaFlag.SEQUENCE_SOFT, False),
        (SaFlag.HARD_LIMIT, True),
        (SaFlag.SEQUENCE_EXHAUSTED, True),
        (SaFlag.SOFT_LIMIT | SaFlag.HARD_LIMIT, True),
        (SaFlag.HARD_LIMIT | SaFlag.PEER_MOVED, True),
    ],
)
def test_a_limit_of_an_sa_of_ikes_is_told_to_ike(site, flags, hard):
    reached = condition(site, "up", flags)
    site.knows[reached.handle] = ("up", 7)
    site.events.handle(reached)
    assert site.ike.calls[1:] == [("ike.limit", "up", 7, hard)]


def test_a_peer_that_moved_is_told_to_ike_with_its_address(site):
    moved = condition(site, "up", SaFlag.PEER_MOVED)
    site.knows[moved.handle] = ("up", 7)
    site.events.handle(moved)
    assert site.ike.calls[1:] == [("ike.peer_moved", "up", 7, act.Endpoint(ip_address("198.51.100.7"), 4711, 0))]
    assert site.sad.cleared == [(moved.handle, SaFlag.PEER_MOVED)], "it may be raised again"


def test_a_manual_sa_that_is_used_up_is_its_tunnels_last_error(site):
    site.events.handle(condition(site, "by-hand", SaFlag.HARD_LIMIT))
    assert "its octets or packets are used up" in (last_error(site, "by-hand") or "")


def test_a_manual_sa_whose_soft_limit_is_reached_is_a_warning_alone(site, caplog):
    site.events.handle(condition(site, "by-hand", SaFlag.SOFT_LIMIT | SaFlag.PEER_MOVED))
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]
    assert 'tunnel "by-hand": SA 0x00002001: its soft limit' in caplog.text
    assert last_error(site, "by-hand") is None
    assert [flags for _, flags in site.sad.cleared] == [SaFlag.PEER_MOVED]


# ---- datagrams of strangers ------------------------------------------------------------------------------------------------------


def test_an_ike_message_that_came_to_the_esp_port_goes_to_ike(site):
    datagram = IkeDatagram(LINK, None, None, b"message")
    site.events.handle(datagram)
    assert site.ike.calls == [("ike.datagram", datagram)]


def test_unknown_spis_of_one_stranger_are_one_line(site, caplog):
    caplog.set_level(logging.INFO, "ipsec_dp")
    stranger = Endpoint(ip_address("198.51.100.7"), 4500)
    for spi in (0x100, 0x101):
        site.events.handle(UnknownSpi(spi, None, stranger))
    site.events.handle(UnknownSpi(0x102, None, None))
    assert [record.getMessage() for record in caplog.records] == [
        "ESP from 198.51.100.7 for the unknown SPI 0x00000100",
        "ESP from somebody for the unknown SPI 0x00000102",
    ]


def test_a_flood_from_many_addresses_is_a_few_lines(site, caplog):
    """32,000 lines in eight seconds were written for forged ESP, each from another address."""
    caplog.set_level(logging.INFO, "ipsec_dp")
    for number in range(3000):
        site.events.handle(UnknownSpi(0x100, None, Endpoint(ip_address(0xC6120000 + number), 4500)))
    assert len(caplog.records) == LIMITS.events_at_once


# ---- devices ---------------------------------------------------------------------------------------------------------------------


def test_a_tun_device_that_fails_is_told_to_who_watches_devices(site):
    number = site.spd.interface_numbers["ipsec1"]
    site.events.handle(DeviceFailure(number, None, errno.EIO))
    assert site.failures == [("ipsec1", errno.EIO)]


def test_a_tun_device_that_a_reload_took_away_is_nobodys(site):
    site.events.handle(DeviceFailure(4711, None, errno.ENODEV))
    assert site.failures == []


def test_an_outer_socket_in_trouble_is_the_last_error_of_each_tunnel_that_sends_by_it(site):
    site.paths = {"up": path_to("192.0.2.3", LINK), "waiting": path_to("192.0.2.4", LINK + 1)}
    site.events.handle(DeviceFailure(None, LINK, errno.ENETDOWN))
    assert last_error(site, "by-hand") == 'tunnel "by-hand": outer socket of 192.0.2.1: Network is down'
    assert last_error(site, "up") == 'tunnel "up": outer socket of 192.0.2.1: Network is down'
    assert last_error(site, "waiting") is None
    assert site.failures == []


def test_an_outer_socket_that_no_tunnel_sends_by_is_logged(site, caplog):
    site.events.handle(DeviceFailure(None, LINK + 7, errno.ENETDOWN))
    assert f"outer socket {LINK + 7}: Network is down" in caplog.text


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({"interface": 0, "link": None}, "interface ipsec0: the kernel refused an offload, which is off now: Invalid argument"),
        (
            {"interface": None, "link": LINK},
            'tunnel "by-hand": outer socket of 192.0.2.1: the kernel refused an offload, which is off now: Invalid argument',
        ),
    ],
    ids=["TUN device", "outer socket"],
)
def test_an_offload_that_the_kernel_refused_is_logged(site, caplog, place, text):
    assert site.spd.interface_names[0] == "ipsec0"
    site.events.handle(OffloadLoss(**place, error=errno.EINVAL, on=UNUSED))
    assert text in caplog.text


def test_a_kernel_that_joins_wrongly_is_logged_as_such(site, caplog):
    site.events.handle(OffloadLoss(interface=None, link=LINK, error=errno.EBADMSG, on=UNUSED))
    assert "the kernel joined datagrams and did not say how long each is" in caplog.text


def test_a_packet_that_the_host_did_not_send_for_its_size_is_path_mtu_discoverys_business(site, caplog):
    refusal = SendRefusal(ip_address("192.0.2.1"), ip_address("192.0.2.2"), 1500)
    site.events.handle(refusal)
    assert (site.refusals, caplog.text) == ([refusal], "")


# ---- channels --------------------------------------------------------------------------------------------------------------------


def test_every_channel_is_read_until_the_stack_is_left(site):
    """One event comes by each channel; nobody reads after the end."""
    site.pipes = pipes = {channel: os.pipe() for channel in Channel}
    site.sad.events = lambda channel: [IkeDatagram(channel, None, None, os.read(pipes[channel][0], 1))]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            site.events.listen(stack)
            for _, write in pipes.values():
                os.write(write, b"x")
            await until(lambda: len(site.ike.calls) == len(pipes))
        assert not any(loop.remove_reader(read) for read, _ in pipes.values())

    try:
        asyncio.run(run())
    finally:
        for pipe in pipes.values():
            for end in pipe:
                os.close(end)
    assert {datagram.link for _, datagram in site.ike.calls} == set(Channel)


def test_events_that_take_time_leave_the_loop_to_others_after_each(site):
    """A stranger's messages wait at the channel meanwhile, and none is lost."""
    site.pipes = pipes = {channel: os.pipe() for channel in Channel}
    waiting = iter([IkeDatagram(number, None, None, b"message") for number in range(3)])
    handled: list[int] = []

    def handle(datagram: IkeDatagram) -> None:
        handled.append(datagram.link)
        ends = time.monotonic() + SLICE_S
        while time.monotonic() < ends:
            pass

    site.ike.datagram = handle
    site.sad.events = lambda channel: waiting if channel is Channel.STRANGER else iter(())

    async def run() -> list[int]:
        turns = [0]
        async with AsyncExitStack() as stack:
            site.events.listen(stack)
            os.write(pipes[Channel.STRANGER][1], b"x")
            while len(handled) < 3:
                await asyncio.sleep(0)
                turns.append(len(handled))
        return turns

    try:
        turns = asyncio.run(asyncio.wait_for(run(), 10))
    finally:
        for pipe in pipes.values():
            for end in pipe:
                os.close(end)
    assert handled == [0, 1, 2]
    assert {after - before for before, after in pairwise(turns)} <= {0, 1}
