"""What has to be done without anybody asking: conditions whose report was lost, the memory of SAs that were removed, a look each
second at what tells nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AsyncExitStack

    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_events import Event
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

RESCAN_S = 1.0
RECLAIM_S = 0.01  # while a removed SA waits for a loop to let go of it


class Housekeeping:
    """Of one SAD. `handle` gets the conditions that were found; `looks` are called each second. What breaks off one of them is in
    `conditions`, and the others go on."""

    def __init__(
        self,
        sad: Sad,
        handle: Callable[[Event], None],
        conditions: Conditions,
        clock: Clock,
        looks: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._sad, self._handle, self._clock, self._looks = sad, handle, clock, looks
        self._rounds = Rounds("housekeeping", conditions, clock)
        self._looked = -RESCAN_S

    def start(self, stack: AsyncExitStack) -> None:
        """Goes on until the stack is left."""
        task = asyncio.get_running_loop().create_task(self._rounds.run(self._turn))
        stack.callback(task.cancel)

    async def _turn(self) -> None:
        if self._clock.now() - self._looked >= RESCAN_S:
            self._looked = self._clock.now()
            for number, look in enumerate(self._looks):
                with self._rounds.told(f"look {number}"):
                    look()
        async for event in in_slices(tuple(self._sad.rescan())):
            with self._rounds.told("event"):
                self._handle(event)
        await self._clock.pause(RECLAIM_S if self._sad.reclaim() else RESCAN_S)
