"""What a peer may cost that has proven who it is: wider than what a stranger may, and bounded all the same.

One peer that was taken over must not keep the others waiting. `PEER_LIMITS` says what it may have at once, and how much of this
gateway's time its requests may take; everything is counted for its identity, over all of its IKE SAs.

Time is spent in advance: a request is served whole, and while the account is overdrawn the next ones are passed over, unopened and
unanswered. The peer repeats them, as it repeats what was lost, and since it may have one request under way it is slowed down rather
than refused: a peer that sets up or rekeys many CHILD_SAs at once notices nothing but a pause. An answer (TEMPORARY_FAILURE) would
cost as much again, and invite the next request at once. Only what an ICV held for is charged, so nobody else can use it up.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Of one identity. Times are milliseconds of processor time, by the prices in `v2.prices`."""

    work_a_second: float = 50.0  # for its requests: a twentieth of the loop
    work_at_once: float = 250.0  # of it, after a pause
    work_of_proxy_id: float = 8.0  # besides, at once, for each of its proxy IDs: all may be set up or rekeyed in one go
    ike_sas: int = 32  # with one identity of ours: those that it rekeyed and did not delete among them
    lingering: int = 32  # besides: ended ones, which only answer a repeat of the last request; for the next one the oldest goes
    lingering_in_all: int = 2048  # of all identities
    children: int = 64  # CHILD_SAs, rekeyed ones and those that are dying among them; and besides
    children_of_proxy_id: int = 4
    series: int = 4  # CREATE_CHILD_SAs of an IKE SA whose additional key exchanges (IKE_FOLLOWUP_KE) are awaited
    undeleted: int = 16  # CHILD_SAs of an IKE SA that it rekeyed and did not delete, beyond one for each proxy ID
    selectors: int = 256  # pairs of a CHILD_SA
    lines_a_second: float = 10.0  # of the log, about one tunnel
    lines_at_once: float = 200.0  # of them, after a pause
    lines_of_proxy_id: float = 4.0  # besides, at once


PEER_LIMITS: Final = PeerLimits()
KEPT: Final = 16_384  # identities whose accounts are kept, the last ones; only configured ones have any
TOLD: Final = 60.0  # seconds between two events about a peer that has used up what it may


class Account:
    """So much a second, up to `most`. What is spent beyond that has to come in before more is."""

    __slots__ = ("_at", "_left", "_most", "_rate", "_told")

    def __init__(self, rate: float, most: float) -> None:
        self._rate, self._most, self._left = rate, most, most
        self._at = 0.0
        self._told = -inf

    @property
    def level(self) -> tuple[float, float, float]:
        """How much was left, when that was looked at, and when something was last told."""
        return self._left, self._at, self._told

    def resume(self, level: tuple[float, float, float]) -> None:
        """It goes on from the `level` of another."""
        self._left, self._at, self._told = min(level[0], self._most), level[1], level[2]

    def widen(self, most: float) -> None:
        """It may hold so much at the least."""
        if most > self._most:
            self._left += most - self._most
            self._most = most

    def overdrawn(self, now: float) -> bool:
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, self._most)
        self._at = now
        return self._left < 0.0

    def spend(self, amount: float, now: float) -> None:
        """Whether it is there or not."""
        self.overdrawn(now)
        self._left -= amount

    def may_tell(self, now: float) -> bool:
        """True once in TOLD seconds."""
        if now - self._told < TOLD:
            return False
        self._told = now
        return True


class Accounts:
    """Of the peers of a gateway, by identity: an account outlives the IKE SAs, so that nobody gets another one by calling anew."""

    def __init__(self) -> None:
        self._of: OrderedDict[Hashable, Account] = OrderedDict()

    def of(self, who: Hashable, proxy_ids: int) -> Account:
        """`proxy_ids`: how many its tunnel has."""
        most = PEER_LIMITS.work_at_once + PEER_LIMITS.work_of_proxy_id * proxy_ids
        account = self._of.get(who)
        if account is None:
            account = self._of[who] = Account(PEER_LIMITS.work_a_second, most)
            if len(self._of) > KEPT:
                self._of.popitem(last=False)
        self._of.move_to_end(who)
        account.widen(most)
        return account


class Lines:
    """Which lines of the log may be written about the peers of tunnels, who cause most of them."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Account, int]] = {}  # by tunnel, with how many were left out since the last one

    def left_out(self, tunnel: str, proxy_ids: int, now: float) -> int | None:
        """How many lines about a tunnel were left out before this one, which is to be written; None: it is left out too."""
        most = PEER_LIMITS.lines_at_once + PEER_LIMITS.lines_of_proxy_id * proxy_ids
        account, missed = self._of.get(tunnel) or (Account(PEER_LIMITS.lines_a_second, most), 0)
        if account.overdrawn(now):
            self._of[tunnel] = account, missed + 1
            return None
        account.spend(1.0, now)
        self._of[tunnel] = account, 0
        return missed

    def forget(self, tunnel: str) -> None:
        self._of.pop(tunnel, None)
