"""Time: soft and hard limits, jittered and staggered by role; liveness, NAT keepalives, idle CHILD_SAs (RFC 7296 §2.4, §2.8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import child as children
from ipsec_dp.ike import delete, rekey
from ipsec_dp.ike.actions import Cause, ChildLimits, Kind, SendKeepalive
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.exchanges import Priority, Shape, Task
from ipsec_dp.ike.peer import NAT_KEEPALIVE, Life
from ipsec_dp.ike.sa import Child, ChildState
from ipsec_dp.ike.wire import ExchangeType

if TYPE_CHECKING:
    from ipsec_dp.ike.payloads import Payload
    from ipsec_dp.ike.sa import Received
    from ipsec_dp.ike.session import IkeSession
    from ipsec_dp.ike.wire import Rng

NEVER_DUE: Final = inf
GRACE: Final = 5.0  # seconds a deleted CHILD_SA still receives
SWITCH_LOOK: Final = 1.0  # seconds between two looks whether the peer uses a new SA without having deleted the old one
HINT_PATIENCE: Final = 2.0  # seconds a genuine answer still has after an unauthenticated refusal
MOVE_EVERY: Final = 1.0  # seconds between two changes of the peer's address
RETRY: Final = 1.0  # seconds before a refused rekey is tried again, doubling
RETRY_LONGEST: Final = 60.0

# Parts of a hard limit at which a side rekeys: the one that made the SA first, the other only if that did not happen.
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
    failures: int = 0
    delayed: list[tuple[float, Task]] = field(default_factory=list)


class Check(Task):
    """An empty INFORMATIONAL request: are you there (RFC 7296 §2.4)?"""

    exchange = ExchangeType.INFORMATIONAL
    shape = Shape.ANY
    priority = Priority.LIVENESS

    def __init__(self, retries: int) -> None:
        self.tries = retries

    def build(self, session: IkeSession, now: float) -> list[Payload]:
        del session, now
        return []

    def answered(self, session: IkeSession, received: Received) -> None:
        """That it was answered is all there is to know."""


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


def start_child(session: IkeSession, new: Child, now: float) -> ChildLimits:
    """A CHILD_SA is up: its times begin. Returns its other limits."""
    life, rng = session.peer.child_life, session.host.environment.rng
    new.soft = now + soft_after(life, initiator=new.initiator, rng=rng)
    new.hard = now + life.hard_s
    new.idle_at = now + life.idle_s if life.idle_s else inf
    return limits_of(life, initiator=new.initiator, rng=rng)


def next_due(session: IkeSession) -> float:
    """When `due` has something to do."""
    timers = session.timers
    found = min(timers.soft, timers.hard, timers.check_at, timers.keepalive_at)
    for child in session.children.values():
        found = min(found, child.soft, child.hard, child.idle_at, child.switch_at, child.remove_at)
    for at, _ in timers.delayed:
        found = min(found, at)
    return found


def due(session: IkeSession, now: float) -> None:
    """Do what is due; everything that was has another time afterwards, or none."""
    timers = session.timers
    ready = [task for at, task in timers.delayed if at <= now]
    timers.delayed = [(at, task) for at, task in timers.delayed if at > now]
    for task in ready:
        session.enqueue(task)
    for child in list(session.children.values()):
        _child_due(session, child, now)
    if now >= timers.hard:
        timers.hard = timers.soft = inf
        delete.ike(session, Cause.LIFETIME, "the IKE SA reached its hard limit", now, again=True)
    elif now >= timers.soft or session.window.nearly_exhausted:
        timers.soft = inf
        rekey.ike(session)
    if now >= timers.check_at:
        _check(session, now)
    if now >= timers.keepalive_at:
        _keepalive(session, now)


def _child_due(session: IkeSession, child: Child, now: float) -> None:
    if now >= child.remove_at:
        delete.forget(session, child)
    elif now >= child.hard:
        expire(session, child, now)
    else:
        if now >= child.switch_at:
            _switch(session, child, now)
        if now >= child.soft:
            rekey_child(session, child)
        if now >= child.idle_at:
            _idle(session, child, now)


def _switch(session: IkeSession, child: Child, now: float) -> None:
    """As responder to a rekey: packets on the new SA say that the peer has our response, as its DELETE of the old one would.

    Without either the old one is good until its hard limit.
    """
    if session.host.environment.activity(child.number).received > NEVER:
        children.switch(session, child)
    else:
        child.switch_at = now + SWITCH_LOOK


def rekey_child(session: IkeSession, child: Child) -> None:
    """Make another in its place before it ends."""
    child.soft = inf
    if child.state is ChildState.UP and not rekeying(session, child):
        session.enqueue(children.CreateChild(child.pairs, rekeys=child))


def rekeying(session: IkeSession, child: Child) -> bool:
    """True when a rekey of ours is waiting or under way."""
    tasks = session.queue if session.task is None else [session.task, *session.queue]
    return any(isinstance(task, children.CreateChild) and task.rekeys is child for task in tasks)


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


def later(session: IkeSession, task: Task, now: float) -> None:
    """A request that met TEMPORARY_FAILURE (RFC 7296 §2.25): again after a while."""
    session.timers.failures += 1
    if session.timers.failures <= 16:  # then whoever wants it asks again
        session.timers.delayed.append((now + _wait(session, session.timers.failures), task))


def _wait(session: IkeSession, failures: int) -> float:
    return min(RETRY * 2.0 ** min(failures, 8), RETRY_LONGEST) * jitter(session.host.environment.rng, 0.75, 1.25)


def expire(session: IkeSession, child: Child, now: float) -> None:
    """A hard limit: it ends at once, replaced or not."""
    child.hard = inf
    alone = child.state is ChildState.UP
    if child.successor is not None:
        children.switch(session, child.successor)
    delete.child(session, child, now, at_once=True)
    delete.remove(session, child)
    if alone:
        session.report(Kind.CHILD_DOWN, "it reached its hard limit", cause=Cause.LIFETIME, child=child.number, again=True)
        if session.peer.start == "start":
            session.enqueue(children.CreateChild(child.pairs))


def _idle(session: IkeSession, child: Child, now: float) -> None:
    activity = session.host.environment.activity(child.number)
    child.used = max(child.used, activity.received, activity.sent)
    child.idle_at = child.used + session.peer.child_life.idle_s
    if child.idle_at > now or child.state is not ChildState.UP:
        child.idle_at = max(child.idle_at, now + 1.0)
        return
    text = f"no packets for {session.peer.child_life.idle_s:g} s"
    delete.child(session, child, now)
    session.report(Kind.CHILD_DOWN, text, cause=Cause.IDLE, child=child.number)
    if not any(other.state is ChildState.UP for other in session.children.values()):
        delete.ike(session, Cause.IDLE, text, now)


def _check(session: IkeSession, now: float) -> None:
    """Ask only a peer that was silent in IKE and in ESP (RFC 7296 §2.4)."""
    timers, interval = session.timers, session.peer.liveness.interval_s
    activity = session.host.environment.activity
    timers.heard = max([timers.heard, *(activity(number).received for number in session.children)])
    timers.check_at = max(timers.heard, now - interval) + interval
    if timers.check_at <= now:
        timers.check_at = now + interval
        if session.task is None and not session.queue:
            session.enqueue(Check(session.peer.liveness.retries))


def _keepalive(session: IkeSession, now: float) -> None:
    """Only while nothing else keeps the mapping (RFC 3948 §4)."""
    activity = session.host.environment.activity
    sent = max((activity(number).sent for number in session.children), default=NEVER)
    session.timers.keepalive_at = max(sent, now - NAT_KEEPALIVE) + NAT_KEEPALIVE
    if session.timers.keepalive_at <= now:
        session.timers.keepalive_at = now + NAT_KEEPALIVE
        session.emit(SendKeepalive(session.path))


def silence_text(session: IkeSession, task: Task) -> str:
    """What a peer that does not answer may mean, and how to tell."""
    asked = f"{session.path.remote} did not answer {task.name} ({task.tries + 1} times)"
    if task.exchange is ExchangeType.IKE_SA_INIT:
        port = session.path.remote.port
        return f"{asked}: it is down (ping it), UDP port {port} is blocked on the way (capture there), or no IKE runs on it"
    if task.exchange is ExchangeType.IKE_AUTH:
        return f"{asked}, but did answer IKE_SA_INIT: UDP port {session.path.remote.port} is blocked, or large datagrams are lost"
    return f"{asked}: it is down or the way to it is"
