"""What has to be done without anybody asking: conditions whose report was lost, and the memory of SAs that were removed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from ipsec_dp.databases.sad import Event, Sad
    from ipsec_dp.util.clock import Clock

RESCAN_S = 1.0
RECLAIM_S = 0.01  # while a removed SA waits for a loop to let go of it


class Housekeeping:
    """Of one SAD. `handle` gets the conditions that were found."""

    def __init__(self, sad: Sad, handle: Callable[[Event], None], clock: Clock) -> None:
        self._sad, self._handle, self._clock = sad, handle, clock

    def start(self, stack: AsyncExitStack) -> None:
        """Goes on until the stack is left."""
        task = asyncio.get_running_loop().create_task(self._run())
        stack.callback(task.cancel)

    async def _run(self) -> None:
        while True:
            for event in self._sad.rescan():
                self._handle(event)
            await self._clock.sleep(RECLAIM_S if self._sad.reclaim() else RESCAN_S)
