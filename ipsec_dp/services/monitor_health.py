"""Whether a tunnel carries traffic: probes sent and answered are counted here, without socket or clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ipsec_dp.util.leaves import Here

PENDING_MAX = 16  # probes whose answer may still come late


class MonitorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` says of a monitor. Every field has a default, so that an answer of another version can be shown too."""

    state: str = "?"
    target: str = ""
    source: str | None = None
    action: str = ""
    rtt_ms: float | None = None
    sent: int = 0
    lost: int = 0
    lost_in_a_row: int = 0


class HealthState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a `Health` knows, for another process of this host. The answer to the last probe is not waited for there."""

    up: Here[bool]
    asked: Here[int]
    lost: Here[int]
    lost_in_a_row: Here[int]
    answered_in_a_row: Here[int]
    rtt_s: Here[float | None]


@dataclass
class Health:
    """`threshold` probes lost in a row: down; as many answered in a row: up again. It begins up, so that a start moves no route.

    A probe is lost when it has no answer by the time of the next one. A later answer still counts: it ends the row of lost ones.
    Times are seconds of one clock that the caller owns.
    """

    threshold: int
    up: bool = True
    asked: int = 0
    lost: int = 0
    lost_in_a_row: int = 0
    answered_in_a_row: int = 0
    rtt_s: float | None = None
    _pending: dict[int, float] = field(default_factory=dict)

    def export(self) -> HealthState:
        return HealthState(self.up, self.asked, self.lost, self.lost_in_a_row, self.answered_in_a_row, self.rtt_s)

    def resume(self, state: HealthState) -> None:
        """Goes on from there."""
        self.up, self.asked, self.lost, self.rtt_s = state.up, state.asked, state.lost, state.rtt_s
        self.lost_in_a_row, self.answered_in_a_row = state.lost_in_a_row, state.answered_in_a_row

    def ask(self, now: float) -> tuple[int, bool]:
        """The sequence number of the next probe (1..65535, then 0), and whether the loss of the one before took the tunnel down."""
        before = self.up
        if self.asked and self.asked % 65536 in self._pending:
            self.lost += 1
            self.lost_in_a_row += 1
            self.answered_in_a_row = 0
            self.up = self.up and self.lost_in_a_row < self.threshold
        self.asked += 1
        sequence = self.asked % 65536
        self._pending[sequence] = now
        while len(self._pending) > PENDING_MAX:
            del self._pending[next(iter(self._pending))]
        return sequence, before and not self.up

    def answered(self, sequence: int, now: float) -> bool:
        """Counts an answer, unless it is a second one or belongs to no probe. Whether it brought the tunnel up."""
        at = self._pending.pop(sequence, None)
        if at is None:
            return False
        self.rtt_s = now - at
        self.lost_in_a_row = 0
        self.answered_in_a_row += 1
        recovered = not self.up and self.answered_in_a_row >= self.threshold
        self.up = self.up or recovered
        return recovered
