"""`initiate --wait` and `terminate --wait`: what came of it, by asking for the tunnel's status again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.gateway.status import TunnelStatus

INTERVAL_S: Final = 0.2
# A gateway that calls many peers begins an attempt later than it is asked: until then the state is that of the one before.
BEGUN_S: Final = 5.0
THERE: Final = frozenset({"up", "rekeying"})
UNDER_WAY: Final = frozenset({"negotiating", "partial"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done`: what was asked for is so. `why`: why not."""

    done: bool
    tunnel: TunnelStatus
    waited_s: float
    why: str = ""


class Wait:
    """For one tunnel, at most `limit_s` seconds. `fetch` gives its status; `before`: that before it was asked."""

    def __init__(
        self,
        before: TunnelStatus,
        fetch: Callable[[], TunnelStatus],
        *,
        limit_s: float,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._before, self._fetch, self._limit_s, self._now, self._sleep = before, fetch, limit_s, now, sleep
        self._began = now()

    def until_up(self) -> Outcome:
        """Until everything wanted has an SA, or the attempt came to nothing."""
        begun = False
        while True:
            tunnel, waited = self._look()
            begun = begun or tunnel.state in UNDER_WAY or tunnel.last_error != self._before.last_error or waited >= BEGUN_S
            if tunnel.state in THERE:
                return Outcome(True, tunnel, waited)
            lost = tunnel.state not in UNDER_WAY or (tunnel.state == "partial" and tunnel.last_error is not None)
            if begun and lost:
                return Outcome(False, tunnel, waited, _why(tunnel))
            if waited >= self._limit_s:
                return Outcome(False, tunnel, waited, f"not up after {self._limit_s:g} s: {_why(tunnel)}")
            self._sleep(INTERVAL_S)

    def until_gone(self) -> Outcome:
        """Until the IKE SA and the CHILD_SAs that it had are gone; another that came meanwhile is another."""
        before = _sas(self._before)
        while True:
            tunnel, waited = self._look()
            if not before & _sas(tunnel):
                return Outcome(True, tunnel, waited)
            if waited >= self._limit_s:
                return Outcome(False, tunnel, waited, f"still there after {self._limit_s:g} s: {_why(tunnel)}")
            self._sleep(INTERVAL_S)

    def _look(self) -> tuple[TunnelStatus, float]:
        tunnel = self._fetch()
        return tunnel, self._now() - self._began


def _sas(tunnel: TunnelStatus) -> set[str]:
    """By the SPIs that are ours or the IKE SA's."""
    ike = set() if tunnel.ike is None else {tunnel.ike.spi_i + tunnel.ike.spi_r}
    return ike | {child.spi_in for child in tunnel.children if child.spi_in is not None}


def _why(tunnel: TunnelStatus) -> str:
    """The state in words, with what went wrong."""
    said = tunnel.state if tunnel.state_text in ("", tunnel.state) else f"{tunnel.state}, {tunnel.state_text}"
    return said if tunnel.last_error is None or tunnel.last_error in said else f"{said}: {tunnel.last_error}"
