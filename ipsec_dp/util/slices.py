"""Work on many things in the event loop's thread, in slices of time: between two of them everything else that is due runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

SLICE_S = 0.005
_whole: ContextVar[bool] = ContextVar("whole", default=False)

T = TypeVar("T")


@contextmanager
def unsliced() -> Iterator[None]:
    """What begins inside, and every task that is made there, ends no slice before its work: how fast the machine is decides
    nothing then, which a rig wants whose runs are all the same."""
    before = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(before)


def _end(slice_s: float) -> float:
    return inf if _whole.get() else time.monotonic() + slice_s


class Slice:
    """One that begins now, for work that nobody awaits: whoever does it leaves the rest for later once it is over."""

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._end = _end(slice_s)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end


async def in_slices(things: Iterable[T], slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """Each of `things`; once `slice_s` seconds are used up, the loop does what else is due before the next one.

    The collection must not change meanwhile: give a tuple, or a list that nobody else writes to. The seconds are the
    machine's, whatever clock a gateway has: they bound how long others wait.
    """
    ends = _end(slice_s)
    for thing in things:
        if time.monotonic() >= ends:
            await asyncio.sleep(0)
            ends = _end(slice_s)
        yield thing


def within_slice(things: Iterable[T], slice_s: float = SLICE_S) -> Iterator[T]:
    """The first of `things`, and as many more as are begun within `slice_s` seconds. What is left comes with the loop's next turn,
    where something calls again for it, as a reader is called while its descriptor has something to read."""
    ends = _end(slice_s)
    for thing in things:
        yield thing
        if time.monotonic() >= ends:
            return
