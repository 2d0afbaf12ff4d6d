"""Which of many pairs of selectors can have a packet in common with another: found without looking at the others."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import chain, count
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector

T = TypeVar("T")
FEW: Final = 16  # things, up to which it is quicker to look at all of them
VERSION_SHIFT: Final = 128
_Range = tuple[int, int]  # first and last, both included


def _addresses(selector: TrafficSelector) -> _Range:
    version = selector.version << VERSION_SHIFT
    return version | selector.start, version | selector.end


def _ports(selector: TrafficSelector) -> _Range:
    return min(selector.start_port, selector.end_port), max(selector.start_port, selector.end_port)


def _ranges(pair: ProxyId) -> tuple[_Range, ...]:
    return _addresses(pair.remote), _addresses(pair.local), _ports(pair.remote), _ports(pair.local)


class _Ranges:
    """Ranges of numbers, each with a number of its own.

    What meets a range begins inside it, or holds its first number; the latter are found by the shortest prefix that each lies in.
    """

    def __init__(self) -> None:
        self._starts: list[tuple[int, int]] = []
        self._ends: dict[int, int] = {}
        self._prefixes: dict[int, dict[int, set[int]]] = {}  # by the bits that differ in the range, then by those that do not

    def add(self, number: int, where: _Range) -> None:
        start, end = where
        insort(self._starts, (start, number))
        self._ends[number] = end
        bits = (start ^ end).bit_length()
        self._prefixes.setdefault(bits, {}).setdefault(start >> bits, set()).add(number)

    def discard(self, number: int, where: _Range) -> None:
        start, end = where
        del self._starts[bisect_left(self._starts, (start, number))]
        del self._ends[number]
        bits = (start ^ end).bit_length()
        same = self._prefixes[bits]
        same[start >> bits].discard(number)
        if not same[start >> bits]:
            del same[start >> bits]
        if not same:
            del self._prefixes[bits]

    def _inside(self, where: _Range) -> _Range:
        return bisect_left(self._starts, (where[0], 0)), bisect_left(self._starts, (where[1] + 1, 0))

    def _over(self, first: int) -> Iterator[set[int]]:
        return (found for bits, same in self._prefixes.items() if (found := same.get(first >> bits)) is not None)

    def count(self, where: _Range) -> int:
        """No fewer than meet it."""
        low, high = self._inside(where)
        return high - low + sum(map(len, self._over(where[0])))

    def meeting(self, where: _Range) -> Iterator[int]:
        """Some twice. Nothing may be added or taken away meanwhile."""
        low, high = self._inside(where)
        for index in range(low, high):
            yield self._starts[index][1]
        for numbers in self._over(where[0]):
            yield from (number for number in numbers if self._ends[number] >= where[0])


class SelectorIndex(Generic[T]):
    """Things, each with pairs of selectors; in the order in which they were added."""

    def __init__(self, things: Iterable[tuple[ProxyId, T]] = ()) -> None:
        self._numbers = count()
        self._things: dict[int, tuple[ProxyId, T]] = {}
        self._of: dict[tuple[int, ProxyId], int] = {}
        self._sides: tuple[_Ranges, ...] | None = None  # once they are no longer few
        for pair, thing in things:
            self.add(pair, thing)

    def add(self, pair: ProxyId, thing: T) -> None:
        number = next(self._numbers)
        self._things[number] = pair, thing
        self._of[id(thing), pair] = number
        if self._sides is not None:
            self._place(number, pair, self._sides)
        elif len(self._things) > FEW:
            self._sides = tuple(_Ranges() for _ in _ranges(pair))
            for each, (its, _) in self._things.items():
                self._place(each, its, self._sides)

    @staticmethod
    def _place(number: int, pair: ProxyId, sides: tuple[_Ranges, ...]) -> None:
        for side, where in zip(sides, _ranges(pair), strict=True):
            side.add(number, where)

    def discard(self, pair: ProxyId, thing: T) -> None:
        number = self._of.pop((id(thing), pair), None)
        if number is None:
            return
        del self._things[number]
        for side, where in zip(self._sides or (), _ranges(pair), strict=False):
            side.discard(number, where)

    def __len__(self) -> int:
        return len(self._things)

    def near(self, pair: ProxyId) -> list[T]:
        """Everything that meets a pair, each once, and perhaps some more."""
        return self.near_any((pair.local,), (pair.remote,))

    def near_any(self, local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]) -> list[T]:
        """Everything that meets one of `local` and one of `remote`, and perhaps some more: by the side where that is less."""
        if self._sides is None:
            return _once(thing for _, thing in self._things.values())
        found = self._found(self._sides, local, remote)
        return _once(self._things[number][1] for number in sorted(set(found)))

    def meeting(self, pair: ProxyId) -> Iterator[T]:
        """As `near`, one by one, in no order, and perhaps twice: where whoever asks may do with a few. Nothing may be added or
        taken away before the last one."""
        if self._sides is None:
            return (thing for _, thing in self._things.values())
        return (self._things[number][1] for number in self._found(self._sides, (pair.local,), (pair.remote,)))

    def count_near(self, local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]) -> int:
        """No fewer than `near_any` looks at, found without doing so."""
        if self._sides is None:
            return len(self._things)
        ranges, wheres = _least(self._sides, local, remote)
        return sum(map(ranges.count, wheres))

    @staticmethod
    def _found(its: tuple[_Ranges, ...], local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]) -> Iterator[int]:
        ranges, wheres = _least(its, local, remote)
        return chain.from_iterable(map(ranges.meeting, wheres))


def _least(
    its: tuple[_Ranges, ...], local: Iterable[TrafficSelector], remote: Iterable[TrafficSelector]
) -> tuple[_Ranges, list[_Range]]:
    """The side where the fewest meet, and what is looked for there."""
    sides = (remote, _addresses), (local, _addresses), (remote, _ports), (local, _ports)
    asked = [
        (ranges, [where(one) for one in dict.fromkeys(selectors)]) for ranges, (selectors, where) in zip(its, sides, strict=True)
    ]
    return min(asked, key=lambda one: sum(map(one[0].count, one[1])))


def _once(things: Iterable[T]) -> list[T]:
    return list({id(thing): thing for thing in things}.values())
