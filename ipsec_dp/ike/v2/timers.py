"""Time: what is due of an IKE SA and its CHILD_SAs, and what is then done (RFC 7296 §2.4, §2.8; RFC 3948 §4)."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind, SendKeepalive
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.peer import NAT_KEEPALIVE
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2 import child_create, delete, ike_rekey, reauth
from ipsec_dp.ike.v2.deadlines import reprieve
from ipsec_dp.ike.v2.liveness import Check
from ipsec_dp.ike.v2.sa import Child, ChildState

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.session import IkeSession


def next_due(session: IkeSession) -> float:
    """When `due` has something to do."""
    found = session.deadlines.next
    for child in session.children.values():
        found = min(found, child.soft, child.hard, child.idle_at, child.switch_at, child.remove_at)
    for at, _ in session.delayed:
        found = min(found, at)
    return found


def due(session: IkeSession, now: float) -> None:
    """Do what is due; everything that was has another time afterwards, or none."""
    deadlines = session.deadlines
    ready = [task for at, task in session.delayed if at <= now]
    session.delayed = [(at, task) for at, task in session.delayed if at > now]
    for task in ready:
        session.enqueue(task)
    for child in list(session.children.values()):
        _child_due(session, child, now)
    if now >= deadlines.hard:
        deadlines.hard = deadlines.soft = inf
        if not session.handed_over:
            for child in list(session.children.values()):  # now, for the DELETE waits for what is under way
                delete.forget(session, child)
        delete.ike(session, Cause.LIFETIME, "the IKE SA reached its hard limit", now, again=True)
    elif now >= deadlines.soft or session.window.nearly_exhausted:
        deadlines.soft = inf
        reprieve(deadlines, now)
        ike_rekey.ike(session)
    reauth.due(session, now)
    if now >= deadlines.check_at:
        _check(session, now)
    if now >= deadlines.keepalive_at:
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
            rekey_child(session, child, now)
        if now >= child.idle_at:
            _idle(session, child, now)


def _switch(session: IkeSession, child: Child, now: float) -> None:
    """As responder to a rekey: packets on the new SA say that the peer has our response, as its DELETE of the old one would.

    Without either the old one is good until its hard limit, or for as long as `reauth` waits for one.
    """
    if now >= child.switch_by or session.host.environment.activity(child.number).received > NEVER:
        children.switch(session, child)
    else:
        child.switch_at = now + lifetimes.SWITCH_LOOK


def rekey_child(session: IkeSession, child: Child, now: float) -> None:
    """Make another in its place before it ends; not while the peer may not know it yet."""
    reprieve(child, now)
    if child.switch_at < inf:
        child.soft = now + lifetimes.SWITCH_LOOK
        return
    child.soft = inf
    if child.state is ChildState.UP and not rekeying(session, child):
        session.enqueue(child_create.CreateChild(child.pairs, rekeys=child))


def rekeying(session: IkeSession, child: Child) -> bool:
    """True when a rekey of ours is waiting or under way."""
    tasks = session.queue if session.task is None else [session.task, *session.queue]
    return any(isinstance(task, child_create.CreateChild) and task.rekeys is child for task in tasks)


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
            session.enqueue(child_create.CreateChild(child.pairs))


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
    deadlines, interval = session.deadlines, session.peer.liveness.interval_s
    activity = session.host.environment.activity
    deadlines.heard = max([deadlines.heard, *(activity(number).received for number in session.children)])
    deadlines.check_at = max(deadlines.heard, now - interval) + interval
    if deadlines.check_at <= now:
        deadlines.check_at = now + interval
        if session.task is None and not session.queue:
            session.enqueue(Check(session.peer.liveness.retries))


def _keepalive(session: IkeSession, now: float) -> None:
    """Only while nothing else keeps the mapping (RFC 3948 §4)."""
    activity = session.host.environment.activity
    sent = max((activity(number).sent for number in session.children), default=NEVER)
    session.deadlines.keepalive_at = max(sent, now - NAT_KEEPALIVE) + NAT_KEEPALIVE
    if session.deadlines.keepalive_at <= now:
        session.deadlines.keepalive_at = now + NAT_KEEPALIVE
        session.emit(SendKeepalive(session.path))
