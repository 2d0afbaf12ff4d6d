"""What has to be done without anybody asking: conditions whose report was lost, the memory of SAs that were removed, a look each
second at what tells nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AsyncExitStack

    from ipsec_dp.databases.sad import Event, Sad
    from ipsec_dp.util.clock import Clock

RESCAN_S = 1.0
RECLAIM_S = 0.01  # while a removed SA waits for a loop to let go of it


class Housekeeping:
    """Of one SAD. `handle` gets the conditions that were found; `looks` are called each second."""

    def __init__(self, sad: Sad, handle: Callable[[Event], None], clock: Clock, looks: Sequence[Callable[[], None]] = ()) -> None:
        self._sad, self._handle, self._clock, self._looks = sad, handle, clock, looks

    def start(self, stack: AsyncExitStack) -> None:
        """Goes on until the stack is left."""
        task = asyncio.get_running_loop().create_task(self._run())
        stack.callback(task.cancel)

    async def _run(self) -> None:
        looked = -RESCAN_S
        while True:
            if self._clock.now() - looked >= RESCAN_S:
                looked = self._clock.now()
                for look in self._looks:
                    look()
            for event in self._sad.rescan():
                self._handle(event)
            await self._clock.sleep(RECLAIM_S if self._sad.reclaim() else RESCAN_S)
