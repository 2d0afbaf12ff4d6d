"""Whether the other process goes on with what it was sent: it may be slow for as long as it reads, and hangs where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.gateway.upgrade.stream import ALIVE_S, HandOverError

if TYPE_CHECKING:
    from collections.abc import Callable

STOOD_STILL_S: Final = 2 * ALIVE_S  # between two looks: for longer it was this process that did not go on


class Reading:
    """Of what one process says to another. `unread`: octets that lie between them by now. It may read none of them for `each`
    seconds, and say nothing for `last` seconds once it has read them all. `now`: seconds."""

    def __init__(self, unread: Callable[[], int], each: float, last: float, now: Callable[[], float]) -> None:
        self._unread, self._each, self._last, self._now = unread, each, last, now
        self._left, self._looked, self._idle = unread(), now(), 0.0

    def said(self) -> None:
        """It was sent something more: where it has read that by now it did not hang, however long that took to make."""
        if not self._unread():
            self._idle = 0.0

    def answered(self) -> None:
        """It has said something: it does not hang."""
        self._idle, self._looked = 0.0, self._now()

    def look(self) -> None:
        """To be called about every ALIVE_S while the other one is waited for. Raises HandOverError: it hangs."""
        left, now = self._unread(), self._now()
        if left < self._left or (left and not self._left):  # it has read, or there is something to be read again
            self._idle = 0.0
        else:
            self._idle += min(now - self._looked, STOOD_STILL_S)
        self._left, self._looked = left, now
        if self._idle > (self._each if left else self._last):
            raise HandOverError(f"the other process {'reads nothing' if left else 'says nothing'} any more")
