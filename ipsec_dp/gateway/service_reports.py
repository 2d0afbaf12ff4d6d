"""What a gateway tells the service manager while it is up: how many of its tunnels are, and that it lives.

It lives while the event loop runs this and every loop of the data plane has let go of its packets since the last time: where one
of both hangs the watchdog hears nothing, and the manager starts the gateway anew. The guard stays closed in between.
"""

from __future__ import annotations

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

    async def tunnels_up(self) -> tuple[int, int]:
        """How many are, and how many are configured."""

    def loops_pass(self) -> bool:
        """Whether every loop of the data plane has let go of its packets since the last call that said so."""


class ServiceReports:
    """Of one gateway to one service manager."""

    def __init__(self, manager: ServiceManager, gateway: Reported, clock: Clock) -> None:
        self._manager, self._gateway, self._clock = manager, gateway, clock
        self._beat_s = STATUS_S if manager.watchdog_s is None else min(STATUS_S, manager.watchdog_s / BEATS)
        self._count_at = float("-inf")
        self._rounds = Rounds("reports to the service manager", gateway.conditions, clock)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._rounds.run(self._turn)

    async def _turn(self) -> None:
        if self._manager.watchdog_s is not None:
            self._beat(self._manager.watchdog_s)
        began = self._clock.now()
        if began >= self._count_at:
            self._count_at = began + STATUS_S
            with self._rounds.told("status"):
                up, configured = await self._gateway.tunnels_up()
                self._count_at = began + max(STATUS_S, (self._clock.now() - began) / STATUS_SHARE)
                self._manager.status(f"{up} of {configured} tunnel{'' if configured == 1 else 's'} up")
        await self._clock.sleep(self._beat_s)

    def _beat(self, watchdog_s: float) -> None:
        if self._gateway.loops_pass():
            self._gateway.conditions.end(SOURCE, "hangs")
            self._manager.alive()
        else:
            text = f"a loop of the data plane does not go on; the service manager starts the gateway anew after {watchdog_s:g} s"
            self._gateway.conditions.begin(SOURCE, "hangs", text)
