"""How far a gateway is that calls many peers at its start: a line of the log now and then, for whoever waits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MANY: Final = 20  # tunnels: the lines of fewer tell by themselves
BETWEEN_S: Final = 5.0
STILL_S: Final = 60.0  # without another tunnel: then there is nothing to wait for


class BringUp:
    """`called`: the tunnels that the gateway calls by itself; `came_up` counts those of them that have been up. `look` is called
    each second."""

    def __init__(self, called: int, came_up: Callable[[], int], now: Callable[[], float]) -> None:
        self._called, self._came_up, self._now = called, came_up, now
        self._ended = called < MANY
        self._began = self._told_at = self._grew_at = now()
        self._before = 0

    def look(self) -> None:
        if self._ended:
            return
        now, up = self._now(), self._came_up()
        if up != self._before:
            self._before, self._grew_at = up, now
        took = f"{now - self._began:.0f} s after the start"
        if up >= self._called:
            self._ended = True
            log.info("all %d tunnels that are called at start are up, %s", self._called, took, extra=told("bring_up"))
        elif now - self._grew_at >= STILL_S:
            self._ended = True
            why = "`ipsec-dp status --state failed` says why others are not"
            log.info(
                "%d of %d tunnels that are called at start are up, %s; %s", up, self._called, took, why, extra=told("bring_up")
            )
        elif now - self._told_at >= BETWEEN_S:
            self._told_at = now
            log.info("%d of %d tunnels that are called at start are up, %s", up, self._called, took, extra=told("bring_up"))
