"""What strangers may cost: cookies for what they were made for, half-open IKE SAs up to the limits, few events."""

import re
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from ipsec_dp.ike.actions import Endpoint, Event, Kind, Origin, Report
from ipsec_dp.ike.strangers import (
    LIMITS,
    Allowance,
    Cookies,
    HalfOpenSas,
    HeldOctets,
    KeyExchanges,
    Limits,
    StrangersEvents,
)

ONE, OTHER = (ip_address(f"192.0.2.{number}") for number in (1, 2))
END = Endpoint(ONE, 500)
NONCE, SPI = b"n" * 32, b"i" * 8
NOW = 1000.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def made():
    return Cookies(Random(1).randbytes)


def test_a_cookie_is_good_from_any_port_of_its_address(made):
    cookie = made.make(NONCE, SPI, END, NOW)
    assert made.good(cookie, NONCE, SPI, END, NOW)
    assert made.good(cookie, NONCE, SPI, Endpoint(ONE, 4500), NOW)


@pytest.mark.parametrize(
    ("nonce", "spi", "address"), [(b"m" * 32, SPI, ONE), (NONCE, b"j" * 8, ONE), (NONCE, SPI, OTHER), (NONCE[:-1], b"n" + SPI, ONE)]
)
def test_and_for_nothing_else(made, nonce, spi, address):
    cookie = made.make(NONCE, SPI, END, NOW)
    assert not made.good(cookie, nonce, spi, Endpoint(address, 500), NOW)
    assert not made.good(cookie[:-1], NONCE, SPI, END, NOW)
    assert not made.good(b"", NONCE, SPI, END, NOW)


def test_it_ends_with_time_alone_whether_others_are_made_or_not(made):
    cookie = made.make(NONCE, SPI, END, NOW)
    assert made.good(cookie, NONCE, SPI, END, NOW + LIMITS.cookie_seconds)
    assert not made.good(cookie, NONCE, SPI, END, NOW + 2 * LIMITS.cookie_seconds)
    assert not made.good(cookie, NONCE, SPI, END, NOW - LIMITS.cookie_seconds), "nor is one from the future, should a clock jump"


def filled(count, start=0):
    half_open: HalfOpenSas[int] = HalfOpenSas()
    for number in range(start, start + count):
        assert half_open.add(number, ip_address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")) is None
    return half_open


def test_a_cookie_is_demanded_of_a_network_with_some_and_of_everybody_with_many():
    half_open: HalfOpenSas[int] = HalfOpenSas()
    for number in range(LIMITS.cookie_above_of_network):
        assert not half_open.needs_cookie(ONE, NOW)
        half_open.add(number, ONE)
    assert (half_open.needs_cookie(ONE, NOW), half_open.needs_cookie(OTHER, NOW)) == (True, False)
    assert filled(LIMITS.cookie_above).needs_cookie(OTHER, NOW)


def test_a_cookie_is_demanded_beyond_a_rate_whatever_becomes_of_the_requests():
    half_open: HalfOpenSas[int] = HalfOpenSas()
    asked = [half_open.needs_cookie(OTHER, NOW) for _ in range(int(LIMITS.cookie_above_rate) + 1)]
    assert asked == [False] * int(LIMITS.cookie_above_rate) + [True]
    assert not half_open.needs_cookie(OTHER, NOW + 1)


def test_who_has_64_bits_to_choose_from_is_one():
    half_open: HalfOpenSas[int] = HalfOpenSas()
    for number in range(LIMITS.cookie_above_of_network):
        half_open.add(number, ip_address(f"2001:db8::{number:x}"))
    assert half_open.needs_cookie(ip_address("2001:db8::ffff"), NOW)
    assert half_open.any_from(ip_address("2001:db8::1:0:0:1"))
    assert not half_open.needs_cookie(ip_address("2001:db8:0:1::1"), NOW)


def test_of_one_network_the_oldest_goes_for_the_newest():
    half_open = filled(3, start=90_000)
    for number in range(LIMITS.half_open_of_network):
        assert half_open.add(number, ONE) is None
    assert half_open.add(1000, ONE) == 0
    assert half_open.add(1001, OTHER) is None


def test_of_all_the_oldest_goes_for_the_newest_but_none_that_is_reserved():
    half_open = filled(LIMITS.half_open - 1, start=1)
    assert half_open.add(0, ONE, reserved=True) is None
    assert half_open.add(70_000, OTHER) is None
    assert half_open.add(70_001, OTHER) == 1, "not 0, which is reserved"
    half_open.discard(1)
    assert half_open.add(70_002, ONE, reserved=True) is None, "a configured peer finds room however many strangers there are"


def test_what_is_reserved_is_bounded_too():
    half_open: HalfOpenSas[int] = HalfOpenSas()
    for number in range(LIMITS.half_open_reserved):
        assert half_open.add(number, ip_address(f"10.0.{number >> 8}.{number & 255}"), reserved=True) is None
    assert half_open.add(5000, ONE, reserved=True) == 0


def test_what_is_authenticated_or_gone_counts_no_more():
    half_open: HalfOpenSas[str] = HalfOpenSas()
    half_open.add("sa", ONE)
    assert (list(half_open), len(half_open)) == (["sa"], 1)
    half_open.discard("sa")
    half_open.discard("sa")
    assert not half_open
    assert not half_open.any_from(ONE)


def test_what_is_kept_for_strangers_is_bounded_by_network_and_in_all():
    held, part = HeldOctets[str](), LIMITS.fragments_of_network // 4
    assert [held.hold(name, ONE, part) for name in "abcde"] == [True] * 4 + [False]
    assert held.hold("a", ONE, part // 2), "less than before"
    assert held.hold("e", ONE, part // 2)
    assert not held.hold("e", ONE, part // 2 + 1)
    assert len(held) == 4 * part
    for name in "abcde":
        held.discard(name)
        held.discard(name)
    assert len(held) == 0
    networks = LIMITS.fragments_in_all // LIMITS.fragments_of_network
    for number in range(networks):
        assert held.hold(str(number), ip_address(f"10.0.0.{number}"), LIMITS.fragments_of_network)
    assert not held.hold("another", OTHER, 1)
    assert held.hold("0", OTHER, 1), "it came from elsewhere: one place is enough"
    assert held.hold("another", OTHER, 1)


def test_an_allowance_fills_with_time_up_to_one_second():
    allowance = Allowance(4.0)
    assert [allowance.take(NOW) for _ in range(5)] == [True] * 4 + [False]
    assert [allowance.take(NOW + 0.5) for _ in range(3)] == [True, True, False]
    assert [allowance.take(NOW - 100.0), allowance.take(NOW - 99.0)] == [False, True], "a clock that jumps back gives nothing away"
    assert [allowance.take(NOW + 9999.0) for _ in range(5)] == [True] * 4 + [False]


def test_key_exchanges_for_whoever_asks_are_few_in_all_and_of_one_network():
    exchanges, of_one = KeyExchanges(), int(LIMITS.aggressive_of_network_a_second)
    assert [exchanges.take(ONE, NOW) for _ in range(of_one + 1)] == [True] * of_one + [False]
    others = [exchanges.take(ip_address(f"198.51.100.{number}"), NOW) for number in range(100)]
    assert sum(others) == LIMITS.aggressive_a_second - of_one
    assert [exchanges.take(ONE, NOW + 1.0) for _ in range(of_one + 1)] == [True] * of_one + [False]
    further = KeyExchanges(4.0, 2.0)
    assert [further.take(one, NOW) for one in (ONE, ONE, ONE, *map(ip_address, ["198.51.100.1"] * 2 + ["198.51.100.2"]))] == [
        *(True, True, False, True, True, False)
    ]


def test_events_are_few_about_the_same_and_few_in_all():
    events = StrangersEvents()
    assert [events.may_tell("a", NOW + second) for second in (0.0, 1.0, LIMITS.event_seconds)] == [True, False, True]
    assert sum(events.may_tell(number, NOW + 30.0) for number in range(1000)) == LIMITS.events_at_once


def test_of_everything_that_strangers_cause_no_second_tells_more_than_ten():
    """Whatever comes, from peers' addresses and from others, at every hundredth of a second."""
    events, told = StrangersEvents(), []
    for hundredth in range(1000):
        now = NOW + hundredth / 100
        told += [now for origin in (Origin.STRANGER, Origin.CLAIMED) if events.may_tell((hundredth, origin), now, origin=origin)]
    worst = max(sum(1 for at in told if since <= at < since + 1.0) for since in told)
    assert 2 * LIMITS.events_at_once < worst <= 10
    assert len(told) == pytest.approx(10.0 * 2 * LIMITS.events_a_second, abs=2 * LIMITS.events_at_once)


def test_what_strangers_use_up_is_theirs_alone():
    """By every kind of event: those of peers that have proven themselves, and of IKE SAs that we began, all are told."""
    events = StrangersEvents()

    def told(origin, tunnel="t"):
        reports = [Report(Event(kind, tunnel, SPI, SPI, "", "text", origin=origin)) for kind in Kind]
        return [one.event.kind for one in events.allowed(reports, NOW) if isinstance(one, Report)]

    assert len(told(Origin.STRANGER)) == LIMITS.events_at_once
    assert told(Origin.STRANGER) == []
    assert len(told(Origin.CLAIMED)) == LIMITS.events_at_once
    assert told(Origin.CLAIMED, "other") == []
    for _ in range(3):
        assert told(Origin.PEER) == told(Origin.OURS) == list(Kind)


def test_the_table_of_the_document_is_that_of_the_limits():
    text = (ROOT / "docs/security.md").read_text().partition("## What a stranger may cost")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE)
    assert {name: float(value) for name, value in rows} == {name: float(getattr(LIMITS, name)) for name in Limits.__slots__}
