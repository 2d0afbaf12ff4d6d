"""Limits in time, octets and packets: jittered, staggered by role, retried with back-off (RFC 7296 §2.8)."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.ike.actions import ChildLimits

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Interference, Rng
    from ipsec_dp.ike.peer import Life

NEVER_DUE: Final = inf
REKEY_TIME: Final = 10.0  # seconds that a rekey may take from when it begins, whatever the lifetime
GRACE: Final = 5.0  # seconds a deleted CHILD_SA still receives
SWITCH_LOOK: Final = 1.0  # seconds between two looks whether the peer uses a new SA without having deleted the old one
HINT_PATIENCE: Final = 2.0  # seconds a genuine answer still has after an unauthenticated refusal
MOVE_EVERY: Final = 1.0  # seconds between two changes of the peer's address
ELSEWHERE_EVERY: Final = 60.0  # between two lines about a peer that sends from an address which is not followed
RETRY: Final = 1.0  # seconds before a refused rekey is tried again, doubling
RETRY_LONGEST: Final = 60.0
UNPROVEN: Final = 1.5  # times `reauth_s` that an IKE SA may live without

# Parts of a hard limit at which a side rekeys: the one that made the SA first, the other only if that did not happen.
_PARTS: Final = {True: (0.80, 0.85), False: (0.90, 0.95)}
# Parts of `Life.soft_s` by which a side rekeys later than that: in the same order.
_LATE: Final = {True: (0.0, 0.05), False: (0.10, 0.15)}
# How much later than asked for a side authenticates again: the one that called first, the other only if that did not happen.
_LATER: Final = {True: (0.0, 0.05), False: (0.20, 0.25)}


def jitter(rng: Rng, low: float, high: float) -> float:
    """Evenly between `low` and `high`."""
    return low + (high - low) * int.from_bytes(rng(4), "big") / 0xFFFF_FFFF


def soft_after(life: Life, *, initiator: bool, rng: Rng) -> float:
    """Seconds until this side rekeys; always before the hard limit."""
    if life.soft_s is None:
        return life.hard_s * jitter(rng, *_PARTS[initiator])
    spare = max(life.hard_s - life.soft_s, 0.0)
    return life.soft_s + min(life.soft_s, spare) * jitter(rng, *_LATE[initiator])


def limits_of(life: Life, *, initiator: bool, rng: Rng) -> ChildLimits:
    """Octets and packets, soft ones staggered as the seconds are."""
    part = jitter(rng, *_PARTS[initiator])
    return ChildLimits(int(life.octets * part), life.octets, int(life.packets * part), life.packets)


def reauth_after(reauth_s: float, *, called: bool, rng: Rng) -> float:
    """Seconds until this side authenticates again."""
    return reauth_s * (1.0 + jitter(rng, *_LATER[called]))


def overlook(one: Any, now: float, interference: Interference) -> None:
    """`soft` and `hard` of an SA that come while a rig ignores them do not come again."""
    if now >= one.hard and interference.ignores(hard=True):
        one.hard = NEVER_DUE
    if now >= one.soft and interference.ignores(hard=False):
        one.soft = NEVER_DUE


def retry_after(failures: int, rng: Rng) -> float:
    """Seconds before what has failed so many times in a row is tried again."""
    return min(RETRY * 2.0 ** min(failures, 8), RETRY_LONGEST) * jitter(rng, 0.75, 1.25)
