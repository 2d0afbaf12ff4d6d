"""What IKE told, counted since the gateway started: rekeys by who wanted them, failures by cause, how long handshakes took.

Nothing that a peer says is a key here, so there is a bound on how many counters there can be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.util.leaves import Here

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Event
    from ipsec_dp.keying.status import RenewalTrigger
    from ipsec_dp.util.clock import Clock

BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WANTED_S: Final = 30.0  # for which rekeys of ours are those that were asked for
_DONE: Final = {Kind.IKE_REKEYED: "ike", Kind.CHILD_REKEYED: "child"}
_FAILED: Final = frozenset({Kind.IKE_FAILED, Kind.CHILD_FAILED})


class Durations:
    """A histogram: `counts` by bucket, the last one without an end; `total` in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total += seconds


class CarriedCounts(Struct, frozen=True, forbid_unknown_fields=True):
    """`IkeCounts`, for another process of this host; keys and count behind each other."""

    rekeys: Here[list[tuple[str, str, str, int]]]
    failures: Here[list[tuple[str, str, str, int]]]
    handshakes: Here[dict[str, tuple[list[int], float]]]


class IkeCounts:
    """Of one gateway. `rekeys`: by SA ("ike", "child"), trigger ("lifetime", "peer", or why we were to) and result ("done",
    "failed": told once for each SA). `failures`: by SA, cause, and whose they are. `handshakes`: by role, those that came up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rekeys: Counter[tuple[str, str, str]] = Counter()
        self.failures: Counter[tuple[str, str, str]] = Counter()
        self.handshakes = {"initiator": Durations(), "responder": Durations()}
        self._wanted: dict[str, tuple[RenewalTrigger, float]] = {}

    def export(self) -> CarriedCounts:
        return CarriedCounts(
            rekeys=[(*key, count) for key, count in self.rekeys.items()],
            failures=[(*key, count) for key, count in self.failures.items()],
            handshakes={role: (each.counts, each.total) for role, each in self.handshakes.items()},
        )

    def take(self, carried: CarriedCounts) -> None:
        """Goes on from there."""
        for sa, trigger, result, count in carried.rekeys:
            self.rekeys[sa, trigger, result] += count
        for sa, cause, whose, count in carried.failures:
            self.failures[sa, cause, whose] += count
        for role, each in self.handshakes.items():
            counts, total = carried.handshakes.get(role, ([], 0.0))
            if len(counts) == len(each.counts):  # else another program had other buckets
                each.counts, each.total = list(counts), total

    def renewing(self, tunnel: str, why: RenewalTrigger) -> None:
        """Rekeys of a tunnel are asked for."""
        now = self._clock.now()
        self._wanted = {name: kept for name, kept in self._wanted.items() if kept[1] > now} if self._over(now) else self._wanted
        self._wanted.pop(tunnel, None)
        self._wanted[tunnel] = why, now + WANTED_S

    def _over(self, now: float) -> bool:
        """Whether the oldest that is kept is kept in vain."""
        oldest = next(iter(self._wanted.values()), None)
        return oldest is not None and oldest[1] <= now

    def event(self, event: Event) -> None:
        if event.renewal is not None:
            result = "done" if event.kind in _DONE else "failed"
            sa = _DONE.get(event.kind) or ("ike" if event.child is None and event.kind is Kind.WARNING else "child")
            self.rekeys[sa, self._trigger(event), result] += 1
        elif event.kind in _FAILED:
            sa = "ike" if event.kind is Kind.IKE_FAILED else "child"
            self.failures[sa, "unknown" if event.cause is None else str(event.cause), str(event.origin)] += 1
        elif event.kind is Kind.IKE_UP and event.started is not None:
            role = "initiator" if event.origin is Origin.OURS else "responder"
            self.handshakes[role].add(max(0.0, self._clock.now() - event.started))

    def _trigger(self, event: Event) -> str:
        if event.renewal == "peer":
            return "peer"
        why, until = self._wanted.get(event.tunnel, ("lifetime", 0.0))
        return why if self._clock.now() <= until else "lifetime"
