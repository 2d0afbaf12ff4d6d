"""A loop outlives what goes wrong in one of its rounds, and says it once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.loops import AGAIN_S, Rounds
from tests.doubles.clock import FakeClock, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVERY_S = 0.1


class Site:
    """A loop with a round each EVERY_S, which raises `wrong`; `began`: when each round did."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.rounds = Rounds("work", self.conditions, self.clock)
        self.wrong: Exception | None = None
        self.began: list[float] = []

    async def turn(self) -> None:
        await self.clock.sleep(EVERY_S)
        self.began.append(self.clock.now())
        if self.wrong is not None:
            raise self.wrong.with_traceback(None)


def lived(story: Callable[[Site], Awaitable[None]]) -> None:
    async def life() -> None:
        site = Site()
        task = asyncio.get_running_loop().create_task(site.rounds.run(site.turn))
        await story(site)
        assert not task.done()
        task.cancel()
        await settle()
        assert task.cancelled(), "it ends when it is told to"

    asyncio.run(life())


def refuse() -> None:
    raise IpsecDpError("no memory")


def test_a_fault_is_one_line_and_the_next_round_comes_a_second_later(caplog):
    async def story(site: Site) -> None:
        site.wrong = KeyError("ipsec0")
        await site.clock.advance(10 * (EVERY_S + AGAIN_S))
        assert len(site.began) == 10
        (text,) = site.conditions.texts
        assert text.startswith("work: KeyError: 'ipsec0'; that is a fault of ipsec-dp")
        site.wrong = None
        await site.clock.advance(EVERY_S + AGAIN_S)
        assert site.conditions.texts == []

    with caplog.at_level(logging.DEBUG):
        lived(story)
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert all(
        record.exc_info for record in caplog.records if record.name == "ipsec_dp.util.faults" and record.levelname == "DEBUG"
    ), "where it was, for who asks for it"


def test_a_refusal_that_comes_and_goes_is_no_flood(caplog):
    async def story(site: Site) -> None:
        for _ in range(100):
            with site.rounds.told():
                refuse()
            with site.rounds.told():
                assert site.conditions.texts == ["work: no memory"]
            assert site.conditions.texts == []
            await site.clock.advance(0.05)

    lived(story)
    assert [record.getMessage() for record in caplog.records] == ["work: no memory"]


def test_one_part_that_goes_well_says_nothing_of_another():
    async def story(site: Site) -> None:
        with site.rounds.told("one"):
            refuse()
        with site.rounds.told("other"):
            pass
        assert site.conditions.texts == ["work: no memory"]

    lived(story)
