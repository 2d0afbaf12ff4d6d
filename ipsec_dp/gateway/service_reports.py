"""What a gateway tells the service manager while it is up: how many of its tunnels are, and that it lives.

It lives while the event loop runs this and every loop of the data plane has let go of its packets since the last time: where one
of both hangs the watchdog hears nothing, and the manager starts the gateway anew. The guard stays closed in between. A gateway that
takes another process's place lives by what it gets done: where a step takes too long the watchdog hears nothing either.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.util.loops import Rounds

if TYPE_CHECKING:
    from ipsec_dp.host.service_manager import ServiceManager
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

STATUS_S = 2.0
STATUS_SHARE = 0.02  # of the time, at the most, goes into counting: thousands of tunnels are counted less often
BEATS = 3  # in the time that the watchdog allows
SOURCE = "data plane"  # of conditions


class Reported(Protocol):
    """A gateway that is up."""

    @property
    def conditions(self) -> Conditions: ...

    async def tunnels_up(self) -> tuple[int, int] | None:
        """How many are, and how many are configured; None: nobody knows yet."""

    def loops_pass(self) -> bool:
        """Whether every loop of the data plane has let go of its packets since the last call that said so."""


class ServiceReports:
    """Of one gateway to one service manager."""

    def __init__(self, manager: ServiceManager, gateway: Reported, clock: Clock) -> None:
        self._manager, self._gateway, self._clock = manager, gateway, clock
        self._beat_s = STATUS_S if manager.watchdog_s is None else min(STATUS_S, manager.watchdog_s / BEATS)
        self._count_at = float("-inf")
        self._rounds = Rounds("reports to the service manager", gateway.conditions, clock)
        self._task: asyncio.Task[None] | None = None
        self._until = math.inf  # it lives, unless it gets something done before

    def lives(self, seconds: float = math.inf) -> None:
        """A step is done, and the next one has so many seconds. The first call begins: this process is the service manager's."""
        self._until = self._clock.now() + seconds
        if self._task is not None:
            self._beat()
        elif self._manager.asks:
            self._task = asyncio.get_running_loop().create_task(self.run())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._rounds.run(self._turn)

    async def _turn(self) -> None:
        self._beat()
        began = self._clock.now()
        if began >= self._count_at:
            self._count_at = began + STATUS_S
            with self._rounds.told("status"):
                found = await self._gateway.tunnels_up()
                self._count_at = began + max(STATUS_S, (self._clock.now() - began) / STATUS_SHARE)
                if found is not None:
                    self._manager.status(f"{found[0]} of {found[1]} tunnel{'' if found[1] == 1 else 's'} up")
        await self._clock.sleep(self._beat_s)

    def _beat(self) -> None:
        if self._manager.watchdog_s is None:
            return
        found = {
            "a loop of the data plane": not self._gateway.loops_pass(),
            "what comes after an upgrade": self._clock.now() > self._until,
        }
        for what, hangs in found.items():
            if hangs:
                text = f"{what} does not go on; the service manager starts the gateway anew after {self._manager.watchdog_s:g} s"
                self._gateway.conditions.begin(SOURCE, what, text)
            else:
                self._gateway.conditions.end(SOURCE, what)
        if not any(found.values()):
            self._manager.alive()
