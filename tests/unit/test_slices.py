"""Slices of work in the event loop's thread."""

from __future__ import annotations

import asyncio
from collections import Counter

from ipsec_dp.util.slices import in_slices, turn, within_slice


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


async def in_turns(slice_s, count):
    """The turns of the loop in which each of so many takes a thing."""
    now = 0

    async def beat():
        nonlocal now
        while True:
            now += 1
            await asyncio.sleep(0)

    async def take():
        return [now async for _ in in_slices(range(20), slice_s)]

    beating = asyncio.create_task(beat())
    taken = await asyncio.gather(*(take() for _ in range(count)))
    beating.cancel()
    return [at for each in taken for at in each]


def test_of_many_whose_slices_are_used_up_one_goes_on_in_a_turn_of_the_loop():
    """Or others would wait for as many slices as there are."""
    taken = asyncio.run(in_turns(0.0, 30))
    assert len(taken) == 30 * 20
    assert max(Counter(taken).values()) == 1


def test_who_no_longer_waits_for_a_turn_takes_none_away():
    async def run():
        waiting = [asyncio.create_task(turn()) for _ in range(10)]
        await asyncio.sleep(0)
        for each in waiting[:9]:
            each.cancel()
        await asyncio.wait_for(waiting[9], 5)
        await asyncio.wait_for(turn(), 5)

    asyncio.run(run())


def test_several_loops_have_turns_of_their_own():
    for _ in range(2):
        asyncio.run(asyncio.wait_for(turn(), 5))


def test_what_is_begun_when_a_slice_is_used_up_is_the_last():
    things = iter(range(10))
    assert list(within_slice(things, 0.0)) == [0]
    assert list(within_slice(things, 60.0)) == list(range(1, 10)), "and what is left is not lost"
