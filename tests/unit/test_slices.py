"""Slices of work in the event loop's thread."""

from __future__ import annotations

import asyncio

from ipsec_dp.util.slices import in_slices, within_slice


def taken(slice_s):
    """How often something else had its turn while a thousand things were taken, and the things."""

    async def run():
        others = 0

        async def beat():
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        beating = asyncio.create_task(beat())
        got = [thing async for thing in in_slices(range(1000), slice_s)]
        beating.cancel()
        return others, got

    return asyncio.run(run())


def test_everything_else_has_its_turn_when_a_slice_is_used_up():
    others, got = taken(0.0)
    assert got == list(range(1000))
    assert others >= 999


def test_within_a_slice_nothing_is_interrupted():
    assert taken(60.0) == (0, list(range(1000)))


def test_what_is_begun_when_a_slice_is_used_up_is_the_last():
    things = iter(range(10))
    assert list(within_slice(things, 0.0)) == [0]
    assert list(within_slice(things, 60.0)) == list(range(1, 10)), "and what is left is not lost"
