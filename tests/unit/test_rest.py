"""A rest is a multiple of the work before it, and never long."""

from __future__ import annotations

import asyncio

import pytest

from ipsec_dp.util.rest import MOST_S, Rest
from tests.doubles.clock import FakeClock


@pytest.mark.parametrize(("worked", "rested"), [(0.0, 0.5), (0.05, 0.5), (1.0, 5.0), (8 * 3600.0, MOST_S)])
def test_it_is_as_long_as_the_work_was_and_the_limits_say(worked, rested):
    async def life() -> None:
        clock = FakeClock()
        rest = Rest(clock, 5.0, 0.5)
        assert rest.seconds == 0.5
        await clock.advance(3600)  # no work
        with rest.work():
            await clock.leap(worked)
        await clock.advance(3600)
        assert rest.seconds == pytest.approx(rested)

    asyncio.run(life())


def test_work_that_breaks_off_was_work():
    async def life() -> None:
        clock = FakeClock()
        rest = Rest(clock, 5.0)

        async def broken() -> None:
            with rest.work():
                await clock.leap(2.0)
                raise KeyError("x")

        with pytest.raises(KeyError):
            await broken()
        assert rest.seconds == pytest.approx(10.0)

    asyncio.run(life())
