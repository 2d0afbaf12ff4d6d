"""The clock of tests: what comes later comes in order, when a test lets time get there and not before."""

from __future__ import annotations

import asyncio

import pytest

from tests.doubles.clock import FakeClock


def test_calls_come_in_order_and_see_their_own_time():
    async def life() -> list[tuple[str, float]]:
        clock = FakeClock(100.0)
        seen: list[tuple[str, float]] = []

        def call(name: str) -> None:
            seen.append((name, clock.now()))

        for name, when in (("late", 103.0), ("soon", 101.0), ("same", 101.0), ("never", 102.0)):
            timer = clock.call_at(when, call, name)
            if name == "never":
                timer.cancel()
        await clock.advance(2.5)
        assert clock.now() == 102.5
        assert await clock.jump() == 103.0
        with pytest.raises(ValueError, match="nothing is to come"):
            await clock.jump()
        return seen

    assert asyncio.run(life()) == [("soon", 101.0), ("same", 101.0), ("late", 103.0)]


def test_a_task_that_sleeps_wakes_as_often_as_its_time_comes():
    async def life() -> None:
        clock, woken = FakeClock(100.0), []

        async def tick() -> None:
            while True:
                await clock.sleep(10)
                woken.append(clock.now())

        task = asyncio.create_task(tick())
        await clock.advance(35)
        assert woken == [110.0, 120.0, 130.0]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert clock.next_event is None, "what nobody waits for is no event"

    asyncio.run(life())


def test_the_calendar_goes_along_and_chance_repeats_by_its_seed():
    async def life() -> None:
        clock = FakeClock()
        before = clock.utc()
        await clock.advance(3600)
        assert (clock.utc() - before).total_seconds() == 3600

    asyncio.run(life())
    one, same, other = FakeClock(seed="1"), FakeClock(seed="1"), FakeClock(seed="2")
    assert [one.random(8), one.random(8)] == [same.random(8), same.random(8)]
    assert one.random(8) != other.random(8)
