"""The last dropped packets: from the data plane to what `status` says and what is logged when a reason begins."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import Any, cast

import pytest

from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import DROP_SENTENCES, MemoryDatagram
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.drop_examples import AGAIN_S, LOOK_S, OVER_S, SHOWN_MOST, DropExamples, DropWatch
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import pair
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.unit.gateway_doubles import config_of

OUTER = "192.0.2.1"


class Site:
    """The rig's gateway a, whose tunnel 0 is called "by-hand" and its interface "ipsec0", looked at by the clock of a test."""

    def __init__(self, rig: Any, directory: Any) -> None:
        self.rig, self.clock = rig, FakeClock()
        self.began: list[str] = []
        config = config_of(directory)
        self.unreachable = False
        self.examples = DropExamples(
            config, plane=rig.a.plane, spd=Spd(config), own_addresses=self._own, state=lambda _: "down", clock=self.clock
        )
        notices = Notices(self.clock, StrangersEvents())
        self.events: list[tuple[str, int, str]] = []
        self.watch = DropWatch(
            rig.a.plane,
            self.examples,
            notices,
            self.began.append,
            Conditions(self.clock),
            self.clock,
            lambda *event: self.events.append(event),
        )

    async def _own(self) -> Any:
        if self.unreachable:
            raise IpsecDpError("rtnetlink is closed")
        return [ip_address(OUTER)]

    def send(self, *packets: bytes) -> None:
        """Out of the TUN of gateway a, at the clock's time."""
        for each in packets:
            self.rig.a.plane.push_tun(0, each)
        self.rig.a.plane.step_outbound(self.clock.ns)

    def told(self, *reasons: str) -> Any:
        return asyncio.run(self.examples.of(reasons))


@pytest.fixture
def site(tmp_path):
    with pair() as rig:
        yield Site(rig, tmp_path)


def test_a_packet_is_shown_with_where_it_was_when_and_why(site):
    site.send(udp(OUTER, "10.2.0.2", b"secret", ports=(5555, 53)))
    asyncio.run(site.clock.advance(12))
    ((example,),) = site.told("policy_none", "no_sa").values()
    assert example.text == "udp 192.0.2.1:5555 -> 10.2.0.2:53, ipsec0"
    assert (example.direction, example.source, example.destination, example.protocol) == ("out", OUTER, "10.2.0.2", "udp")
    assert (example.source_port, example.destination_port, example.interface) == (5555, 53, "ipsec0")
    assert (example.tunnel, example.spi, example.outer, example.icmp_type) == (None, None, False, None)
    assert (example.ago_s, example.at) == (12.0, "2026-01-01T00:00:00+00:00")
    assert "this host's own address" in example.cause
    assert "secret" not in repr(example)


def test_a_datagram_is_shown_by_its_outside(site):
    link, endpoints = site.rig.a.link, (site.rig.a.endpoint, site.rig.b.endpoint)
    site.rig.a.plane.push_link(link, MemoryDatagram(bytes.fromhex("c0ffee01") + bytes(40), *endpoints))
    site.rig.a.plane.step_inbound(site.clock.ns)
    ((example,),) = site.told("unknown_spi").values()
    assert example.outer
    assert example.spi == "0xc0ffee01"
    assert example.text.endswith(", SPI 0xc0ffee01")
    assert (example.source, example.direction) == ("192.0.2.2", "in")


def test_they_are_few_the_newest_first_and_a_stream_is_one(site):
    for host in range(2, 9):
        site.send(udp(OUTER, f"10.2.0.{host}"), udp(OUTER, f"10.2.0.{host}"))
        asyncio.run(site.clock.advance(1))
    (examples,) = site.told("policy_none").values()
    assert [example.destination for example in examples] == [f"10.2.0.{host}" for host in (8, 7, 6, 5)]
    assert len(examples) == SHOWN_MOST


def test_reasons_without_an_example_are_left_out_and_no_address_is_no_error(site):
    assert site.told(*DROP_SENTENCES) == {}
    site.unreachable = True
    site.send(udp(OUTER, "10.2.0.2"))
    ((example,),) = site.told(*DROP_SENTENCES).values()
    assert "masquerades" not in example.cause


def test_no_such_reason(site):
    with pytest.raises(ValueError, match="nonsense"):
        site.rig.a.plane.drop_examples("nonsense")


# ---- the log -------------------------------------------------------------------------------------------------------------------


def looked(site, *packets: bytes, after: float = LOOK_S):
    site.send(*packets)
    asyncio.run(site.clock.advance(after))
    asyncio.run(site.watch.look())


LOST = udp(OUTER, "10.2.0.2", ports=(5555, 53))


def test_a_reason_is_logged_when_it_begins_and_not_for_each_packet(site, caplog):
    caplog.set_level(logging.INFO, "ipsec_dp")
    looked(site)
    for _ in range(20):
        looked(site, LOST, LOST)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith("packets are dropped as policy_none (no policy or proxy ID holds the packet), 2 until now, e.g. ")
    assert "udp 192.0.2.1:5555 -> 10.2.0.2:53, ipsec0: 192.0.2.1 is this host's own address" in text
    assert site.began == ["policy_none"]
    assert site.events == [("policy_none", 2, text)]


@pytest.mark.parametrize(("pause", "lines"), [(OVER_S - 2 * LOOK_S, 1), (OVER_S, 2)])
def test_after_a_pause_it_begins_anew(site, caplog, pause, lines):
    looked(site, LOST)
    looked(site, after=pause)
    looked(site, LOST)
    assert len(caplog.records) == lines


def test_while_it_goes_on_it_is_said_again_once_in_a_while(site, caplog):
    for _ in range(int(2 * AGAIN_S / 30) + 1):
        looked(site, LOST, after=30)
    assert len(caplog.records) == 3


def test_what_strangers_cause_is_no_warning_and_what_is_told_elsewhere_is_not_told_twice(site, caplog):
    caplog.set_level(logging.INFO, "ipsec_dp")
    ends = site.rig.a.endpoint, site.rig.b.endpoint
    for data in (b"1", bytes.fromhex("c0ffee01") + bytes(40)):
        site.rig.a.plane.push_link(site.rig.a.link, MemoryDatagram(data, *ends))
    site.rig.a.plane.step_inbound(site.clock.ns)
    looked(site)
    assert site.rig.a.drops == {"runt": 1, "unknown_spi": 1}
    assert [(record.levelno, record.getMessage().split()[4]) for record in caplog.records] == [(logging.INFO, "runt")]


def test_it_looks_each_second_until_it_is_ended(site):
    async def life() -> None:
        async with AsyncExitStack() as stack:
            site.watch.start(stack)
            site.send(LOST)
            await site.clock.advance(LOOK_S)
            assert site.began == ["policy_none"]
        site.send(udp("10.1.0.2", "10.7.0.2"))
        await site.clock.advance(OVER_S)
        assert site.began == ["policy_none"]

    asyncio.run(life())


def test_another_configuration_judges_by_its_own_rules(site, tmp_path):
    site.send(udp(OUTER, "10.3.0.2"))
    config = config_of(tmp_path)
    site.examples.reconfigure(config)
    assert cast("Any", site.told("policy_none"))["policy_none"][0].cause
