"""A change that goes back by itself unless somebody who can still reach this host confirms it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.errors import ControlError
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.config import Config
    from ipsec_dp.util.clock import Clock, Timer
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

SOURCE = "confirmation"


@dataclass(frozen=True, slots=True)
class Trial:
    """A start that has to be confirmed within `seconds`, or ends closed as `retreat` says. `way`: what passes then."""

    seconds: float
    retreat: Config
    way: str = ""

    @property
    def otherwise(self) -> str:
        """What becomes of it unless it is confirmed."""
        passes = f"nothing but {self.way} passes" if self.way else "nothing passes"
        return f"the gateway stops, and of what it protects {passes}"


@dataclass(slots=True)
class Unconfirmed:
    """A change that waits, or waited."""

    what: str
    timer: Timer
    confirmed: bool = False


class Confirmation:
    """Of one gateway: at most one change waits. While it does, `status` shows it among the warnings."""

    def __init__(self, conditions: Conditions, clock: Clock) -> None:
        self._conditions, self._clock = conditions, clock
        self._change: Unconfirmed | None = None

    @property
    def waits_for(self) -> str | None:
        """What is not confirmed yet ("the reload of a.toml")."""
        return None if self._change is None else self._change.what

    def expect(self, gateway: str, what: str, seconds: float, otherwise: str, go_back: Callable[[], None]) -> Unconfirmed:
        """Calls back unless `confirm` or `cancel` comes within `seconds`. `otherwise`: what that then means."""

        def over() -> None:
            self.cancel()
            log.error("%s was not confirmed within %g s: %s", what, seconds, otherwise, extra=told("not_confirmed"))
            go_back()

        self.cancel()
        self._change = Unconfirmed(what, self._clock.call_at(self._clock.now() + seconds, over))
        text = f"{what} waits for `ipsec-dp confirm {gateway}`, for {seconds:g} s; otherwise {otherwise}"
        self._conditions.begin(SOURCE, "", text)
        return self._change

    def confirm(self) -> str:
        """What is kept. Raises ControlError when nothing waits."""
        if self._change is None:
            raise ControlError("nothing waits to be confirmed")
        what, self._change.confirmed = self._change.what, True
        self.cancel()
        log.info("%s is confirmed", what, extra=told("confirmed"))
        return what

    def cancel(self) -> None:
        """Nothing waits any more, and nothing goes back."""
        if self._change is not None:
            self._change.timer.cancel()
        self._change = None
        self._conditions.end(SOURCE, "")
