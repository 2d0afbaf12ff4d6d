"""Limits in time, octets and packets: jittered, staggered by role, retried with back-off (RFC 7296 §2.8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause, ChildLimits, Kind
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.peer import NAT_KEEPALIVE, Life
from ipsec_dp.ike.v2.sa import Child, ChildState

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.exchanges import Task
    from ipsec_dp.ike.v2.session import IkeSession
    from ipsec_dp.ike.v2.wire import Rng

NEVER_DUE: Final = inf
REKEY_TIME: Final = 10.0  # seconds that a rekey may take from when it begins, whatever the lifetime
GRACE: Final = 5.0  # seconds a deleted CHILD_SA still receives
SWITCH_LOOK: Final = 1.0  # seconds between two looks whether the peer uses a new SA without having deleted the old one
HINT_PATIENCE: Final = 2.0  # seconds a genuine answer still has after an unauthenticated refusal
MOVE_EVERY: Final = 1.0  # seconds between two changes of the peer's address
RETRY: Final = 1.0  # seconds before a refused rekey is tried again, doubling
RETRY_LONGEST: Final = 60.0

# Parts of a hard limit at which a side rekeys: the one that made the SA first, the other only if that did not happen.
# How much later than asked for a side authenticates again: the one that called first, the other only if that did not happen.
_LATER: Final = {True: (0.0, 0.05), False: (0.20, 0.25)}
UNPROVEN: Final = 1.5  # times `reauth_s` that an IKE SA may live without
_PARTS: Final = {True: (0.80, 0.85), False: (0.90, 0.95)}


@dataclass(slots=True)
class Timers:
    """When something of an IKE SA is due, in the seconds of `now`."""

    soft: float = inf
    hard: float = inf
    heard: float = NEVER
    check_at: float = inf
    keepalive_at: float = inf
    move_at: float = NEVER
    reauth_at: float = inf  # authenticate anew
    proof_until: float = inf  # when nobody has, it ends
    leave_at: float = inf  # another IKE SA is in its place, and the peer had time enough to delete this one
    failures: int = 0
    reprieved: bool = False  # as in `sa.Child`
    delayed: list[tuple[float, Task]] = field(default_factory=list)


def jitter(rng: Rng, low: float, high: float) -> float:
    """Evenly between `low` and `high`."""
    return low + (high - low) * int.from_bytes(rng(4), "big") / 0xFFFF_FFFF


def soft_after(life: Life, *, initiator: bool, rng: Rng) -> float:
    """Seconds until this side rekeys; always before the hard limit."""
    if life.soft_s is None:
        return life.hard_s * jitter(rng, *_PARTS[initiator])
    spare = max(life.hard_s - life.soft_s, 0.0)
    return life.soft_s + spare * (jitter(rng, 0.0, 0.05) if initiator else jitter(rng, 0.40, 0.60))


def limits_of(life: Life, *, initiator: bool, rng: Rng) -> ChildLimits:
    """Octets and packets, soft ones staggered as the seconds are."""
    part = jitter(rng, *_PARTS[initiator])
    return ChildLimits(int(life.octets * part), life.octets, int(life.packets * part), life.packets)


def start(session: IkeSession, now: float) -> None:
    """The IKE SA is up: its times begin."""
    peer, timers = session.peer, session.timers
    timers.soft = now + soft_after(peer.ike_life, initiator=session.sa.initiator, rng=session.host.environment.rng)
    timers.hard = now + peer.ike_life.hard_s
    timers.heard = now
    timers.check_at = now + peer.liveness.interval_s if peer.liveness.interval_s else inf
    timers.keepalive_at = now + NAT_KEEPALIVE if session.nat_local else inf
    if peer.reauth_s:
        timers.reauth_at = now + peer.reauth_s * (1.0 + jitter(session.host.environment.rng, *_LATER[session.called]))
        timers.proof_until = now + peer.reauth_s * UNPROVEN


def start_child(session: IkeSession, new: Child, now: float) -> ChildLimits:
    """A CHILD_SA is up: its times begin. Returns its other limits."""
    life, rng = session.peer.child_life, session.host.environment.rng
    new.soft = now + soft_after(life, initiator=new.initiator, rng=rng)
    new.hard = now + life.hard_s
    session.timers.failures = 0
    new.idle_at = now + life.idle_s if life.idle_s else inf
    return limits_of(life, initiator=new.initiator, rng=rng)


def reprieve(one: Child | Timers, now: float) -> None:
    """A rekey begins, ours or the peer's: what it replaces stays good for REKEY_TIME at the least, once.

    Lifetimes of seconds leave a fraction of one between soft and hard limit, less than a busy machine or a lost message takes.
    """
    if not one.reprieved:
        one.reprieved = True
        one.hard = max(one.hard, now + REKEY_TIME)


def retry_rekey(session: IkeSession, child: Child | None, now: float) -> None:
    """A rekey failed: again after a while, as long as the hard limit allows."""
    if child is not None and child.state is ChildState.UP:
        child.soft = now + _wait(session, child.failures)
        child.failures += 1


def retry_ike(session: IkeSession, text: str, now: float) -> None:
    """A rekey of the IKE SA failed: again after a while, as long as the hard limit allows."""
    timers = session.timers
    timers.soft = now + _wait(session, timers.failures)
    timers.failures += 1
    session.report(Kind.WARNING, f"the IKE SA is not rekeyed yet: {text}", cause=Cause.REFUSED)


def retry_reauth(session: IkeSession, now: float) -> None:
    """Authenticating anew failed: again after a while, as long as `proof_until` allows."""
    session.timers.reauth_at = now + _wait(session, session.timers.failures)
    session.timers.failures += 1


def later(session: IkeSession, task: Task, now: float) -> None:
    """A request that met TEMPORARY_FAILURE (RFC 7296 §2.25): again after a while."""
    session.timers.failures += 1
    if session.timers.failures <= 16:  # then whoever wants it asks again
        session.timers.delayed.append((now + _wait(session, session.timers.failures), task))


def _wait(session: IkeSession, failures: int) -> float:
    return min(RETRY * 2.0 ** min(failures, 8), RETRY_LONGEST) * jitter(session.host.environment.rng, 0.75, 1.25)
