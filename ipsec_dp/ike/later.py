"""What is to happen to many things at once: begun with a few, and the others wait for their turn, or until anything else concerns
them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

S = TypeVar("S")
LaterStep = Callable[[float], None]  # of `now`


class Later(Generic[S]):
    """Steps by whom they are about, in the order in which they came."""

    def __init__(self) -> None:
        self._steps: OrderedDict[S, list[LaterStep]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, steps: Iterable[tuple[S, LaterStep]]) -> None:
        for thing, step in steps:
            self._steps.setdefault(thing, []).append(step)

    def first(self, number: int) -> list[S]:
        """Whose turn it is."""
        return list(islice(self._steps, number))

    def catch_up(self, thing: S, now: float) -> bool:
        """Whatever waits for it happens now; false where nothing does."""
        steps = self._steps.pop(thing, ())
        for step in steps:
            step(now)
        return bool(steps)

    def discard(self, thing: S) -> None:
        """It is gone."""
        self._steps.pop(thing, None)
