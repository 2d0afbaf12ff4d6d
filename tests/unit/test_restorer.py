"""What is gone is made again at once, however often; what cannot be made is tried for ever, and both are told without a flood."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.network.restorer import AGAIN_MOST_S, MERGE_S, QUIET_S, TOLD_S, Restorer
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle


class Part:
    """A table in memory, and the times at which it was made."""

    name, what, usual, how = "guard", "the guard", "a restart does that", "was not as it was made"

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.there = True
        self.refuses = ""
        self.takes_s = 0.0
        self.tried: list[float] = []

    async def is_whole(self, *, cheaply: bool = True) -> bool:
        del cheaply
        return self.there

    async def restore(self) -> bool:
        self.tried.append(self._clock.now())
        await self._clock.sleep(self.takes_s)
        if self.refuses:
            raise HostError(self.refuses)
        missing, self.there = not self.there, True
        return missing


class Site:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.part = Part(self.clock)
        self.restorer = Restorer(self.part, self.conditions, self.clock)

    async def take_away(self, how: str = "was deleted by nft") -> None:
        self.part.there = False
        self.restorer.lose(how, self.part.usual)
        await settle()


@asynccontextmanager
async def running():
    site = Site()
    task = asyncio.get_running_loop().create_task(site.restorer.run())
    yield site
    assert not task.done(), "it never ends by itself"
    task.cancel()


def lived(story) -> Site:
    async def life() -> Site:
        async with running() as site:
            await story(site)
        return site

    return asyncio.run(life())


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_it_is_made_again_without_any_pause(caplog):
    async def story(site):
        await site.take_away()
        assert (site.part.there, site.restorer.restored) == (True, 1)
        assert site.part.tried == [site.clock.now()]

    lived(story)
    assert warnings(caplog) == ["the guard: was deleted by nft, and made again at once; a restart does that"]


def test_what_goes_again_is_merged_within_ten_milliseconds_and_never_waits_longer():
    async def story(site):
        for _ in range(200):
            await site.take_away()
            await site.clock.advance(MERGE_S / 10)
        gaps = [later - earlier for earlier, later in zip(site.part.tried, site.part.tried[1:], strict=False)]
        assert len(gaps) > 10
        assert max(gaps) <= MERGE_S + 1e-6
        assert MERGE_S <= 0.010

    lived(story)


def test_a_fight_is_told_once_and_then_now_and_then(caplog):
    async def story(site):
        for number in range(300):
            await site.take_away(f"was deleted by {number}")
            await site.clock.advance(0.1)
        assert site.restorer.restored == 300
        assert len(site.conditions.texts) == 1, "while it lasts"
        told = len(warnings(caplog))
        assert 2 <= told <= 1 + 30 / QUIET_S
        await site.clock.advance(TOLD_S + QUIET_S)
        assert site.conditions.texts == []
        assert len(warnings(caplog)) <= told + 1
        await site.take_away()
        assert len(warnings(caplog)) >= told + 1, "a new one is told at once"

    lived(story)


def test_the_warning_lasts_a_minute_after_the_last_time():
    async def story(site):
        await site.take_away()
        await site.clock.advance(TOLD_S / 2)
        await site.take_away()
        await site.clock.advance(TOLD_S - 1)
        assert site.conditions.texts
        await site.clock.advance(2)
        assert site.conditions.texts == []
        assert site.clock.next_event is None or site.clock.next_event > site.clock.now()

    lived(story)


def test_a_nft_that_refuses_is_tried_ever_again_but_not_in_a_busy_loop(caplog):
    async def story(site):
        site.part.refuses = "nft: no"
        await site.take_away()
        (text,) = site.conditions.texts
        assert "cannot be made again: nft: no" in text
        await site.clock.advance(10 * AGAIN_MOST_S)
        assert len(site.part.tried) > 10, "without anybody's doing"
        site.part.tried.clear()
        for _ in range(600):
            await site.take_away()  # a fight meanwhile makes it no faster
            await site.clock.advance(0.1)
        assert 60 / AGAIN_MOST_S <= len(site.part.tried) <= 60 / AGAIN_MOST_S + 12
        site.part.refuses = ""
        await site.clock.advance(AGAIN_MOST_S)
        assert site.part.there
        assert not [text for text in site.conditions.texts if "cannot be made" in text]

    lived(story)
    assert len(warnings(caplog)) <= 2


def test_a_nft_that_hangs_is_waited_for_and_what_goes_meanwhile_is_made_after_it():
    async def story(site):
        site.part.takes_s = 5.0
        await site.take_away()
        await site.take_away()
        await site.clock.advance(5.0)
        await site.take_away()
        site.part.takes_s = 0.0
        await site.clock.advance(5.0 + MERGE_S)
        assert site.part.there

    lived(story)


def test_nothing_missing_is_nothing_to_tell(caplog):
    async def story(site):
        site.restorer.lose("were deleted")  # by ourselves, as it turns out
        await settle()
        assert site.restorer.restored == 0

    lived(story)
    assert warnings(caplog) == []


def test_a_look_that_finds_it_gone_makes_it(caplog):
    async def story(site):
        await site.restorer.check()
        await settle()
        assert site.part.tried == []
        site.part.there = False
        await site.restorer.check()
        await site.restorer.settled()
        assert site.part.there

    lived(story)
    assert warnings(caplog) == ["the guard: was not as it was made, and made again at once"]


def test_whoever_waits_hears_that_it_cannot_be_made():
    async def story(site):
        await site.restorer.settled()
        site.part.refuses, site.part.there = "nft: no", False
        await site.restorer.check()
        with pytest.raises(HostError, match="cannot be made again: nft: no"):
            await site.restorer.settled()

    lived(story)


def test_a_fault_of_ours_is_a_failed_attempt_and_not_the_last_one():
    async def story(site):
        restore = site.part.restore

        async def broken() -> bool:
            raise KeyError("chain")

        site.part.restore, site.part.there = broken, False
        await site.restorer.check()
        with pytest.raises(HostError, match=r"cannot be made again: .*KeyError: 'chain'; that is a fault of ipsec-dp"):
            await site.restorer.settled()
        site.part.restore = restore
        await site.clock.advance(AGAIN_MOST_S)
        assert site.part.there

    lived(story)


def test_whoever_waits_when_it_is_ended_hears_of_it():
    async def life() -> None:
        site = Site()
        task = asyncio.get_running_loop().create_task(site.restorer.run())
        site.part.takes_s = 3600.0
        await site.take_away()
        waiting = asyncio.get_running_loop().create_task(site.restorer.settled())
        await settle()
        task.cancel()
        await settle()
        with pytest.raises(HostError, match="the guard is kept no longer"):
            await waiting
        with pytest.raises(HostError, match="the guard is kept no longer"):
            await site.restorer.settled()

    asyncio.run(asyncio.wait_for(life(), 5))


def test_a_clock_that_jumps_makes_no_difference():
    async def story(site):
        await site.clock.advance(1e9)
        await site.take_away()
        assert site.part.there
        await site.clock.advance(1e9)
        await site.take_away()
        assert (site.part.there, site.restorer.restored) == (True, 2)

    lived(story)
