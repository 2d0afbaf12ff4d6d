"""One part of what is kept in the kernel is gone: it is made again at once, however often, and that is told now and then.

Closing is never slowed: what goes again within MERGE_S of the last time is merged with it, and nothing waits longer. Only while the
kernel or nft refuses do attempts come less often, and they never end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host import HostError
from ipsec_dp.util.faults import explained
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from ipsec_dp.network.kept import Kept
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

MERGE_S = 0.01
AGAIN_MOST_S = 1.0  # between two attempts that fail
TOLD_S = 60.0  # a warning lasts so long after the last time
QUIET_S = 10.0  # between two lines about a fight
SOURCE = "kept"  # of conditions


class Restorer:
    """Of one part. `restored`: how often it was made again."""

    def __init__(self, part: Kept, conditions: Conditions, clock: Clock) -> None:
        self.part = part
        self._conditions, self._clock = conditions, clock
        self._gone = asyncio.Event()
        self._how, self._why = "", ""  # it went, for people
        self._busy = False  # it is being made
        self._waiting: list[asyncio.Future[None]] = []  # who wants to know what comes of the next attempt
        self._ended = False  # nothing is made any more
        self._pause = MERGE_S  # after an attempt that fails
        self.restored = 0
        self._last = -TOLD_S  # when it was restored last
        self._untold = 0  # times since the last line

    def lose(self, how: str, why: str = "") -> None:
        """It is not as it should be; `how` it came to that ("was deleted by nft"), and who usually does that or what would help."""
        self._how, self._why = how, why
        self._gone.set()

    async def check(self, *, cheaply: bool = True) -> None:
        """Compares it with the kernel; what is not there will be made. HostError when it cannot be compared."""
        if not self._gone.is_set() and not await self.part.is_whole(cheaply=cheaply):
            self.lose(self.part.how)

    async def settled(self) -> None:
        """Comes back when it is as it should be, as far as anybody knows. HostError: it cannot be made, or is kept no longer."""
        if self._ended:
            raise self._kept_no_longer
        if self._gone.is_set() or self._busy:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]

    async def run(self) -> None:
        """Never ends by itself; whoever waits when it is ended hears of it."""
        try:
            await Rounds(self.part.what, self._conditions, self._clock).run(self._make)
        finally:
            self._ended = True
            self._answer(self._kept_no_longer)

    @property
    def _kept_no_longer(self) -> HostError:
        return HostError(f"{self.part.what} is kept no longer")

    async def _make(self) -> None:
        await self._gone.wait()
        began, how, why = self._clock.now(), self._how, self._why
        self._gone.clear()
        self._busy = True
        try:
            with explained("an attempt broke off"):
                made = await self.part.restore()
        except IpsecDpError as error:
            self._failed(error)
            await self._clock.sleep(self._pause)
            self._pause = min(AGAIN_MOST_S, 2 * self._pause)
            return
        finally:
            self._busy = False
        self._pause = MERGE_S
        self._conditions.end(SOURCE, f"{self.part.name} missing")
        self._answer(None)
        if made:
            self._tell(f"{self.part.what}: {how}, and made again at once" + (f"; {why}" if why else ""))
        await self._clock.sleep(min(MERGE_S, max(0.0, began + MERGE_S - self._clock.now())))

    def _failed(self, error: Exception) -> None:
        what = self.part.what
        text = f"{what}: {self._how}, and cannot be made again: {error}; this is tried until it succeeds; everything else holds"
        self._conditions.begin(SOURCE, f"{self.part.name} missing", text)
        self._gone.set()
        self._answer(HostError(text))

    def _answer(self, error: HostError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.cancelled():
                continue
            if error is None:
                each.set_result(None)
            else:
                each.set_exception(error)

    def _tell(self, text: str) -> None:
        now = self._clock.now()
        first = now - self._last >= TOLD_S
        self.restored += 1
        self._last = now
        if first:
            self._conditions.begin(SOURCE, self.part.name, text)
            self._clock.call_at(now + QUIET_S, self._tell_more)
            self._clock.call_at(now + TOLD_S, self._end)
        else:
            self._untold += 1

    def _tell_more(self) -> None:
        """The line about a fight, for as long as it goes on."""
        if self._untold:
            log.warning(
                "%s: %s again %d times in %g s, and made again",
                self.part.what,
                self._how,
                self._untold,
                QUIET_S,
                extra=told("restored_again", part=self.part.name, count=self._untold),
            )
            self._untold = 0
        if self._clock.now() - self._last < TOLD_S:
            self._clock.call_at(self._clock.now() + QUIET_S, self._tell_more)

    def _end(self) -> None:
        left = self._last + TOLD_S - self._clock.now()
        if left > 0:
            self._clock.call_at(self._clock.now() + left, self._end)
        else:
            self._conditions.end(SOURCE, self.part.name)
