"""The machine's clock: timers come by the time that `now` tells, sleeping lets others go first."""

from __future__ import annotations

import asyncio
from datetime import UTC

from ipsec_dp.util.clock import SystemClock


def test_a_call_comes_at_its_time_and_a_cancelled_one_never():
    async def run() -> None:
        clock, came = SystemClock(), asyncio.Event()
        seen: list[str] = []
        clock.call_at(clock.now() + 0.01, seen.append, "cancelled").cancel()
        due = clock.now() + 0.02
        clock.call_at(due, came.set)
        await asyncio.wait_for(came.wait(), 5)
        assert clock.now() >= due - 0.001  # the loop's timers are as fine as the kernel's clock
        assert seen == []

    asyncio.run(run())


def test_a_time_that_is_over_is_due_at_once():
    async def run() -> None:
        clock, came = SystemClock(), asyncio.Event()
        clock.call_at(clock.now() - 3600, came.set)
        await asyncio.wait_for(came.wait(), 5)

    asyncio.run(run())


def test_sleeping_lets_go_first_what_is_due():
    async def run() -> None:
        order: list[str] = []
        asyncio.get_running_loop().call_soon(order.append, "due")
        await SystemClock().sleep(0)
        order.append("slept")
        assert order == ["due", "slept"]

    asyncio.run(run())


def test_the_calendar_has_a_time_zone_and_random_octets_differ():
    clock = SystemClock()
    assert clock.utc().tzinfo is UTC
    assert len({clock.random(16) for _ in range(100)}) == 100
