"""Housekeeping: lost conditions are found each second, removed SAs are wiped soon."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, cast

from ipsec_dp.gateway.housekeeping import RECLAIM_S, RESCAN_S, Housekeeping
from tests.unit.gateway_doubles import ManualClock, MemorySad, until


def kept(sad, rounds):
    """What was handled and slept in so many rounds."""

    async def run():
        clock, handled = ManualClock(), list[Any]()
        async with AsyncExitStack() as stack:
            Housekeeping(cast("Any", sad), handled.append, clock).start(stack)
            await until(lambda: len(clock.slept) >= rounds)
        ended = len(clock.slept)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(clock.slept) == ended, "it ends with the stack"
        return handled, clock.slept[:rounds]

    return asyncio.run(run())


def test_what_was_found_is_handled_once():
    sad = MemorySad()
    sad.conditions = ["a condition", "another"]
    handled, _ = kept(sad, 3)
    assert handled == ["a condition", "another"]


def test_while_an_sa_waits_to_be_wiped_it_looks_again_soon():
    sad = MemorySad()
    sad.waiting = 1
    assert kept(sad, 2)[1] == [RECLAIM_S, RECLAIM_S]
    sad.waiting = 0
    assert kept(sad, 2)[1] == [RESCAN_S, RESCAN_S]
