"""The time of gateways in network namespaces: it passes by itself, so to advance is to wait."""

from __future__ import annotations

import time
from typing import Final

from ipsec_dp.rig.loop import RigError

ADVANCE_MAX_S: Final = 60.0  # longer waits are for a rig in memory
NS_PER_S: Final = 1_000_000_000


class RealClock:
    """The system's monotonic clock, as a rig's `Clock` is asked."""

    def __call__(self) -> float:
        return self.now()

    def now(self) -> float:
        """Seconds."""
        return time.monotonic()

    @property
    def seconds(self) -> float:
        return self.now()

    @property
    def ns(self) -> int:
        return time.monotonic_ns()

    def advance(self, seconds: float) -> int:
        """Waits. ValueError for a step back, RigError for more than ADVANCE_MAX_S."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds:g} s")
        if seconds > ADVANCE_MAX_S:
            raise RigError(
                f"{seconds:g} s pass by themselves in a namespace, {ADVANCE_MAX_S:g} are the most: use a gateway in memory"
            )
        time.sleep(seconds)
        return self.ns

    def leap(self, seconds: float) -> int:
        """RigError: the machine's clock is everybody's."""
        raise RigError(f"the machine's clock cannot be moved on by {seconds:g} s: use a gateway in memory")
