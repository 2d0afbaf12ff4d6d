"""What strangers and traffic cause again and again: logged now and then, with how often it came meanwhile, and remembered as the
last error of a tunnel."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.text import LINE, shown
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from ipsec_dp.config import Config
    from ipsec_dp.ike.strangers import StrangersEvents
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

QUIET_S = 10.0  # between two log lines about the same thing
NO_EVENT: Final = told("note")


class LastError(NamedTuple):
    """What went wrong with a tunnel last, and when, in seconds of the clock."""

    text: str
    at: float


@dataclass(slots=True)
class _Told:
    """A thing that was logged `at` a time, and came `more` times since; its last text."""

    at: float
    level: int
    text: str
    fields: dict[str, object]
    more: int = 0

    def log(self) -> None:
        log.log(self.level, "%s", self.text, extra=self.fields)

    def log_with(self, more: int) -> None:
        """And how often it came beside the times that were logged."""
        log.log(self.level, "%s (%d more in %g s)", self.text, more, QUIET_S, extra=self.fields)


class Notices:
    """Of one gateway."""

    def __init__(self, clock: Clock, strangers: StrangersEvents) -> None:
        """`strangers`: which events that they cause may be told, over all of this gateway."""
        self._clock, self._strangers = clock, strangers
        self._last_error: dict[str, LastError] = {}
        self._logged: dict[str, _Told] = {}  # those logged last are last

    def reconfigure(self, config: Config) -> None:
        """Forgets the tunnels that are gone."""
        for name in [name for name in self._last_error if not config.has_tunnel(name)]:
            del self._last_error[name]

    def add(
        self, level: int, text: str, fields: dict[str, object] = NO_EVENT, *, tunnel: str | None = None, key: str | None = None
    ) -> None:
        """Logs, the same thing (`key`, else the text) once in QUIET_S; for a tunnel it is its last error too. `fields`: of
        `told`."""
        now, text = self._clock.now(), shown(text, LINE)
        if tunnel is not None:
            self._last_error[tunnel] = LastError(text, now)
        key = text if key is None else key
        before = self._logged.get(key)
        if before is not None and now - before.at < QUIET_S:
            before.level, before.text, before.fields = level, text, fields
            before.more += 1
            return
        self._logged.pop(key, None)
        if len(self._logged) >= LIMITS.texts:
            self._logged.clear()
        self._logged[key] = new = _Told(now, level, text, fields)
        if before is not None and before.more:
            new.log_with(before.more)
        else:
            new.log()

    def look(self) -> None:
        """Once a second: what came more often than it was logged is summed up, when it is QUIET_S old."""
        now = self._clock.now()
        over = []
        for key, one in self._logged.items():
            if now - one.at < QUIET_S:
                break
            over.append(key)
        for key in over:
            one = self._logged.pop(key)
            if one.more:
                one.log_with(one.more)
                one.at, one.more = now, 0  # it goes on, it seems: QUIET_S to the next line
                self._logged[key] = one

    def add_of_stranger(self, level: int, text: str, what: str, fields: dict[str, object] = NO_EVENT) -> None:
        """Logs what anybody can cause, from as many addresses as he likes: rarely about the same `what`, and little in all."""
        if self._strangers.may_tell(what, self._clock.now()):
            log.log(level, "%s", shown(text), extra=fields)

    def last_error(self, tunnel: str) -> LastError | None:
        return self._last_error.get(tunnel)
