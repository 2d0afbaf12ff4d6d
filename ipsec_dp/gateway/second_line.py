"""Says when what we sent ourselves comes out of a tunnel interface, where the data plane drops it, and who usually causes that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.host import MARK

if TYPE_CHECKING:
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

SOURCE, KEY = "second line", "own outer packets"
LASTS_S = 60.0  # after the last such packet: a tunnel that is down asks again within that time

TEXT = (
    "our own ESP or IKE packets come back into a tunnel interface and are dropped there, so no tunnel that way carries anything: "
    f"something sets another mark on them than ours ({MARK:#x}), by which they pass by our routes. Usually that is a rule of an "
    "output chain (nft: `meta mark set`; iptables: -t mangle -j MARK, CONNMARK --restore-mark), else an `ip rule` before ours; "
    f"look for it with `nft list ruleset` and `ip rule`, and have it leave packets with mark {MARK:#x} alone"
)


class SecondLine:
    """Of one data plane. `look` is to be called each second."""

    def __init__(self, plane: DataPlane, conditions: Conditions, clock: Clock) -> None:
        self._plane, self._conditions, self._clock = plane, conditions, clock
        self._count = 0
        self._last = -LASTS_S

    def look(self) -> None:
        """The condition begins with the first such packet, and ends LASTS_S after the last."""
        count, now = self._plane.counters().drops["own_outer"], self._clock.now()
        if count != self._count:
            self._count, self._last = count, now
            self._conditions.begin(SOURCE, KEY, TEXT)
        elif now - self._last >= LASTS_S:
            self._conditions.end(SOURCE, KEY)
