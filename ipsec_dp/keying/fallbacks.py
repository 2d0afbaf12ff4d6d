"""What a person is told while a tunnel is up by an older version of IKE than it prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ipsec_dp.util.conditions import Conditions

SOURCE: Final = "fallback"


class Fallbacks:
    """A warning for each such tunnel, as long as that lasts."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def look(self, tunnel: str, why: str | None) -> None:
        """`why`: the peer is met by the older version; None: it is not."""
        if why is None:
            self._conditions.end(SOURCE, tunnel)
            return
        text = (
            f'tunnel "{tunnel}": its peer is met by IKEv1, a fallback: {why}; IKEv2 is tried anew at each renewal of phase 1; '
            'set the peer to IKEv2 where it can, else write version = "1" here'
        )
        self._conditions.begin(SOURCE, tunnel, text)
