"""Time: what is due of an IKE SA and its CHILD_SAs, and what is then done (RFC 7296 §2.4, §2.8; RFC 3948 §4)."""

from __future__ import annotations

from itertools import chain
from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind, SendKeepalive
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.peer import NAT_KEEPALIVE
from ipsec_dp.ike.v2 import acquire, child_create, delete, expiry, followup, ike_rekey, proof, reauth, resources
from ipsec_dp.ike.v2 import child as children
from ipsec_dp.ike.v2.deadlines import reprieve
from ipsec_dp.ike.v2.liveness import LivenessCheck
from ipsec_dp.ike.v2.sa import Child, ChildState, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.environment import Activity
    from ipsec_dp.ike.v2.context import Context


def next_due(context: Context) -> float:
    """When `due` has something to do."""
    return min(context.deadlines.next, context.children.next_due, acquire.next_due(context), followup.next_due(context))


def due(context: Context, now: float) -> None:
    """Do what is due; everything that was has another time afterwards, or none. Of very many CHILD_SAs some stay due."""
    deadlines = context.deadlines
    followup.due(context, now)
    for child in context.children.due(now):
        _child_due(context, child, now)
    lifetimes.overlook(deadlines, now, context.host.environment.interference)
    if now >= deadlines.hard:
        deadlines.hard = deadlines.soft = inf
        expiry.reached(context, now)
    elif now >= deadlines.soft or (context.window.nearly_exhausted and context.state is State.ESTABLISHED):
        deadlines.soft = inf
        reprieve(deadlines, now)
        ike_rekey.rekey(context, now)
    if now >= deadlines.proof_at:
        proof.look(context, now)
    reauth.due(context, now)
    expiry.due(context, now)
    if now >= deadlines.check_at:
        _check(context, now)
    if now >= deadlines.keepalive_at:
        _keepalive(context, now)


def _child_due(context: Context, child: Child, now: float) -> None:
    lifetimes.overlook(child, now, context.host.environment.interference)
    if now >= child.remove_at:
        delete.forget(context, child)
    elif now >= child.hard:
        expire(context, child, now)
    else:
        if now >= child.switch_at:
            _switch(context, child, now)
        if now >= child.soft:
            rekey_child(context, child, now)
        if now >= child.idle_at:
            _idle(context, child, now)
        if now >= child.more_at:
            _more(context, child, now)


def _more(context: Context, child: Child, now: float) -> None:
    """One more like it, where a worker that has none would use it (RFC 9611)."""
    asked = any(isinstance(task, child_create.ChildCreate) and task.beside is child for task in context.pending())
    if resources.next_missing(context, child, now) is not None and not asked:
        context.enqueue(child_create.ChildCreate(child.pairs, beside=child))


def _switch(context: Context, child: Child, now: float) -> None:
    """As responder to a rekey: packets on the new SA say that the peer has our response, as its DELETE of the old one would.

    Without either the old one is good until its hard limit, or for as long as `reauth` waits for one.
    """
    if now >= child.switch_by or context.host.environment.activity(child.number).received > NEVER:
        children.switch(context, child)
    else:
        child.switch_at = now + lifetimes.SWITCH_LOOK


def rekey_child(context: Context, child: Child, now: float, *, any_suite: bool = False) -> None:
    """Make another in its place before it ends; not while the peer may not know it yet, nor on an IKE SA that is over.

    `any_suite`: the configuration changed, and the suite in use with it.
    """
    if context.state is not State.EXPIRED:
        reprieve(child, now)
    if child.switch_at < inf or context.state is State.EXPIRED or _peer_rekeys(context, child):
        child.soft = now + lifetimes.SWITCH_LOOK
        return
    child.soft = inf
    if child.state is ChildState.UP and not rekeying(context, child):
        child.asked = child_create.ChildCreate(child.pairs, rekeys=child, any_suite=any_suite)
        context.enqueue(child.asked)


def _peer_rekeys(context: Context, child: Child) -> bool:
    """True while a rekey of the peer's, of this CHILD_SA or of the IKE SA, is not finished."""
    return followup.awaited(context, child) is not None or followup.awaited(context) is not None


def rekeying(context: Context, child: Child) -> bool:
    """True when a rekey of ours is waiting or under way."""
    return child.asked is not None and (child.asked.waits or context.task is child.asked)


def expire(context: Context, child: Child, now: float) -> None:
    """A hard limit: it ends at once, replaced or not."""
    child.hard = inf
    alone = child.state is ChildState.UP
    if child.successor is not None:
        children.switch(context, child.successor)
    delete.child(context, child, now, at_once=True)
    delete.remove(context, child)
    if alone:
        context.report(Kind.CHILD_DOWN, "it reached its hard limit", cause=Cause.LIFETIME, child=child.number, again=True)


def _idle(context: Context, child: Child, now: float) -> None:
    others, after = resources.others(context, child), resources.idle_after(context, child)
    child.used = max(child.used, *(resources.busy_at(context, one) for one in (child, *others)))
    child.idle_at = child.used + after
    if child.idle_at > now or child.state is not ChildState.UP:
        child.idle_at = max(child.idle_at, now + 1.0)
        if child.resource:  # the foremost may be another one by then
            child.idle_at = min(child.idle_at, now + resources.IDLE)
        return
    text = f"no packets for {after:g} s"
    if not others:
        context.wanted.dismiss(child.number)
    delete.child(context, child, now)
    context.report(Kind.CHILD_DOWN, text, cause=Cause.IDLE, child=child.number)
    if not context.children.any_up:
        delete.ike(context, Cause.IDLE, text, now)


def _check(context: Context, now: float) -> None:
    """Ask only a peer that was silent in IKE and in ESP (RFC 7296 §2.4)."""
    deadlines, interval = context.deadlines, context.peer.liveness.interval_s
    deadlines.heard = max(deadlines.heard, _last(context, lambda activity: activity.received, now - interval / 2))
    deadlines.check_at = max(deadlines.heard, now - interval) + interval
    if deadlines.check_at <= now:
        check_liveness(context, now)


def _last(context: Context, when: Callable[[Activity], float], enough: float) -> float:
    """When packets of any of its CHILD_SAs last came or went; the first that is found to be as late as `enough` will do, and of
    very many the one that was found the last time is looked at first."""
    table, found = context.children, NEVER
    for number in chain((table.busy,) if table.busy in table else (), table):
        at = when(context.host.environment.activity(number))
        if at > found:
            found, table.busy = at, number
        if found >= enough:
            break
    return found


def check_liveness(context: Context, now: float) -> None:
    """Ask now, unless any request of ours asks already."""
    interval = context.peer.liveness.interval_s
    if interval:
        context.deadlines.check_at = now + interval
        if not any(context.pending()):
            context.enqueue(LivenessCheck(context.peer.liveness.retries))


def _keepalive(context: Context, now: float) -> None:
    """Only while nothing else keeps the mapping (RFC 3948 §4)."""
    sent = _last(context, lambda activity: activity.sent, now - NAT_KEEPALIVE / 2)
    context.deadlines.keepalive_at = max(sent, now - NAT_KEEPALIVE) + NAT_KEEPALIVE
    if context.deadlines.keepalive_at <= now:
        context.deadlines.keepalive_at = now + NAT_KEEPALIVE
        context.emit(SendKeepalive(context.path))
