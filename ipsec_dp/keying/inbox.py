"""In which order IKE messages are looked at: those of IKE SAs that are ours at once, strangers' in turn, as time and room allow.

So a flood of messages that take milliseconds each keeps neither the rest of the control plane nor what peers send waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.slices import within_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Inbox(Generic[T]):
    """Hands messages on to `handle`, which is not called by itself from within."""

    def __init__(self, handle: Callable[[T], None]) -> None:
        self._handle = handle
        self._waiting: deque[T] = deque()
        self._begun = False  # strangers have had something of this turn of the event loop

    def put(self, message: T, *, ours: bool) -> None:
        """One that has come. Of strangers' the first in a turn of the event loop is handled at once, and so many may wait as
        `LIMITS.waiting` says; what finds no room is gone, and sent again by whoever means it."""
        if ours:
            self._handle(message)
        elif self._begun:
            if len(self._waiting) < LIMITS.waiting:
                self._waiting.append(message)
        else:
            self._begin()
            self._handle(message)

    @property
    def waiting(self) -> int:
        """How many strangers' messages wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Nothing that waits is handled any more."""
        self._waiting.clear()

    def _begin(self) -> None:
        self._begun = True
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._begun = False
        if self._waiting:
            self._begin()
            for message in within_slice(self._taken()):
                self._handle(message)

    def _taken(self) -> Iterator[T]:
        while self._waiting:
            yield self._waiting.popleft()
