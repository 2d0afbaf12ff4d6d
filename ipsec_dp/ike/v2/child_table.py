"""The CHILD_SAs of one IKE SA, each found at once however many there are: by number, by SPI, by selectors, by what is due next."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ike.v2.sa import Child, ChildState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.traffic_selectors import ProxyId

DUE_AT_ONCE: Final = 64


class ChildTable(dict[int, Child]):
    """By number, oldest first. `holder`: the IKE SA they are on now; a rekey of it gives the whole table to another."""

    def __init__(self, holder: Any) -> None:
        super().__init__()
        self.holder = holder
        self._seen: tuple[dict[int, tuple[ProxyId, ...]], set[int]] | None = None
        self._timers: TimerQueue[Child] = TimerQueue()
        self._changed: dict[Child, None] = {}  # whose times are not in `_timers` yet
        self._up: dict[Child, None] = {}
        self._by_spi_out: dict[int, dict[Child, None]] = {}  # peers choose them, so two may have one
        self._selectors: SelectorIndex[Child] = SelectorIndex()

    def __setitem__(self, number: int, child: Child) -> None:
        super().__setitem__(number, child)
        child.table = self
        self._by_spi_out.setdefault(child.spi_out, {})[child] = None
        for pair in child.pairs:
            self._selectors.add(pair, child)
        self.changed(child)

    def discard(self, number: int) -> None:
        """It is no longer here, if it ever was."""
        child = self.pop(number, None)
        if child is None:
            return
        child.table = None
        del self._by_spi_out[child.spi_out][child]
        if not self._by_spi_out[child.spi_out]:
            del self._by_spi_out[child.spi_out]
        for pair in child.pairs:
            self._selectors.discard(pair, child)
        for kept in (self._changed, self._up):
            kept.pop(child, None)
        self._timers.discard(child)
        self._seen = None

    def clear(self) -> None:
        for number in list(self):
            self.discard(number)

    def changed(self, child: Child) -> None:
        """A time or the state of one is another now."""
        self._changed[child] = None
        if (child.state is ChildState.UP) is (child in self._up):
            return
        self._seen = None
        if child.state is ChildState.UP:
            self._up[child] = None
        else:
            del self._up[child]

    @property
    def seen(self) -> tuple[dict[int, tuple[ProxyId, ...]], set[int]]:
        """Those that are up, with their selectors, and those that we delete: the same objects until one came, went or changed."""
        if self._seen is None:
            up = {child.number: child.pairs for child in self.values() if child.state is ChildState.UP}
            self._seen = up, {child.number for child in self.values() if child.state is ChildState.DELETING}
        return self._seen

    def _set_timers(self) -> None:
        for child in self._changed:
            self._timers.set(child, child.due_at)
        self._changed.clear()

    @property
    def next_due(self) -> float:
        """When the first has something to do; inf: none has."""
        self._set_timers()
        at = self._timers.next()
        return inf if at is None else at

    def due(self, now: float) -> list[Child]:
        """Those that have something to do, oldest first, DUE_AT_ONCE at the most: it is done now."""
        self._set_timers()
        found: list[Child] = []
        while len(found) < DUE_AT_ONCE and (child := self._timers.pop(now)) is not None:
            found.append(child)
        self._changed |= dict.fromkeys(found)
        return sorted(found, key=lambda child: child.number)

    @property
    def any_up(self) -> bool:
        return bool(self._up)

    def near(self, pair: ProxyId) -> list[Child]:
        """All that carry anything of `pair`, and perhaps some more."""
        return self._selectors.near(pair)

    def near_any(self, pairs: Iterable[ProxyId]) -> list[Child]:
        """The same for several pairs, oldest first."""
        return sorted({child for pair in pairs for child in self.near(pair)}, key=lambda child: child.number)

    def by_spi_out(self, spi: int) -> Child | None:
        """The newest that sends on an SPI."""
        return next(reversed(self._by_spi_out.get(spi, {})), None)
