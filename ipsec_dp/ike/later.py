"""What is to happen to many things at once: begun with a few, and the others wait for their turn, or until anything else concerns
them."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AT_ONCE: Final = 4  # in one call: the others that are due, or that a command is about, come next

S = TypeVar("S")
R = TypeVar("R")


class Later(Generic[S, R]):
    """Steps by whom they are about, in the order in which they came. `R`: what comes of one, which is called with `now`."""

    def __init__(self) -> None:
        self._steps: OrderedDict[S, list[Callable[[float], R]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._steps)

    def add(self, steps: Iterable[tuple[S, Callable[[float], R]]]) -> None:
        for thing, step in steps:
            self._steps.setdefault(thing, []).append(step)

    def first(self) -> list[S]:
        """Whose turn it is, AT_ONCE at the most."""
        return list(islice(self._steps, AT_ONCE))

    def catch_up(self, thing: S, now: float) -> list[R]:
        """Whatever waits for it happens now; nothing where nothing does."""
        return [step(now) for step in self._steps.pop(thing, ())]

    def discard(self, thing: S) -> None:
        """It is gone."""
        self._steps.pop(thing, None)
