"""Garbage collection beside very much that stays: a full one looks through all of it, and everything waits meanwhile."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER: Final = 1 << 30  # collections of the middle generation to the next full one


@contextmanager
def no_collection() -> Iterator[None]:
    """No collector looks for rings in what is made meanwhile: of a large file that costs a fifth of the time for nothing, and where
    steps are counted it would count too."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def no_full_collection() -> Iterator[None]:
    """While very much is made that stays. At the end it is kept out of later ones, with all else that is there by then; so what is
    to go some day must hold no cycle (IKE SAs do not). Not to be nested. The young are collected as ever."""
    young, middle, full = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    try:
        yield
    finally:
        gc.collect(1)  # what of them is garbage would be kept for ever
        gc.freeze()
        gc.set_threshold(young, middle, full)
