"""What is wrong at the moment: logged when it begins, listed while it lasts, quiet when it flutters."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ipsec_dp.util.conditions import QUIET_S, Conditions
from tests.doubles.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def conditions(clock):
    return Conditions(clock)


def logged(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_condition_is_told_once_and_listed_until_it_ends(conditions, caplog):
    for _ in range(3):
        conditions.begin("rules", "foreign 100", "rule 100 comes first")
    assert logged(caplog) == ["rule 100 comes first"]
    assert conditions.texts == ["rule 100 comes first"]
    conditions.end("rules", "foreign 100")
    conditions.end("rules", "foreign 100")
    assert conditions.texts == []


def test_what_comes_and_goes_is_logged_again_only_after_a_while(conditions, clock, caplog):
    for _ in range(100):
        conditions.begin("a", "k", "broken")
        conditions.end("a", "k")
    assert logged(caplog) == ["broken"]
    asyncio.run(clock.advance(QUIET_S))
    conditions.begin("a", "k", "broken")
    assert logged(caplog) == ["broken", "broken"]


def test_another_text_is_news(conditions, caplog):
    conditions.begin("a", "k", "one gone")
    conditions.begin("a", "k", "two gone")
    assert logged(caplog) == ["one gone", "two gone"]
    assert conditions.texts == ["two gone"]


def test_become_ends_what_its_source_sees_no_longer_and_nothing_of_others(conditions):
    conditions.begin("other", "x", "stays")
    conditions.become("mine", {"a": "first", "b": "second"})
    conditions.become("mine", {"b": "second"})
    assert conditions.texts == ["stays", "second"]
