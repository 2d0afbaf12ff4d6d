"""Events that any stranger can cause: each kind is reported at most so often."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Kind


class RareEvents:
    """Knows when each kind was last reported."""

    def __init__(self) -> None:
        self._quiet_until: dict[Kind, float] = {}

    def may_tell(self, kind: Kind, now: float, every: float) -> bool:
        """True when the last one is `every` seconds ago; it is reported now, then."""
        if now < self._quiet_until.get(kind, now):
            return False
        self._quiet_until[kind] = now + every
        return True
