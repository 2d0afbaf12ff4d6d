"""A clock that moves only when it is advanced, so that hours pass at once for whatever takes `now`.

`Clock` is the time of a rig. Each gateway has a `GatewayClock` of it, which is `ipsec_dp.util.clock.Clock`: randomness of its own,
and pauses that last as long as nothing happens to this gateway, so that a day without traffic is a few events.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ipsec_dp.util.clock import sleep_on, wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.util.clock import Ts

NS_PER_S = 1_000_000_000
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # of the calendar, where a clock begins


def check_step(seconds: float) -> None:
    """Raises ValueError for a step back, and for one that has no end or is no number."""
    if seconds < 0:
        raise ValueError(f"time does not go back by {-seconds:g} s")
    if not isfinite(seconds):
        raise ValueError(f"time does not move on by {seconds:g} s: say how many")


class RigTimer:
    """A call that is to come, unless it is cancelled."""

    __slots__ = ("_arguments", "_callback", "cancelled")

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...] = ()) -> None:
        self._callback, self._arguments = callback, arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if not self.cancelled:
            self._callback(*self._arguments)


class Clock:
    """Monotonic time for a rig. Called, it gives seconds, as `time.monotonic` does; the data plane takes `ns`."""

    def __init__(self, seconds: float = 1000.0, *, seed: int | str = 0) -> None:
        """`seconds`: where it starts. Not at 0 by default, since 0 means "never" in an SA's times. `seed`: of all randomness of the
        gateways that go by this clock."""
        self._seconds = self._began = float(seconds)
        self._leapt = 0.0
        self.seed = seed
        self._numbers = count()
        self._pending: list[tuple[float, int, RigTimer]] = []
        self.runner: Callable[[float], None] | None = None  # of the network whose clock it is: lets so many seconds happen

    def __call__(self) -> float:
        return self._seconds

    def now(self) -> float:
        return self._seconds

    @property
    def seconds(self) -> float:
        return self._seconds

    @property
    def ns(self) -> int:
        return round(self._seconds * NS_PER_S)

    def utc(self) -> datetime:
        """The date and time; a clock begins with the year 2026."""
        return EPOCH + timedelta(seconds=self._seconds - self._began)

    def advance(self, seconds: float) -> int:
        """Moves on by `seconds` and returns the new time in nanoseconds; what is due on the way happens, in order. Raises
        ValueError for a step back."""
        check_step(seconds)
        if self.runner is None:
            self._seconds += seconds
        else:
            self.runner(seconds)
        return self.ns

    def leap(self, seconds: float) -> int:
        """Moves on by `seconds` at once, as the clock of a host does that is suspended: what was due on the way is due then."""
        check_step(seconds)
        self._seconds += seconds
        self._leapt += seconds
        return self.advance(0)

    # ---- what is to come

    @property
    def next_event(self) -> float | None:
        """When something happens next; None: nothing is to come."""
        while self._pending and self._pending[0][2].cancelled:
            heapq.heappop(self._pending)
        return self._pending[0][0] if self._pending else None

    def at(self, when: float, timer: RigTimer) -> RigTimer:
        """`timer` runs when time gets to `when`, or with the next step where that is over."""
        heapq.heappush(self._pending, (when, next(self._numbers), timer))
        return timer

    def jump(self, until: float) -> RigTimer | None:
        """Moves to the next event if it is due by `until`, and takes it; None: there is none until then, and time is `until`."""
        when = self.next_event
        if when is None or when > until:
            self._seconds = max(self._seconds, until)
            return None
        self._seconds = max(self._seconds, when)
        return heapq.heappop(self._pending)[2]

    @property
    def lived(self) -> float:
        """Seconds that passed but for leaps."""
        return self._seconds - self._began - self._leapt


class Randomness:
    """Octets that are the same in each run with one seed."""

    def __init__(self, seed: str) -> None:
        self._seed, self._drawn = seed, 0

    def __call__(self, octets: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_256(f"{self._seed} {self._drawn}".encode()).digest(octets)

    def chance(self) -> float:
        """From 0 up to 1."""
        return int.from_bytes(self(4)) / 2**32

    def number(self, below: int) -> int:
        """From 0 up to `below` without it."""
        return int.from_bytes(self(8)) % below


@dataclass(slots=True, eq=False)
class _Pause:
    """Of somebody who looks at something again and again: `due` is when it would end by itself. `asked`: `until` will be."""

    over: asyncio.Future[None]
    due: float
    seconds: float
    until: Callable[[], float] | None
    timer: RigTimer | None = None
    asked: bool = False

    def end(self) -> None:
        wake(self.over)


class GatewayClock:
    """`ipsec_dp.util.clock.Clock` of one gateway.

    A pause ends in time when something happened to the gateway's data plane or host since the last look of whoever pauses; else it
    lasts until something does, or until what `until` says, and ends where a pause of the asked length would have. Whatever else
    happens to the gateway may change what `until` says, so that it is asked again then.
    """

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock = clock
        self.random = Randomness(f"{clock.seed}/{name}")
        self._since: float | None = None  # when it was frozen
        self._stood = 0.0  # seconds in which it was
        self._gated: list[Callable[[], object]] = []
        self._happened = 0  # to data plane or host
        self._seen: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()  # what had happened when each looked last
        self._dormant: dict[_Pause, None] = {}

    def now(self) -> float:
        return self._clock.now()

    @property
    def ns(self) -> int:
        return self._clock.ns

    def utc(self) -> datetime:
        return self._clock.utc()

    def skipped(self) -> float:
        return self._clock.lived - self._stood

    # ---- a gateway that stands still

    @property
    def frozen(self) -> bool:
        """Whether it does."""
        return self._since is not None

    def gate(self, call: Callable[[], object]) -> None:
        """Calls now, or when the gateway goes on."""
        if self.frozen:
            self._gated.append(call)
        else:
            call()

    def freeze(self) -> None:
        """Whatever is due waits until `thaw`. Nothing when it is frozen."""
        if self._since is None:
            self._since = self._clock.now()

    def thaw(self) -> None:
        """What was due meanwhile comes now, in its order; nobody lived through that time."""
        if self._since is None:
            return
        self._stood += self._clock.now() - self._since
        self._since = None
        gated, self._gated = self._gated, []
        for call in gated:
            self._clock.at(self._clock.now(), RigTimer(call))
        self.touch(packets=True)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *arguments: *Ts) -> RigTimer:
        def run() -> None:
            self.touch()
            self.gate(partial(callback, *arguments))

        timer = RigTimer(run)
        if when > self._clock.now():
            return self._clock.at(when, timer)
        asyncio.get_running_loop().call_soon(timer.run)
        return timer

    async def sleep(self, seconds: float) -> None:
        await sleep_on(self, seconds)

    async def pause(self, seconds: float, until: Callable[[], float] | None = None) -> None:
        task, over = asyncio.current_task(), asyncio.get_running_loop().create_future()
        pause = _Pause(over, self._clock.now() + seconds, seconds, until)
        if task is None or self._seen.get(task) != self._happened:
            self._end_at(pause, pause.due)
        else:
            self._dormant[pause] = None
            self._ask(pause)
        try:
            await over
        finally:
            self._dormant.pop(pause, None)
            if pause.timer is not None:
                pause.timer.cancel()
        if task is not None:
            self._seen[task] = self._happened

    def _end_at(self, pause: _Pause, when: float) -> None:
        if pause.timer is not None:
            pause.timer.cancel()
        pause.timer = self._clock.at(when, RigTimer(self.gate, (pause.end,)))

    def _ask(self, pause: _Pause) -> None:
        """It ends when `until` says, as far as that is known now."""
        pause.asked = False
        until = inf if pause.until is None else pause.until()
        if until < inf:
            self._end_at(pause, _later(pause.due, pause.seconds, max(until, self._clock.now())))

    def _ask_later(self, pause: _Pause) -> None:
        """Where it would have ended, `until` is asked again."""
        pause.asked = True
        when = _later(pause.due, pause.seconds, self._clock.now())
        self._clock.at(when, RigTimer(self.gate, (partial(self._ask_dormant, pause),)))

    def _ask_dormant(self, pause: _Pause) -> None:
        if pause in self._dormant:
            self._ask(pause)

    def touch(self, *, packets: bool = False) -> None:
        """Something happens to the gateway (`packets`: to its data plane or host): whoever looks at that does so once more."""
        if not packets:
            for pause in self._dormant:
                if pause.until is not None and not pause.asked:
                    self._ask_later(pause)
            return
        self._happened += 1
        now = self._clock.now()
        for pause in self._dormant:
            self._end_at(pause, _later(pause.due, pause.seconds, now))
        self._dormant.clear()

    def wake(self) -> None:
        """Time was moved to where it is now on purpose: whoever would have looked on the way does so now."""
        now = self._clock.now()
        for pause in [pause for pause in self._dormant if pause.due <= now]:
            del self._dormant[pause]
            pause.end()


def _later(due: float, seconds: float, now: float) -> float:
    """The first end of a pause, one after the other, that is not before `now`."""
    return due if due >= now or seconds <= 0 else due + ceil((now - due) / seconds) * seconds
