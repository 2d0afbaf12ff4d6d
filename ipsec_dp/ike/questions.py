"""Of many proxy IDs that may be asked for, the one whose turn it is: found without looking at the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.timer_queue import TimerQueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.traffic_selectors import ProxyId


class Rank(IntEnum):
    """Who goes first."""

    PACKET = 0  # a packet waits for it
    UNTRIED = 1
    FAILED = 2  # it was refused, or went soon after it came


class Turn(NamedTuple):
    """Where a proxy ID waits. `asked`: somebody asks for it, so that it waits for no peer."""

    rank: Rank
    asked: bool


TURNS = tuple(Turn(rank, asked) for rank in Rank for asked in (True, False))


@dataclass(slots=True)
class Questions:
    """Those that may be asked for, each from its own time on, and no place before its `floors`."""

    floors: dict[Turn, float] = field(default_factory=lambda: dict.fromkeys(TURNS, -inf))
    _queues: dict[Turn, TimerQueue[ProxyId]] = field(default_factory=lambda: {place: TimerQueue() for place in TURNS})
    _where: dict[ProxyId, Turn] = field(default_factory=dict)

    def put(self, proxy_id: ProxyId, place: Turn, at: float) -> None:
        """It waits there, and nowhere else, for `at` seconds of the clock; inf: for ever."""
        before = self._where.get(proxy_id)
        if before is not None and before != place:
            self._queues[before].discard(proxy_id)
        self._where[proxy_id] = place
        self._queues[place].set(proxy_id, at)

    def entries(self) -> list[tuple[ProxyId, Turn, float]]:
        """Who waits where, and until when; of one place in their order."""
        return [(proxy_id, place, at) for place, queue in self._queues.items() for proxy_id, at in queue.entries()]

    def drop(self, proxy_id: ProxyId) -> None:
        """It waits no more."""
        place = self._where.pop(proxy_id, None)
        if place is not None:
            self._queues[place].discard(proxy_id)

    def clear(self) -> None:
        for proxy_id in list(self._where):
            self.drop(proxy_id)

    def hold_back(self, until: float, *places: Turn) -> None:
        """Nothing is asked for from there before."""
        for place in places:
            self.floors[place] = max(until, self.floors[place])

    def release(self) -> None:
        """Nothing is held back any more."""
        self.floors |= dict.fromkeys(TURNS, -inf)

    def next_due(self) -> float:
        """When `take` has something; inf: never. It may lie in the past."""
        return min(map(self._due, TURNS))

    def _due(self, place: Turn) -> float:
        first = self._queues[place].next()
        return inf if first is None else max(first, self.floors[place])

    def take(self, now: float) -> tuple[ProxyId, Turn] | None:
        """The first of those that are due by now, of the first rank that has any; of one rank who waits longest. It waits no more
        until it is put somewhere again."""
        due = [(place.rank, self._queues[place].next() or 0.0, place) for place in TURNS if self._due(place) <= now]
        if not due:
            return None
        *_, place = min(due)
        proxy_id = self._queues[place].pop(now)
        if proxy_id is None:
            return None
        del self._where[proxy_id]
        return proxy_id, place


class WaitingPackets(dict["ProxyId", "ProxyId"]):
    """The first packet that asked for a proxy ID, by proxy ID; found by the selectors of a CHILD_SA."""

    def __init__(self) -> None:
        super().__init__()
        self._index: SelectorIndex[ProxyId] = SelectorIndex()
        self._asks_for: dict[ProxyId, ProxyId] = {}

    def wait(self, packet: ProxyId, proxy_id: ProxyId) -> None:
        if proxy_id not in self:
            self[proxy_id], self._asks_for[packet] = packet, proxy_id
            self._index.add(packet, packet)

    def pop(self, proxy_id: ProxyId, *_default: object) -> ProxyId | None:  # type: ignore[override]
        """It waits no more, if any did."""
        packet = super().pop(proxy_id, None)
        if packet is not None:
            self._index.discard(packet, packet)
            del self._asks_for[packet]
        return packet

    def held_by(self, pairs: Iterable[ProxyId]) -> list[ProxyId]:
        """The proxy IDs of those that a CHILD_SA with these selectors holds."""
        packets = (packet for pair in pairs for packet in self._index.near(pair) if pair.covers(packet))
        return [self._asks_for[packet] for packet in dict.fromkeys(packets)]
