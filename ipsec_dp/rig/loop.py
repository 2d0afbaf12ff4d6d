"""The event loop of a rig: nothing waits, and when nothing is left to do, time jumps to what is to come.

It stands beside whatever event loop its caller runs in: `run` comes back when it is asked to, and takes the time of the work alone.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.slices import unsliced

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Coroutine, Iterator

    from ipsec_dp.rig.clock import Clock

T = TypeVar("T")
Idle = Callable[[], bool]


class RigError(IpsecDpError):
    """A rig was used wrongly, or what was awaited did not come; the text says what is wrong, and who waits for what."""


@contextmanager
def _beside() -> Iterator[None]:
    """The loop that runs in this thread, if any, looks as if it did not, meanwhile."""
    outer = asyncio._get_running_loop()
    if outer is None:
        yield
        return
    task = asyncio.current_task(outer)
    if task is not None:
        asyncio.tasks._leave_task(outer, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)
        if task is not None:
            asyncio.tasks._enter_task(outer, task)


class _Selector(selectors.DefaultSelector):
    """Never waits: it looks at descriptors when `look` says that something may be there, and calls `idle` when nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.look = False
        self.idle: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.look:
            found = super().select(0)
            self.look = bool(found)
            if found:
                return found
        if timeout is None or timeout > 0:
            self.idle()
        return []


def _frames(coroutine: Any) -> list[str]:
    """The coroutines that one awaits, from itself inwards, by name."""
    names = []
    while coroutine is not None and hasattr(coroutine, "cr_await"):
        names.append(coroutine.__qualname__)
        coroutine = coroutine.cr_await
    return names


class RigLoop(asyncio.SelectorEventLoop):
    """`clock` is its time; `carry` moves packets on and says whether any moved."""

    def __init__(self, clock: Clock, carry: Callable[[], bool]) -> None:
        self._jumping = _Selector()
        self._jumping.idle = self._idle
        self._clock, self._carry = clock, carry
        super().__init__(self._jumping)
        self._goal: Callable[[], bool] = lambda: True
        self._ready: deque[asyncio.Handle]  # of asyncio: what is to run now
        self._scheduled: list[asyncio.TimerHandle]
        self._until: float | None = None
        self._waits = False
        self.stuck = False  # the last run ended since nothing was to come
        self._faults: list[BaseException] = []
        self.set_exception_handler(self._note_fault)

    def time(self) -> float:
        return self._clock.now()

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """At once: a rig has no threads."""
        del executor
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - as a thread would hand it over
            done.set_exception(error)
        return done

    def look(self) -> None:
        """A data plane may have reported something."""
        self._jumping.look = True

    def _note_fault(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._faults.append(context.get("exception") or RigError(context["message"]))

    def _idle(self) -> None:
        """Nothing is ready. Packets move on, else time does, as far as it may, until something is."""
        while not self._carry():
            if self._goal() or not self._next():
                self.stop()
                return
            if self._ready or self._scheduled:
                return

    def _next(self) -> bool:
        """Time goes to what is to come next, which happens; False: it may go no further."""
        self.stuck = self._waits and self._clock.next_event is None
        until = self._clock.next_event if self._until is None else self._until
        timer = None if self.stuck or until is None else self._clock.jump(until)
        if timer is None:
            return False
        try:
            timer.run()
        except Exception as error:  # noqa: BLE001 - as of any callback
            self.call_exception_handler({"message": "a timer", "exception": error})
        return True

    def run(self, goal: Callable[[], bool], until: float | None = None, *, waits: bool = False) -> bool:
        """Lets things happen until `goal` holds, which is asked whenever nothing is ready; whether it does. Not beyond `until` of
        the clock (None: as long as something is to come), where time stands in the end if it does not; with `waits` it
        stands where nothing is to come any more (`stuck`). Raises what a callback raised."""
        if self.is_closed():
            raise RigError("the rig is closed")
        if self.is_running():
            raise RigError("a rig cannot be run from within what it runs")
        self._goal, self._until, self._waits, self.stuck = goal, until, waits, False
        with _beside(), unsliced():
            self.run_forever()
        if self._faults:
            faults, self._faults = self._faults, []
            raise faults[0]
        return goal()

    def call(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """What `coroutine` returns or raises. RigError when it is not done after `seconds` of the clock."""
        with _beside(), unsliced():
            task = self.create_task(coroutine)
        if not self.run(task.done, self._clock.now() + seconds):
            task.cancel()
            self.run(task.done, self._clock.now())
            raise RigError(f"{_frames(coroutine)} is not done after {seconds:g} s; waiting: {self.waiting() or 'nobody'}")
        return task.result()

    def waiting(self) -> str:
        """Who waits for what, of all tasks."""
        return "; ".join(sorted({" > ".join(_frames(task.get_coro())[-2:]) for task in asyncio.all_tasks(self)}))

    def end(self) -> None:
        """Cancels what is left, and closes."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.run(lambda: not asyncio.all_tasks(self), self._clock.now())
        self.close()
