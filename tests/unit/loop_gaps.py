"""How long an event loop is held by what runs in it, whatever else the machine does meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

NS_PER_S = 1e9


class Gaps:
    """Between two turns of the loop, in seconds, the longest last: without the time for which its thread waited for a processor."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def beside(self, work: Awaitable[object]) -> Gaps:
        """Until `work` is done."""
        done = asyncio.ensure_future(work)
        statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        try:
            began = _now(statistics)
            while not done.done():
                await asyncio.sleep(0)
                now = _now(statistics)
                self.seconds.append(now - began)
                began = now
        finally:
            os.close(statistics)
        await done
        self.seconds.sort()
        return self

    @property
    def longest(self) -> float:
        return self.seconds[-1]


def _now(statistics: int) -> float:
    """Without what the thread waited by then."""
    before = _waited_s(statistics)
    while True:
        now, waited = time.monotonic(), _waited_s(statistics)
        if waited == before:
            return now - waited
        before = waited


def _waited_s(statistics: int) -> float:
    """proc(5): time on a processor, time that waited for one, slices."""
    return int(os.pread(statistics, 128, 0).split()[1]) / NS_PER_S
