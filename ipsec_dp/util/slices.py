"""Work on many things in the event loop's thread, in slices: between two of them everything else has its turn."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SLICE_S = 0.005

T = TypeVar("T")


async def in_turns(things: Iterable[T], slice_s: float = SLICE_S) -> AsyncIterator[T]:
    """Each of `things`; whenever `slice_s` s are used up, the loop does what else is due before the next one.

    What the things are taken from must not change meanwhile: give a tuple or a list that nobody else writes to.
    """
    began = time.monotonic()
    for thing in things:
        if time.monotonic() - began >= slice_s:
            await asyncio.sleep(0)
            began = time.monotonic()
        yield thing
