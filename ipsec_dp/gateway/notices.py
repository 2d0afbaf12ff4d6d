"""What strangers and traffic cause again and again: logged now and then, and remembered as the last error of a tunnel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from ipsec_dp.config import Config
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.util.clock import Clock

log = logging.getLogger("ipsec_dp")

QUIET_S = 10.0  # between two log lines about the same thing


class LastError(NamedTuple):
    """What went wrong with a tunnel last, and when, in seconds of the clock."""

    text: str
    at: float


class Notices:
    """Of one gateway."""

    def __init__(self, clock: Clock, strangers: StrangersEvents) -> None:
        """`strangers`: which events that they cause may be told, over all of this gateway."""
        self._clock, self._strangers = clock, strangers
        self._last_error: dict[str, LastError] = {}
        self._logged: dict[str, float] = {}

    def reconfigure(self, config: Config) -> None:
        """Forgets the tunnels that are gone."""
        for name in [name for name in self._last_error if not config.has_tunnel(name)]:
            del self._last_error[name]

    def add(self, level: int, text: str, *, tunnel: str | None = None, key: str | None = None) -> None:
        """Logs, the same thing (`key`, else the text) once in QUIET_S; for a tunnel it is its last error too."""
        now, text = self._clock.now(), shown(text, LINE)
        if tunnel is not None:
            self._last_error[tunnel] = LastError(text, now)
        key = text if key is None else key
        if now - self._logged.get(key, -QUIET_S) < QUIET_S:
            return
        if len(self._logged) >= LIMITS.texts:
            self._logged.clear()
        self._logged[key] = now
        log.log(level, "%s", text)

    def add_of_stranger(self, level: int, text: str, what: str) -> None:
        """Logs what anybody can cause, from as many addresses as he likes: rarely about the same `what`, and little in all."""
        if self._strangers.may_tell(what, self._clock.now()):
            log.log(level, "%s", shown(text))

    def last_error(self, tunnel: str) -> LastError | None:
        return self._last_error.get(tunnel)
