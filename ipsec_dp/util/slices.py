"""Work on many things in the event loop's thread, in slices of time: between two of them everything else that is due runs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

SLICE_S = 0.003
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


class _Turns:
    """Of one event loop: who waits for a turn of it."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def next_of(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        if not self._waiting:
            loop.call_soon(self._give, loop)
        self._waiting.append(made := loop.create_future())
        return made

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        """To the first that still wants it; the others wait for the loop's next turn."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                break
        if self._waiting:
            loop.call_soon(self._give, loop)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


async def turn() -> None:
    """Lets the loop do what else is due, and comes back in a turn of it that nobody else has who asked for one: however many there
    are whose work comes in slices, others wait for one of these."""
    loop = asyncio.get_running_loop()
    if (turns := _turns.get(loop)) is None:
        turns = _turns[loop] = _Turns()
    await turns.next_of(loop)


async def in_slices(things: Iterable[T], slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """Each of `things`; once `slice_s` seconds are used up, the loop does what else is due before the next one.

    The collection must not change meanwhile: give a tuple, or a list that nobody else writes to. The seconds are the
    machine's, whatever clock a gateway has: they bound how long others wait.
    """
    ends = _end(slice_s)
    for thing in things:
        if time.monotonic() >= ends:
            await turn()
            ends = _end(slice_s)
        yield thing
    if time.monotonic() >= ends - slice_s / 2:  # what follows may have a slice of its own
        await turn()


def within_slice(things: Iterable[T], slice_s: float = SLICE_S) -> Iterator[T]:
    """The first of `things`, and as many more as are begun within `slice_s` seconds. What is left comes with the loop's next turn,
    where something calls again for it, as a reader is called while its descriptor has something to read."""
    ends = _end(slice_s)
    for thing in things:
        yield thing
        if time.monotonic() >= ends:
            return
