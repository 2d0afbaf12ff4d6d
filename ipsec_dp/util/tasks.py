"""What is done beside the rest, and may be ended with its owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Tasks:
    """Those of one owner that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """From the next turn of the event loop on."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def done(self) -> None:
        """Those that are under way now have ended by themselves on return. What one of them raised is nobody's."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cancel(self) -> None:
        """Each ends where it waits; `end` is for whoever can wait until it has."""
        for task in self._tasks:
            task.cancel()

    async def end(self) -> None:
        """They are cancelled, and have ended on return. What one of them raised is nobody's."""
        self.cancel()
        await self.done()
