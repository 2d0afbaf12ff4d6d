"""What was added to a long list of objects since it was last looked at, by identity: comparing ten thousand of them is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")

FEW = 16  # for which it pays to leave the rest as it is


def additions(before: Sequence[Item], now: Sequence[Item]) -> list[Item] | None:
    """The objects of `now` that `before` has not, in order; None when one of `before` is gone, or there are more than FEW."""
    known, present = set(map(id, before)), set(map(id, now))
    if len(known) != len(before) or len(present) != len(now) or not known <= present or len(present) - len(known) > FEW:
        return None
    return [each for each in now if id(each) not in known]
