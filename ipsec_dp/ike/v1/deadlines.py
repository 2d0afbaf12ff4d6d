"""When something is due for an ISAKMP SA, and when its peer was heard."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ipsec_dp.ike.environment import NEVER


@dataclass(slots=True)
class IsakmpDeadlines:
    """When something is due; inf: never."""

    close_at: float = inf
    soft: float = inf
    hard: float = inf
    check_at: float = inf
    ask_at: float = inf  # R-U-THERE again, or the peer is dead
    keepalive_at: float = inf
    leave_at: float = inf  # another has taken its place
    proof_at: float = inf
    fragments_at: float = inf  # those of a message that is not whole are forgotten
    tell_at: float = inf  # that the initiator does not go on

    @property
    def next(self) -> float:
        first = min(self.close_at, self.soft, self.hard, self.check_at)
        return min(first, self.ask_at, self.keepalive_at, self.leave_at, self.proof_at, self.fragments_at, self.tell_at)


@dataclass(slots=True)
class Liveliness:
    """Is the peer there (RFC 3706)? `number`: of our last R-U-THERE."""

    heard: float = NEVER
    number: int = 0
    attempts: int = 0
    asked_at: float = NEVER  # for the first time
    move_at: float = NEVER  # from when on the peer's address may change again
