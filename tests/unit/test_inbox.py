"""Messages of strangers have their turn, as time and room allow; those of peers are handled as they come."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.keying.inbox import Inbox
from ipsec_dp.util.slices import SLICE_S


class Handled(list[str]):
    """What was handled, each of it for a whole slice of time, or at once."""

    def __init__(self, seconds: float = SLICE_S) -> None:
        super().__init__()
        self.seconds = seconds
        self.inbox = Inbox[str](self.handle)

    def handle(self, message: str) -> None:
        self.append(message)
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            pass

    async def turns(self, count: int) -> list[int]:
        """How many are handled after each turn of the event loop, until so many are."""
        found = [len(self)]
        while len(self) < count:
            await asyncio.sleep(0)
            found.append(len(self))
        return found


def run(life):
    asyncio.run(asyncio.wait_for(life, 10))


def test_everything_else_has_its_turn_between_two_messages_that_take_time():
    async def life():
        handled = Handled()
        for number in range(5):
            handled.inbox.put(str(number), ours=False)
        assert handled == ["0"], "the first at once"
        turns = await handled.turns(5)
        assert {after - before for before, after in pairwise(turns)} <= {0, 1}
        assert handled == ["0", "1", "2", "3", "4"]

    run(life())


def test_peers_do_not_wait_behind_strangers():
    async def life():
        handled = Handled()
        for number in range(3):
            handled.inbox.put(str(number), ours=False)
        handled.inbox.put("a peer's", ours=True)
        assert handled == ["0", "a peer's"]
        await handled.turns(4)

    run(life())


def test_what_finds_no_room_is_gone():
    async def life():
        handled = Handled(0.0)
        for number in range(3 * LIMITS.waiting):
            handled.inbox.put(str(number), ours=False)
        await handled.turns(1 + LIMITS.waiting)
        await asyncio.sleep(0)
        assert handled == [str(number) for number in range(1 + LIMITS.waiting)]
        handled.inbox.put("later", ours=False)
        await handled.turns(2 + LIMITS.waiting)

    run(life())


@pytest.mark.parametrize("ours", [True, False])
def test_in_a_turn_of_its_own_each_is_handled_at_once(ours):
    async def life():
        handled = Handled()
        for number in range(3):
            handled.inbox.put(str(number), ours=ours)
            assert len(handled) == number + 1
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    run(life())


def test_after_the_end_nothing_is_handled():
    async def life():
        handled = Handled(0.0)
        for number in range(3):
            handled.inbox.put(str(number), ours=False)
        handled.inbox.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert handled == ["0"]

    run(life())
