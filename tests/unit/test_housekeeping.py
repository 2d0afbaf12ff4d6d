"""Housekeeping: lost conditions are found each second, removed SAs are wiped soon."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from ipsec_dp.gateway.housekeeping import RECLAIM_S, RESCAN_S, Housekeeping
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle
from tests.unit.gateway_doubles import MemorySad


def kept(sad, rounds):
    """What was handled in so many rounds, and how long each lasted, in seconds."""

    async def run():
        clock, handled, lasted = FakeClock(), list[Any](), []
        async with AsyncExitStack() as stack:
            Housekeeping(cast("Any", sad), handled.append, Conditions(clock), clock).start(stack)
            for _ in range(rounds):
                began = clock.now()
                lasted.append(await clock.jump() - began)
        await settle()
        assert clock.next_event is None, "it ends with the stack"
        return handled, lasted

    return asyncio.run(run())


def test_what_was_found_is_handled_once():
    sad = MemorySad()
    sad.conditions = ["a condition", "another"]
    handled, _ = kept(sad, 3)
    assert handled == ["a condition", "another"]


def test_while_an_sa_waits_to_be_wiped_it_looks_again_soon():
    sad = MemorySad()
    sad.waiting = 1
    assert kept(sad, 2)[1] == pytest.approx([RECLAIM_S, RECLAIM_S])
    sad.waiting = 0
    assert kept(sad, 2)[1] == pytest.approx([RESCAN_S, RESCAN_S])


def test_a_look_that_fails_keeps_nothing_else_from_being_done():
    async def run():
        clock, looked, handled = FakeClock(), list[float](), list[Any]()
        conditions, sad = Conditions(clock), MemorySad()

        def broken() -> None:
            raise KeyError("drop")

        def handle(event: Any) -> None:
            handled.append(event)
            raise KeyError(event)

        async with AsyncExitStack() as stack:
            looks = broken, lambda: looked.append(clock.now())
            Housekeeping(cast("Any", sad), handle, conditions, clock, looks).start(stack)
            await settle()
            sad.conditions = ["a condition", "another"]
            await clock.advance(2.5 * RESCAN_S)
            assert len(looked) == 3
            assert handled == ["a condition", "another"]
            assert any(text.startswith("housekeeping: KeyError: 'drop'") for text in conditions.texts)

    asyncio.run(run())
