"""A clock that stands still until a test moves it: what is to happen later happens when time gets there, in order and at once."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from ipsec_dp.rig.clock import EPOCH, NS_PER_S, RigTimer
from ipsec_dp.util.clock import sleep_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ipsec_dp.util.clock import Ts

ROUNDS = 40  # of the event loop, in which tasks that were woken do what they can without time


async def settle() -> None:
    """Lets every task run until it waits for time or for somebody outside."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


class FakeClock:
    """`ipsec_dp.util.clock.Clock`. Random octets are the same in each run with one `seed`."""

    def __init__(self, seconds: float = 1000.0, *, seed: str = "") -> None:
        self._now, self._began, self._seed = seconds, seconds, seed
        self._numbers = count()
        self._pending: list[tuple[float, int, RigTimer]] = []

    def now(self) -> float:
        return self._now

    @property
    def ns(self) -> int:
        """As the data plane takes it."""
        return round(self._now * NS_PER_S)

    def utc(self) -> datetime:
        return EPOCH + timedelta(seconds=self._now - self._began)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *arguments: *Ts) -> RigTimer:
        timer = RigTimer(callback, arguments)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.run)
        else:
            heapq.heappush(self._pending, (when, next(self._numbers), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        await sleep_on(self, seconds)

    async def pause(self, seconds: float, until: Callable[[], float] | None = None) -> None:
        del until
        await self.sleep(seconds)

    def skipped(self) -> float:
        return 0.0

    def random(self, octets: int) -> bytes:
        return hashlib.shake_256(f"{self._seed} {next(self._numbers)}".encode()).digest(octets)

    # ---- what a test does with it

    @property
    def next_event(self) -> float | None:
        """When something happens next; None: nothing is to come."""
        while self._pending and self._pending[0][2].cancelled:
            heapq.heappop(self._pending)
        return self._pending[0][0] if self._pending else None

    async def jump(self) -> float:
        """Moves to the next event and lets it happen; the time then. Raises ValueError when none is to come."""
        await settle()
        when = self.next_event
        if when is None:
            raise ValueError("nothing is to come, so time would stand still for ever")
        await self._run_until(when)
        return self._now

    async def advance(self, seconds: float) -> None:
        """Moves on by `seconds`, and lets everything happen on the way."""
        await settle()
        await self._run_until(self._now + seconds)

    async def leap(self, seconds: float) -> None:
        """Moves on by `seconds` at once, as a clock does while its host is suspended: what was due on the way is due now."""
        await settle()
        self._now += seconds
        await self._run_until(self._now)

    async def _run_until(self, end: float) -> None:
        while (when := self.next_event) is not None and when <= end:
            self._now = max(self._now, when)
            heapq.heappop(self._pending)[2].run()
            await settle()
        self._now = end
