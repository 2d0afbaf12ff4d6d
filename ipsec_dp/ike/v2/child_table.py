"""The CHILD_SAs of one IKE SA, each found at once however many there are: by number, by SPI, by selectors, by what is due next."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

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
        self._holder = ref(holder)  # no cycle: an IKE SA that ends is gone without the garbage collector
        self._came: dict[int, tuple[ProxyId, ...]] = {}
        self._went: dict[int, bool] = {}
        self._timers: TimerQueue[Child] = TimerQueue()
        self._changed: dict[Child, None] = {}  # whose times are not in `_timers` yet
        self._up: dict[Child, None] = {}
        self._rekeyed: set[Child] = set()
        self._by_spi_out: dict[int, dict[Child, None]] = {}  # peers choose them, so two may have one
        self._selectors: SelectorIndex[Child] = SelectorIndex()
        self.busy = 0  # the one whose packets were the last, when that was asked

    @property
    def holder(self) -> Any:
        return self._holder()

    @holder.setter
    def holder(self, holder: Any) -> None:
        self._holder = ref(holder)

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
        if child in self._up or number in self._went:
            self._left(child, here=False)
        for kept in (self._changed, self._up):
            kept.pop(child, None)
        self._rekeyed.discard(child)
        self._timers.discard(child)

    def clear(self) -> None:
        for number in list(self):
            self.discard(number)

    def changed(self, child: Child) -> None:
        """A time or the state of one is another now."""
        self._changed[child] = None
        if child.state is ChildState.REKEYED:
            self._rekeyed.add(child)
        else:
            self._rekeyed.discard(child)
        if child.state is ChildState.UP:
            if child not in self._up:
                self._up[child] = None
                self._came[child.number] = child.pairs
        elif child in self._up or child.number in self._went:
            self._up.pop(child, None)
            self._left(child, here=child.state is ChildState.DELETING)

    def _left(self, child: Child, *, here: bool) -> None:
        if self._came.pop(child.number, None) is None:
            self._went[child.number] = here

    def take_changes(self) -> tuple[dict[int, tuple[ProxyId, ...]], dict[int, bool]]:
        """Since the last time: those that are up now, with their selectors, and those that are so no longer, True: we delete it."""
        changes = self._came, self._went
        if self._came or self._went:
            self._came, self._went = {}, {}
        return changes

    @property
    def changes(self) -> tuple[dict[int, tuple[ProxyId, ...]], dict[int, bool]]:
        """What `take_changes` is going to give."""
        return dict(self._came), dict(self._went)

    def resume(self, came: dict[int, tuple[ProxyId, ...]], went: dict[int, bool]) -> None:
        """Those are its changes, and not that it was filled anew."""
        self._came, self._went = came, went

    def goes_on_from(self, other: ChildTable) -> None:
        """It stands in the place of `other`, whose last changes nobody has taken yet; what it got from elsewhere is none."""
        self._came, self._went = other._came, other._went

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
    def undeleted(self) -> int:
        """How many the peer has rekeyed and not deleted since."""
        return len(self._rekeyed)

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
