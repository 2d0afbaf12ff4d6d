"""Which of many has a timer due next."""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import Final, Generic, TypeVar

T = TypeVar("T")


STALE_LEAST: Final = 64


class TimerQueue(Generic[T]):
    """One time for each owner; times that were changed since stay in the heap until their turn comes or they are most of it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._at: dict[T, float] = {}
        self._order = count()

    def __len__(self) -> int:
        return len(self._at)

    def set(self, owner: T, at: float) -> None:
        """`owner` is due at `at`; inf: never."""
        if at == inf:
            self.discard(owner)
        elif self._at.get(owner) != at:
            self._at[owner] = at
            heapq.heappush(self._heap, (at, next(self._order), owner))
            if len(self._heap) > 2 * len(self._at) + STALE_LEAST:
                self._compact()

    def _compact(self) -> None:
        last = {owner: entry for entry in self._heap if self._at.get(owner := entry[2]) == entry[0]}
        self._heap = list(last.values())
        heapq.heapify(self._heap)

    def entries(self) -> list[tuple[T, float]]:
        """Everybody with their times, in the order in which they come to be due."""
        found: dict[T, float] = {}
        for at, _, owner in sorted(self._heap, key=lambda entry: entry[:2]):
            if self._at.get(owner) == at:
                found.setdefault(owner, at)
        return list(found.items())

    def discard(self, owner: T) -> None:
        self._at.pop(owner, None)

    def next(self) -> float | None:
        """The first time; None: nobody has one."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> T | None:
        """The first that is due by `now`, which then has no time any more; None: nobody is."""
        at = self.next()
        if at is None or at > now:
            return None
        owner = heapq.heappop(self._heap)[2]
        del self._at[owner]
        return owner
