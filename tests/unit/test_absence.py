"""A host that was suspended, a process that was stopped: it is noticed, told once, and the peers are asked."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from ipsec_dp.gateway.absence import GAP_S, Absence
from ipsec_dp.gateway.housekeeping import RESCAN_S, Housekeeping
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.util.clock import LOOK_S, SystemClock
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.unit.gateway_doubles import MemorySad

TOLD = "this host was suspended, or this process stopped"


def lived(life):
    """Runs `life` beside a housekeeping that looks; how often the peers were asked."""
    asked = list[float]()

    async def run():
        clock = FakeClock()
        absence = Absence(clock, Notices(clock, StrangersEvents()), lambda: asked.append(clock.now()))
        async with AsyncExitStack() as stack:
            Housekeeping(cast("Any", MemorySad()), lambda _: None, Conditions(clock), clock, (absence.look,)).start(stack)
            await life(clock)

    asyncio.run(run())
    return len(asked)


def test_time_that_only_passes_asks_nobody(caplog):
    assert lived(lambda clock: clock.advance(3600)) == 0
    assert TOLD not in caplog.text


def test_after_a_gap_the_peers_are_asked_at_once_and_once(caplog):
    async def life(clock):
        await clock.advance(10)
        await clock.leap(3600)
        await clock.advance(60)

    assert lived(life) == 1
    assert caplog.text.count(TOLD) == 1
    assert [record.levelno for record in caplog.records if TOLD in record.message] == [logging.WARNING]
    assert "for 360" in caplog.text


def test_a_busy_moment_is_no_gap():
    assert lived(lambda clock: clock.leap(GAP_S - RESCAN_S - 0.1)) == 0


def test_a_clock_that_jumps_all_the_time_fills_no_log(caplog):
    async def life(clock):
        for _ in range(20):
            await clock.leap(GAP_S + 2)
        assert clock.next_event is not None, "it goes on, one look at a time"

    assert lived(life) == 20
    assert caplog.text.count(TOLD) < 20


# ---- the machine's clock


@pytest.fixture
def suspended(monkeypatch):
    """Call it to have the host asleep for so many seconds: CLOCK_BOOTTIME goes on, the event loop's clock does not."""
    asleep, real = [0.0], time.clock_gettime

    def clock_gettime(which: int) -> float:
        return real(which) + (asleep[0] if which == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)

    def sleep(seconds: float) -> None:
        asleep[0] += seconds

    return sleep


def test_what_fell_due_asleep_comes_at_once(suspended):
    async def run() -> None:
        clock, came = SystemClock(), asyncio.Event()
        seen = list[str]()
        before = clock.now()
        clock.call_at(before + 1800, came.set)
        clock.call_at(before + 9000, seen.append, "too early")
        clock.call_at(before + 1000, seen.append, "cancelled").cancel()
        sleeper = asyncio.create_task(clock.sleep(3000))
        await asyncio.sleep(0)
        suspended(3600)
        await asyncio.wait_for(came.wait(), LOOK_S + 5)
        await asyncio.wait_for(sleeper, 5)
        assert 3600 <= clock.now() - before < 3600 + LOOK_S + 5
        assert seen == []

    asyncio.run(run())


def test_whoever_asks_for_a_call_notices_too(suspended):
    """The ticks of a gateway come four times a second, and so nothing waits for the look."""

    async def run() -> None:
        clock, came = SystemClock(), asyncio.Event()
        clock.call_at(clock.now() + 1800, came.set)
        suspended(3600)
        clock.call_at(clock.now() + 60, lambda: None).cancel()
        await asyncio.wait_for(came.wait(), LOOK_S / 2)

    asyncio.run(run())


def test_one_clock_serves_one_loop_after_the_other(suspended):
    clock = SystemClock()

    async def run() -> None:
        clock.call_at(clock.now() + 3600, lambda: None)
        await clock.sleep(0.01)

    asyncio.run(run())
    suspended(7200)
    asyncio.run(run())
