"""What is wrong at the moment: told when it begins, listed while it lasts."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from ipsec_dp.util.text import LINE, shown
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

QUIET_S = 10.0  # between two log lines about the same thing that comes and goes
KEYS_MAX = 1024  # things whose last line is remembered


class Conditions:
    """Of one gateway. A condition belongs to `source` (who looks for it) and has a `key` there; its text names cause and remedy."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._present: dict[tuple[str, str], str] = {}
        self._of: defaultdict[str, set[str]] = defaultdict(set)  # keys, by source
        self._logged: dict[tuple[str, str], tuple[str, float]] = {}  # the last line about it, and when

    @property
    def texts(self) -> list[str]:
        """Of those that last, the oldest first."""
        return list(self._present.values())

    def begin(self, source: str, key: str, text: str) -> None:
        """It holds now. A WARNING when it did not before, or reads otherwise; the same line once in QUIET_S."""
        text = shown(text, LINE)
        before = self._present.get((source, key))
        self._present[source, key] = text
        self._of[source].add(key)
        if before != text:
            self._log((source, key), text)

    def end(self, source: str, key: str) -> None:
        """It holds no longer, or never did."""
        self._present.pop((source, key), None)
        self._of[source].discard(key)

    def become(self, source: str, found: Mapping[str, str]) -> None:
        """Everything that `source` sees now, text by key: what it saw before and does not now has ended."""
        for key in self._of[source] - found.keys():
            self.end(source, key)
        for key, text in found.items():
            self.begin(source, key, text)

    def _log(self, key: tuple[str, str], text: str) -> None:
        now = self._clock.now()
        last_text, at = self._logged.get(key, ("", 0.0))
        if last_text == text and now - at < QUIET_S:
            return
        if len(self._logged) >= KEYS_MAX:
            self._logged.clear()
        self._logged[key] = text, now
        log.warning("%s", text, extra=told("condition", source=key[0], key=key[1]))
