"""The search for rules that can never be reached, because earlier ones hold all that they hold: one alone, or several together.

A rule is a box in five dimensions: local and remote addresses, local and remote ports, protocol. The bounds of all rules cut each
dimension into cells, and cells are what is compared. Sets of rules are bits of one number, so that a sweep over the cells of a
dimension compares one rule with thousands at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipsec_dp.ipsec.rules import Rule
    from ipsec_dp.ipsec.selectors import SelectorPair

PIECES_MAX = 64  # of what is left of one rule; beyond, it counts as reachable
WORK_MAX = 10_000  # differences of boxes in one search; beyond, only single rules are found that hold another

Bounds = tuple[int, int]  # the first number, and the one behind the last
Box = tuple[Bounds, ...]


def find_shadowed(rules: Sequence[Rule]) -> Iterator[tuple[Rule, tuple[Rule, ...]]]:
    """Pairs (rule, the earlier ones that hold all of it), in order: the first that does so alone, or else several together.

    What several hold together is found as long as WORK_MAX and PIECES_MAX last; nothing that is reported is wrong.
    """
    found: dict[int, tuple[int, ...]] = {}
    work = [WORK_MAX]
    for members, asked in _groups(rules):
        found |= _Boxes([rules[index] for index in members]).shadowed(members, asked, work)
    for index in sorted(found):
        yield rules[index], tuple(rules[earlier] for earlier in found[index])


def _groups(rules: Sequence[Rule]) -> Iterator[tuple[list[int], set[int]]]:
    """Rules of one IP version that meet on one interface, rising, and which of them are to be looked at there."""
    by_place: dict[tuple[int, str | None], list[int]] = {}
    for index, rule in enumerate(rules):
        by_place.setdefault((rule.selector.version, rule.interface), []).append(index)
    for (version, interface), own in by_place.items():
        common = [] if interface is None else by_place.get((version, None), [])
        if len(own) + len(common) > 1:
            yield sorted(own + common), set(own)


def _bounds(selector: SelectorPair) -> Box:
    """OPAQUE is a number of its own behind all ports, and behind all protocols."""
    addresses = ((int(each.low), int(each.high) + 1) for each in (selector.local, selector.remote))
    numbers = ((each.low, each.high + 1) for each in (selector.local_ports, selector.remote_ports, selector.protocol))
    return (*addresses, *numbers)


class _Boxes:
    """The rules of one group as boxes of cells."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._dimensions: list[list[Bounds]] = []
        for bounds in zip(*(_bounds(rule.selector) for rule in rules), strict=True):
            cells = {cut: cell for cell, cut in enumerate(sorted({cut for pair in bounds for cut in pair}))}
            if len(cells) > 2:  # else all rules are alike in this dimension
                self._dimensions.append([(cells[low], cells[high]) for low, high in bounds])

    def shadowed(self, members: Sequence[int], asked: set[int], work: list[int]) -> dict[int, tuple[int, ...]]:
        rows = [row for row, index in enumerate(members) if index in asked]
        found: dict[int, tuple[int, ...]] = {}
        for row, earlier in self._earlier(rows).items():
            holders = self._holders(row, earlier, work)
            if holders:
                found[members[row]] = tuple(members[each] for each in holders)
        return found

    def _earlier(self, rows: Sequence[int]) -> dict[int, _Earlier]:
        """For each row the earlier ones that hold its first cell, its last, or meet it anywhere: in one sweep of each dimension."""
        sets = {row: _Earlier(*[(1 << row) - 1] * 3) for row in rows}
        for bounds in self._dimensions:
            starting, ending = _bits_by(low for low, _ in bounds), _bits_by(high for _, high in bounds)
            first, last = _rows_by((row, bounds[row][0]) for row in rows), _rows_by((row, bounds[row][1] - 1) for row in rows)
            started = ended = 0
            for cell in sorted(starting.keys() | ending.keys() | last.keys()):
                started |= starting.get(cell, 0)
                ended |= ending.get(cell, 0)
                for row in first.get(cell, ()):
                    sets[row].first &= started & ~ended
                    sets[row].meet &= ~ended
                for row in last.get(cell, ()):
                    sets[row].last &= started & ~ended
                    sets[row].meet &= started
        return sets

    def _holders(self, row: int, earlier: _Earlier, work: list[int]) -> Sequence[int]:
        """The first earlier rule that holds this one, or those that do so together; empty: it can be reached."""
        alone = earlier.first & earlier.last
        if alone:
            return (next(_members(alone)),)
        return self._together(row, earlier.meet, work) if earlier.first and earlier.last else ()

    def _box(self, row: int) -> Box:
        return tuple(bounds[row] for bounds in self._dimensions)

    def _together(self, row: int, meet: int, work: list[int]) -> Sequence[int]:
        left, used = [self._box(row)], []
        for other in _members(meet):
            if work[0] < len(left) or len(left) > PIECES_MAX:
                return ()
            work[0] -= len(left)
            hole = self._box(other)
            rest = [piece for whole in left for piece in _difference(whole, hole)]
            if rest != left:
                used.append(other)
            if not rest:
                return used
            left = rest
        return ()


@dataclass(slots=True)
class _Earlier:
    """Sets of rules that come before one rule, a bit for each: those that hold its first cell, its last cell, or meet it."""

    first: int
    last: int
    meet: int


def _bits_by(cells: Iterable[int]) -> dict[int, int]:
    """For each cell the set of those that are there, by their place in the order given."""
    found: dict[int, int] = {}
    for row, cell in enumerate(cells):
        found[cell] = found.get(cell, 0) | 1 << row
    return found


def _rows_by(places: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row, cell in places:
        found.setdefault(cell, []).append(row)
    return found


def _members(bits: int) -> Iterator[int]:
    """Those in a set, rising."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _difference(whole: Box, hole: Box) -> list[Box]:
    """The box without the hole, as boxes that do not meet."""
    if any(low >= end or start >= high for (low, high), (start, end) in zip(whole, hole, strict=True)):
        return [whole]
    pieces = []
    for dimension, ((low, high), (start, end)) in enumerate(zip(whole, hole, strict=True)):
        beside = [bounds for bounds in ((low, start), (end, high)) if bounds[0] < bounds[1]]
        pieces += [(*whole[:dimension], bounds, *whole[dimension + 1 :]) for bounds in beside]
        whole = (*whole[:dimension], (max(low, start), min(high, end)), *whole[dimension + 1 :])
    return pieces
