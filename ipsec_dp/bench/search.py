"""The highest rate that a path carries without loss, found by trying rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRECISION = 0.05
TRIES_MAX = 24
FLOOR = 100.0  # packets a second below which a path is taken for broken
LIMITED = 0.95  # a sender that reached less of the rate than this is itself the limit


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one rate: packets a second really sent, and whether the loss was within bounds."""

    sent: float
    loss_free: bool


def _steps(*, warm: bool) -> Iterator[float]:
    """By which factor to go on while only one end of the interval is known: from a good guess in small steps at first."""
    yield from (1 + PRECISION, 1.2) if warm else ()
    while True:
        yield 2.0


def loss_free_rate(attempt: Callable[[float], Attempt], guess: float, *, warm: bool) -> float:
    """The highest rate that was carried, at most PRECISION below one that was not, or all that the sender can do.

    `warm`: `guess` is what an earlier search found. 0 when not even FLOOR is carried.
    """
    carried, failed = 0.0, math.inf
    steps, rate = _steps(warm=warm), guess
    for _ in range(TRIES_MAX):
        tried = attempt(rate)
        if tried.loss_free:
            carried = max(carried, min(rate, tried.sent))
            if tried.sent < rate * LIMITED:
                return carried
        else:
            failed = min(failed, rate)
        if failed <= max(carried * (1 + PRECISION), FLOOR):
            break
        if carried and failed < math.inf:
            rate = math.sqrt(carried * failed)
        else:
            step = next(steps)
            rate = rate * step if carried else rate / step
    return carried
