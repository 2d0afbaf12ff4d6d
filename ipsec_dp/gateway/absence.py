"""A host that was suspended or a process that was stopped: lifetimes went on, and nobody knows what became of the peers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.gateway.notices import Notices
    from ipsec_dp.util.clock import Clock

GAP_S = 5.0  # more than the event loop is ever held up by work


class Absence:
    """Of one gateway. `look` is to be called each second; `returned` is called after a gap."""

    def __init__(self, clock: Clock, notices: Notices, returned: Callable[[], None]) -> None:
        self._clock, self._notices, self._returned = clock, notices, returned
        self._looked = clock.now() - clock.skipped()

    def look(self) -> None:
        """Tells how long nothing ran, and asks the peers whether they are there."""
        now = self._clock.now() - self._clock.skipped()
        gap, self._looked = now - self._looked, now
        if gap < GAP_S:
            return
        text = (
            f"this host was suspended, or this process stopped or without a processor, for {gap:.0f} s: lifetimes went on, what "
            "ended meanwhile is negotiated anew, and every peer is asked whether it is still there"
        )
        self._notices.add(logging.WARNING, text, told("absence"), key="absence")
        self._returned()
