"""What strangers and traffic cause is logged once in a while, and stays known as a tunnel's last error."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ipsec_dp.gateway.notices import QUIET_S, Notices
from ipsec_dp.ike.strangers import LIMITS, StrangersEvents
from ipsec_dp.util.told import told
from tests.doubles.clock import FakeClock
from tests.unit.gateway_doubles import config_of


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def notices(clock):
    return Notices(clock, StrangersEvents())


def lines(caplog):
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_notice_is_logged_at_its_level(notices, caplog):
    caplog.set_level(logging.INFO, "ipsec_dp")
    notices.add(logging.WARNING, "a link is down")
    notices.add(logging.INFO, "a stranger calls: 100 %s")
    assert lines(caplog) == [(logging.WARNING, "a link is down"), (logging.INFO, "a stranger calls: 100 %s")]


def test_the_same_text_is_logged_again_after_a_pause_only(notices, clock, caplog):
    for _ in range(3):
        notices.add(logging.WARNING, "a link is down")
        asyncio.run(clock.advance(QUIET_S / 4))
    assert len(lines(caplog)) == 1
    asyncio.run(clock.advance(QUIET_S / 4))
    notices.add(logging.WARNING, "a link is down")
    assert len(lines(caplog)) == 2


def test_texts_with_one_key_are_the_same_thing(notices, caplog):
    """A stranger who changes the SPI in each packet writes one line, not one for each."""
    for spi in range(10):
        notices.add(logging.WARNING, f"unknown SPI {spi}", key="unknown SPI from 192.0.2.9")
    assert lines(caplog) == [(logging.WARNING, "unknown SPI 0")]


def test_what_strangers_cause_is_one_budget_whatever_it_is_about(notices, clock, caplog):
    for second in range(3):
        for number in range(1000):
            notices.add_of_stranger(logging.WARNING, "a stranger calls", f"{second} {number}")
        asyncio.run(clock.advance(1))
    assert len(lines(caplog)) == 3 * LIMITS.events_at_once


def test_what_is_remembered_is_bounded(notices, caplog):
    for stranger in range(LIMITS.texts):
        notices.add(logging.DEBUG, "one of many", key=str(stranger))
    notices.add(logging.WARNING, "one more")
    notices.add(logging.WARNING, "still there", key="0")
    assert lines(caplog)[-1] == (logging.WARNING, "still there"), "all of it is forgotten when it is full"


def test_the_last_error_is_the_newest_even_when_it_is_not_logged_again(notices, clock):
    assert notices.last_error("up") is None
    notices.add(logging.WARNING, "first", tunnel="up")
    notices.add(logging.WARNING, "second", tunnel="up")
    asyncio.run(clock.advance(1))
    notices.add(logging.WARNING, "first", tunnel="up")
    assert notices.last_error("up") == ("first", clock.now())
    assert notices.last_error("waiting") is None


def test_a_tunnel_that_is_gone_has_no_error_any_more(notices, tmp_path):
    for name in ("up", "gone"):
        notices.add(logging.WARNING, "no way out", tunnel=name)
    notices.reconfigure(config_of(tmp_path))
    assert notices.last_error("gone") is None
    assert notices.last_error("up") is not None


def test_what_came_meanwhile_is_told_with_a_count_also_where_it_comes_no_more(notices, clock, caplog):
    for spi in range(10):
        notices.add(logging.WARNING, f"unknown SPI {spi}", told("unknown_spi"), key="unknown SPI")
    notices.look()
    assert len(lines(caplog)) == 1, "not yet"
    for _ in range(3):
        asyncio.run(clock.advance(QUIET_S))
        notices.look()
    assert lines(caplog)[1:] == [(logging.WARNING, "unknown SPI 9 (9 more in 10 s)")]
    assert [record.__dict__["event"] for record in caplog.records] == ["unknown_spi"] * 2


def test_what_comes_again_after_a_pause_says_how_often_it_came_in_it(notices, clock, caplog):
    for _ in range(4):
        notices.add(logging.WARNING, "a link is down")
    asyncio.run(clock.advance(QUIET_S))
    notices.add(logging.WARNING, "a link is down")
    assert lines(caplog)[1:] == [(logging.WARNING, "a link is down (3 more in 10 s)")]


def test_what_came_once_is_not_told_again(notices, clock, caplog):
    notices.add(logging.WARNING, "a link is down")
    asyncio.run(clock.advance(QUIET_S))
    notices.look()
    assert len(lines(caplog)) == 1
