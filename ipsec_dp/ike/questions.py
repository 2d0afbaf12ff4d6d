"""Of many proxy IDs that may be asked for, the one whose turn it is: found without looking at the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike.timer_queue import TimerQueue

if TYPE_CHECKING:
    from ipsec_dp.ike.traffic_selectors import ProxyId


class Rank(IntEnum):
    """Who goes first."""

    PACKET = 0  # a packet waits for it
    UNTRIED = 1
    FAILED = 2  # it was refused, or went soon after it came


class Place(NamedTuple):
    """Where a proxy ID waits. `asked`: somebody asks for it, so that it waits for no peer."""

    rank: Rank
    asked: bool


PLACES = tuple(Place(rank, asked) for rank in Rank for asked in (True, False))


@dataclass(slots=True)
class Questions:
    """Those that may be asked for, each from its own time on, and no place before its `floors`."""

    floors: dict[Place, float] = field(default_factory=lambda: dict.fromkeys(PLACES, -inf))
    _queues: dict[Place, TimerQueue[ProxyId]] = field(default_factory=lambda: {place: TimerQueue() for place in PLACES})
    _where: dict[ProxyId, Place] = field(default_factory=dict)

    def put(self, proxy_id: ProxyId, place: Place, at: float) -> None:
        """It waits there, and nowhere else, for `at` seconds of the clock; inf: for ever."""
        before = self._where.get(proxy_id)
        if before is not None and before != place:
            self._queues[before].discard(proxy_id)
        self._where[proxy_id] = place
        self._queues[place].set(proxy_id, at)

    def drop(self, proxy_id: ProxyId) -> None:
        """It waits no more."""
        place = self._where.pop(proxy_id, None)
        if place is not None:
            self._queues[place].discard(proxy_id)

    def clear(self) -> None:
        for proxy_id in list(self._where):
            self.drop(proxy_id)

    def next_due(self) -> float:
        """When `take` has something; inf: never. It may lie in the past."""
        return min(map(self._due, PLACES))

    def _due(self, place: Place) -> float:
        first = self._queues[place].next()
        return inf if first is None else max(first, self.floors[place])

    def take(self, now: float) -> tuple[ProxyId, Place] | None:
        """The first of those that are due by now, of the first rank that has any; of one rank who waits longest. It waits no more
        until it is put somewhere again."""
        due = [(place.rank, self._queues[place].next() or 0.0, place) for place in PLACES if self._due(place) <= now]
        if not due:
            return None
        *_, place = min(due)
        proxy_id = self._queues[place].pop(now)
        if proxy_id is None:
            return None
        del self._where[proxy_id]
        return proxy_id, place
