"""The search for rules that can never be reached, because earlier ones hold all that they hold: one alone, or several together.

A rule is a box in five dimensions: local and remote addresses, local and remote ports, protocol. The bounds of all rules cut each
dimension into cells, and cells are what is compared, so that addresses of either version become small numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ipsec_dp.config.selectors import ANY_PORTS
from ipsec_dp.selectors import PORT_OPAQUE, PROTOCOL_OPAQUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ipsec_dp.config.selectors import PortRange, Rule, Selector

ROWS = 256  # rules compared at once with all earlier ones
PIECES_MAX = 64  # of what is left of one rule; beyond, it counts as reachable
WORK_MAX = 10_000  # differences of boxes in one search; beyond, only single rules are found that hold another

Bounds = tuple[int, int]  # the first number, and the one behind the last
Box = tuple[Bounds, ...]


def find_shadowed(rules: Sequence[Rule]) -> Iterator[tuple[Rule, tuple[Rule, ...]]]:
    """Pairs (rule, the earlier ones that hold all of it), in order: the first that does so alone, or else several together.

    What several hold together is found as long as WORK_MAX and PIECES_MAX last; nothing that is told is wrong.
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


def _port_bounds(ports: PortRange) -> Bounds:
    """ "any" holds OPAQUE too."""
    return (0, PORT_OPAQUE + 1) if ports == ANY_PORTS else (ports.low, ports.high + 1)


def _bounds(selector: Selector) -> Box:
    protocol = (0, PROTOCOL_OPAQUE + 1) if selector.protocol is None else (selector.protocol, selector.protocol + 1)
    addresses = ((int(each.low), int(each.high) + 1) for each in (selector.local, selector.remote))
    ports = (_port_bounds(selector.local_ports), _port_bounds(selector.remote_ports))
    return (*addresses, *ports, protocol)


class _Boxes:
    """The rules of one group as boxes of cells."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        boxes = [_bounds(rule.selector) for rule in rules]
        self._low: list[NDArray[np.unsignedinteger[Any]]] = []
        self._high: list[NDArray[np.unsignedinteger[Any]]] = []
        for bounds in zip(*boxes, strict=True):
            cells = {cut: cell for cell, cut in enumerate(sorted({cut for pair in bounds for cut in pair}))}
            if len(cells) > 2:  # else all rules are alike in this dimension
                kind = np.min_scalar_type(len(cells))  # the narrower, the more of them are compared at once
                self._low.append(np.array([cells[low] for low, _ in bounds], kind))
                self._high.append(np.array([cells[high] for _, high in bounds], kind))

    def shadowed(self, members: Sequence[int], asked: set[int], work: list[int]) -> dict[int, tuple[int, ...]]:
        rows = np.array([row for row, index in enumerate(members) if index in asked], np.int32)
        found: dict[int, tuple[int, ...]] = {}
        for at in range(0, len(rows), ROWS):
            for row, holders in self._first_cell_held(rows[at : at + ROWS]):
                earlier = self._holders(row, holders, work)
                if earlier:
                    found[members[row]] = tuple(members[each] for each in earlier)
        return found

    def _first_cell_held(self, rows: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Each row whose first cell earlier rules hold, and which they are: no other can be shadowed."""
        end = int(rows[-1])
        held = np.arange(end) < rows[:, None]
        for low, high in zip(self._low, self._high, strict=True):
            held &= low[:end] <= low[rows, None]
            held &= low[rows, None] < high[:end]
        for at in np.flatnonzero(held.any(axis=1)):
            yield int(rows[at]), np.flatnonzero(held[at])

    def _holders(self, row: int, first_cell: NDArray[np.intp], work: list[int]) -> Sequence[int]:
        """The first earlier rule that holds this one, or those that do so together; empty: it can be reached."""
        alone, last_cell = np.ones(len(first_cell), bool), np.ones(row, bool)
        for high in self._high:
            alone &= high[first_cell] >= high[row]
        if alone.any():
            return (int(first_cell[alone.argmax()]),)
        for low, high in zip(self._low, self._high, strict=True):
            last_cell &= high[:row] >= high[row]
            last_cell &= low[:row] < high[row]
        return self._together(row, work) if last_cell.any() else ()

    def _box(self, row: int) -> Box:
        return tuple((int(low[row]), int(high[row])) for low, high in zip(self._low, self._high, strict=True))

    def _together(self, row: int, work: list[int]) -> Sequence[int]:
        meets = np.ones(row, bool)
        for low, high in zip(self._low, self._high, strict=True):
            meets &= (low[:row] < high[row]) & (low[row] < high[:row])
        left, used = [self._box(row)], []
        for other in np.flatnonzero(meets):
            if work[0] < len(left) or len(left) > PIECES_MAX:
                return ()
            work[0] -= len(left)
            hole = self._box(int(other))
            rest = [piece for whole in left for piece in _difference(whole, hole)]
            if rest != left:
                used.append(int(other))
            if not rest:
                return used
            left = rest
        return ()


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
