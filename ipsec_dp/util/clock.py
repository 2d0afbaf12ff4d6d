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
    """What time it is, what happens later, and what nobody can foretell. Times are seconds of one clock, that of the data plane."""

    def now(self) -> float:
        """Never goes back, goes on while the host is suspended, and has no relation to the calendar."""

    def utc(self) -> datetime:
        """The date and time, with its time zone; for certificates and log lines."""

    def call_at(self, when: float, callback: Callable[[*Ts], object], *arguments: *Ts) -> Timer:
        """Calls back in the event loop's thread at `when` of `now`, or at once where that is over."""

    async def sleep(self, seconds: float) -> None:
        """Comes back after `seconds`, at the earliest after everything else that is due now."""

    async def pause(self, seconds: float, until: Callable[[], float] | None = None) -> None:
        """`sleep`, between two looks at what tells nobody. A rig's may be longer, while nothing happens that a look could find:
        it is at what packets and the host do, and with `until` besides at what is due by itself, when that says (`now`; inf:
        nothing is), which what IKE does may change."""

    def skipped(self) -> float:
        """Seconds of `now` that passed because nothing was due, and that nobody lived through; 0.0 but in rigs."""

    def random(self, octets: int) -> bytes:
        """Octets fit for keys."""


class _Call:
    """A call that is to come at `when` of a clock that a suspended host does not stop."""

    __slots__ = ("_pending", "arguments", "callback", "handle", "when")

    def __init__(self, when: float, callback: Callable[..., object], arguments: tuple[object, ...], pending: set[_Call]) -> None:
        self.when, self.callback, self.arguments, self._pending = when, callback, arguments, pending
        self.handle: asyncio.TimerHandle | None = None
        pending.add(self)

    def arm(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        if self.handle is not None:
            self.handle.cancel()
        self.handle = loop.call_at(loop.time() + delay, self._run)

    def cancel(self) -> None:
        self._pending.discard(self)
        if self.handle is not None:
            self.handle.cancel()

    def _run(self) -> None:
        self._pending.discard(self)
        self.callback(*self.arguments)


LOOK_S = 1.0  # how late a call may be that fell due while the host was suspended
ASLEEP_S = 0.1  # the two clocks part by more than this only while the host is suspended


class SystemClock:
    """The machine's: CLOCK_BOOTTIME, the event loop's timers, the kernel's randomness.

    Lifetimes go on while a host is suspended, and so does CLOCK_BOOTTIME; CLOCK_MONOTONIC, by which the event loop waits, does not.
    How far one is ahead of the other shows that the host was suspended: then what is to come is set anew.
    """

    def __init__(self) -> None:
        self._pending: set[_Call] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ahead = 0.0  # of the event loop's clock
        self._looking = False

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *arguments: *Ts) -> Timer:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._pending, self._looking = loop, set(), False
            self._ahead = self.now() - loop.time()
        self._compare(loop)
        call = _Call(when, callback, arguments, self._pending)
        call.arm(loop, when - self.now())
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_S, self._look, loop)
        return call

    def _compare(self, loop: asyncio.AbstractEventLoop) -> None:
        """What fell due while the host was suspended is due now."""
        ahead = self.now() - loop.time()
        if abs(ahead - self._ahead) > ASLEEP_S:
            self._ahead = ahead
            for call in self._pending:
                call.arm(loop, call.when - self.now())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._compare(loop)
        self._looking = bool(self._pending)
        if self._looking:
            loop.call_later(LOOK_S, self._look, loop)

    async def sleep(self, seconds: float) -> None:
        await sleep_on(self, seconds)

    async def pause(self, seconds: float, until: Callable[[], float] | None = None) -> None:
        del until
        await self.sleep(seconds)

    def skipped(self) -> float:
        return 0.0

    def random(self, octets: int) -> bytes:
        return os.urandom(octets)


async def sleep_on(clock: Clock, seconds: float) -> None:
    """`Clock.sleep` by means of its `call_at`."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    over = asyncio.get_running_loop().create_future()
    timer = clock.call_at(clock.now() + seconds, wake, over)
    try:
        await over
    finally:
        timer.cancel()


def wake(over: asyncio.Future[None]) -> None:
    """Ends what waits for `over`; nothing when it has ended."""
    if not over.done():
        over.set_result(None)
