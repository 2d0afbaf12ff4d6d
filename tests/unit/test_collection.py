"""While very much is made that stays, nothing waits for the garbage collector; afterwards it does not look through it again."""

from __future__ import annotations

import gc
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import ref

import pytest

from ipsec_dp.util.collection import NEVER, no_full_collection

MANY = 300_000


@contextmanager
def full_collections():
    """How many there are inside."""
    found: list[int] = []

    def note(phase: str, about: dict[str, int]) -> None:
        if phase == "stop" and about["generation"] == 2:
            found.append(1)

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)


@pytest.fixture(autouse=True)
def afterwards():
    """As it was: what other tests leave behind is collected. What is there before is not counted, since a collection is full where
    as much as a quarter of that came: beside thousands of tests nothing that is made here would be enough."""
    gc.freeze()
    gc.collect()
    yield
    gc.unfreeze()


def make() -> list[Any]:
    return [[number] for number in range(MANY)]


@pytest.mark.parametrize(("how", "some"), [(nullcontext, True), (no_full_collection, False)])
def test_nothing_waits_while_it_is_made(how, some):
    with full_collections() as found, how():
        made = make()
    assert bool(found) is some
    assert len(made) == MANY


def test_it_is_not_looked_through_afterwards_and_all_else_is_as_before():
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    with no_full_collection():
        made = make()
        assert gc.get_threshold() == (*threshold[:2], NEVER)
    assert gc.get_threshold() == threshold
    assert gc.get_freeze_count() > frozen + MANY
    assert len(gc.get_objects()) < MANY / 10
    assert len(made) == MANY


def test_garbage_that_was_made_meanwhile_is_not_kept():
    """A cycle, which nobody has any more."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    gone = []
    with no_full_collection():
        weak = ref(Cycle(), lambda _: gone.append(1))
    assert weak() is None
    assert gone == [1]


def test_an_exception_leaves_nothing_behind():
    threshold = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), no_full_collection():
        raise ZeroDivisionError
    assert gc.get_threshold() == threshold
