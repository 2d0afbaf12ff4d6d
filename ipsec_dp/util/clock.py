"""Time and randomness as the gateway gets them: from one object, in whose place a rig can put its own."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Ts = TypeVarTuple("Ts")


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It does not come; nothing when it already has."""


class Clock(Protocol):
    """What time it is, what happens later, and what nobody can foretell. Times are seconds of one monotonic clock."""

    def now(self) -> float:
        """Never goes back, and has no relation to the calendar."""

    def utc(self) -> datetime:
        """The date and time, with its time zone; for certificates and log lines."""

    def call_at(self, when: float, callback: Callable[[*Ts], object], *arguments: *Ts) -> Timer:
        """Calls back in the event loop's thread at `when` of `now`, or at once where that is over."""

    async def sleep(self, seconds: float) -> None:
        """Comes back after `seconds`, at the earliest after everything else that is due now."""

    def random(self, octets: int) -> bytes:
        """Octets fit for keys."""


class SystemClock:
    """The machine's: monotonic time, the event loop's timers, the kernel's randomness."""

    def now(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *arguments: *Ts) -> Timer:
        loop = asyncio.get_running_loop()
        return loop.call_at(loop.time() + when - self.now(), callback, *arguments)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def random(self, octets: int) -> bytes:
        return os.urandom(octets)
