"""What changed in a long list of objects since it was last looked at, by identity: comparing ten thousand of them is slow."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")

FEW = 16  # that came, and that went, up to which it pays to leave the rest as it is


class FewChanges(NamedTuple, Generic[Item]):
    """In the order of the list that they are in."""

    added: list[Item]
    removed: list[Item]


def few_changes(before: Sequence[Item], now: Sequence[Item]) -> FewChanges[Item] | None:
    """The objects of `now` that are not in `before`, and those of `before` that are not in `now`. None: more than FEW of either,
    or an object is in a list twice."""
    known, present = set(map(id, before)), set(map(id, now))
    came, gone = present - known, known - present
    if len(known) != len(before) or len(present) != len(now) or max(len(came), len(gone)) > FEW:
        return None
    return FewChanges(
        [each for each in now if id(each) in came] if came else [], [each for each in before if id(each) in gone] if gone else []
    )


def in_order(before: Sequence[Item], now: Sequence[Item], changes: FewChanges[Item]) -> bool:
    """Whether what is in both lists, of which `changes` are the `few_changes`, is in the same order in both."""
    came, gone = set(map(id, changes.added)), set(map(id, changes.removed))
    kept_before, kept_now = (each for each in before if id(each) not in gone), (each for each in now if id(each) not in came)
    return all(map(is_, kept_before, kept_now))
