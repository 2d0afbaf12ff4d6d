"""The datagrams that were sent on a network, the newest of them: a day at a high rate takes no more memory than an hour."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
KEPT_DATAGRAMS: Final = 10_000  # where nothing else is asked for


def keep(kept: list[T], *more: T) -> None:
    """Of what comes again and again for as long as a rig lives the newest KEPT_DATAGRAMS stay, and up to as many before them."""
    kept += more
    if len(kept) > 2 * KEPT_DATAGRAMS:
        del kept[:-KEPT_DATAGRAMS]


class SentLog(Sequence[T]):
    """Oldest first. `most`: how many are kept, None: all; `left_out`: how many older ones are gone."""

    def __init__(self, most: int | None = KEPT_DATAGRAMS) -> None:
        self._kept: deque[T] = deque(maxlen=most)
        self.left_out = 0

    @property
    def most(self) -> int | None:
        return self._kept.maxlen

    @most.setter
    def most(self, most: int | None) -> None:
        before = len(self._kept)
        self._kept = deque(self._kept, maxlen=most)
        self.left_out += before - len(self._kept)

    def append(self, sent: T) -> None:
        """The newest."""
        self.left_out += len(self._kept) == self._kept.maxlen
        self._kept.append(sent)

    def clear(self) -> None:
        """What was sent so far is of no interest."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[T]:
        return iter(self._kept)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        return list(self._kept)[at] if isinstance(at, slice) else self._kept[at]
