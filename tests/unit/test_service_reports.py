"""What a service manager hears of a gateway that is up: its tunnels, and that it lives as long as it does."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from ipsec_dp.gateway.service_reports import BEATS, STATUS_S, STATUS_SHARE, ServiceReports
from ipsec_dp.host.service_manager import ServiceManager
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle

WATCHDOG_S = 30.0


class Manager(ServiceManager):
    """Notes what it is told, with the time."""

    asks = True

    def __init__(self, clock, watchdog_s):
        super().__init__(None, watchdog_s)
        self._clock, self.statuses, self.beats = clock, list[str](), list[float]()

    def status(self, text):
        self.statuses.append(text)

    def alive(self):
        self.beats.append(self._clock.now())


class Site:
    """A gateway with three tunnels and loops that pass, or do not."""

    def __init__(self, watchdog_s: float | None = WATCHDOG_S):
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.manager = Manager(self.clock, watchdog_s)
        self.reports = ServiceReports(self.manager, self, self.clock)
        self.up: int | None = 2
        self.passes, self.fails, self.takes_s = True, False, 0.0

    async def tunnels_up(self):
        if self.fails:
            raise KeyError("a tunnel that ends")
        await self.clock.sleep(self.takes_s)
        return None if self.up is None else (self.up, 3)

    def loops_pass(self):
        return self.passes


@pytest.fixture
def lived():
    def lived(story, watchdog_s: float | None = WATCHDOG_S):
        async def life():
            site = Site(watchdog_s)
            site.reports.lives()
            await settle()
            await story(site)
            site.reports.close()
            await settle()

        asyncio.run(life())

    return lived


def test_it_says_at_once_and_then_as_it_changes_how_many_tunnels_are_up(lived):
    async def story(site):
        assert site.manager.statuses == ["2 of 3 tunnels up"]
        site.up = 3
        await site.clock.advance(STATUS_S)
        assert site.manager.statuses[-1] == "3 of 3 tunnels up"

    lived(story)


def test_very_many_tunnels_are_counted_less_often(lived):
    """Whatever a count takes, the next one comes when that was a small share of the time."""

    async def story(site):
        site.takes_s = 0.5
        await site.clock.advance(STATUS_S)
        await site.clock.advance(0.5)
        told = len(site.manager.statuses)
        site.takes_s = 0.0
        await site.clock.advance(0.5 / STATUS_SHARE - 3 * STATUS_S)
        assert len(site.manager.statuses) == told
        await site.clock.advance(6 * STATUS_S)
        assert len(site.manager.statuses) > told

    lived(story)


def test_the_watchdog_hears_it_well_within_its_time(lived):
    async def story(site):
        await site.clock.advance(10 * WATCHDOG_S)
        beats = site.manager.beats
        assert max(later - former for former, later in pairwise(beats)) <= WATCHDOG_S / BEATS

    lived(story)


def test_a_loop_that_hangs_silences_it_and_one_that_goes_on_does_not(lived):
    async def story(site):
        site.passes = False
        await site.clock.advance(STATUS_S)
        beats = len(site.manager.beats)
        await site.clock.advance(2 * WATCHDOG_S)
        assert len(site.manager.beats) == beats, "so the manager starts it anew"
        (text,) = site.conditions.texts
        assert "does not go on" in text
        site.passes = True
        await site.clock.advance(STATUS_S)
        assert len(site.manager.beats) > beats
        assert site.conditions.texts == []

    lived(story)


def test_a_step_after_an_upgrade_that_takes_too_long_silences_it(lived):
    """The event loop turns all the while; `seconds` are those that the step may take."""

    async def story(site):
        seconds = 2 * WATCHDOG_S
        site.reports.lives(seconds)
        await site.clock.advance(seconds)
        beats = len(site.manager.beats)
        assert beats >= 2 * BEATS, "it is heard while it lasts"
        await site.clock.advance(2 * WATCHDOG_S)
        assert len(site.manager.beats) == beats, "so the manager starts it anew"
        (text,) = site.conditions.texts
        assert "what comes after an upgrade does not go on" in text
        site.reports.lives()
        assert len(site.manager.beats) == beats + 1, "at once, whatever keeps the event loop"
        assert site.conditions.texts == []
        await site.clock.advance(10 * WATCHDOG_S)
        assert len(site.manager.beats) > beats + 10 * BEATS

    lived(story)


def test_nothing_is_said_of_tunnels_while_nobody_knows(lived):
    async def story(site):
        told, site.up = len(site.manager.statuses), None
        await site.clock.advance(10 * STATUS_S)
        assert len(site.manager.statuses) == told
        assert site.conditions.texts == []

    lived(story)


def test_a_count_that_fails_stops_no_beat(lived):
    async def story(site):
        site.fails = True
        beats = len(site.manager.beats)
        await site.clock.advance(WATCHDOG_S)
        assert len(site.manager.beats) >= beats + BEATS
        assert "reports to the service manager" in site.conditions.texts[0]

    lived(story)


def test_where_no_watchdog_waits_none_hears(lived):
    async def story(site):
        await site.clock.advance(WATCHDOG_S)
        assert site.manager.beats == []
        assert len(site.manager.statuses) > 1

    lived(story, None)
