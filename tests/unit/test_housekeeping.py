"""Housekeeping: lost conditions are found each second, removed SAs are wiped soon."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from ipsec_dp.gateway.housekeeping import RECLAIM_S, RESCAN_S, Housekeeping
from tests.doubles.clock import FakeClock, settle
from tests.unit.gateway_doubles import MemorySad


def kept(sad, rounds):
    """What was handled in so many rounds, and how long each lasted, in seconds."""

    async def run():
        clock, handled, lasted = FakeClock(), list[Any](), []
        async with AsyncExitStack() as stack:
            Housekeeping(cast("Any", sad), handled.append, clock).start(stack)
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
