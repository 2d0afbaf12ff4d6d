"""What a changed configuration means for an IKE SA that exists: the least that makes it what is written now."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.proxy_ids import near
from ipsec_dp.ike.v2 import delete, proof, reauth, timers
from ipsec_dp.ike.v2.sa import CARRYING, ChildState, State

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child


def reconfigure(context: Context, peer: Peer | None, effect: Effect, now: float) -> None:
    """`peer` is what its tunnel says now, None: that there is none any more."""
    if peer is None or effect is Effect.RESTART:
        why = proof.withdrawn(context, peer, now)
        if why is not None:
            context.report(Kind.WARNING, f"ended by a reload: {why}", cause=Cause.AUTHENTICATION)
        delete.withdraw(context, now)
        return
    before = context.peer
    interval = peer.liveness.interval_s
    context.settle_on(peer)
    if context.state in CARRYING and effect >= Effect.RECHECK and not proof.judge(context, now):
        return
    if effect is Effect.REAUTH:
        reauth.demand(context, now)
    if context.state is not State.ESTABLISHED:
        return
    if interval != before.liveness.interval_s:
        context.deadlines.check_at = now + interval if interval else inf
    if effect >= Effect.SELECTORS:
        for child in list(context.children.values()):
            _fit_selectors(context, child, peer, now)
        context.wanted.begin_anew()
    if effect is Effect.REKEY or (effect is Effect.REAUTH and _esp(peer) != _esp(before) and not reauth.may_call(context)):
        for child in list(context.children.values()):
            timers.rekey_child(context, child, now, any_suite=True)


def _esp(peer: Peer) -> object:
    """What a CHILD_SA that is there does not take over: another one has to come."""
    return peer.esp_proposals, peer.replay_window


def _fit_selectors(context: Context, child: Child, peer: Peer, now: float) -> None:
    """It ends when something in it is no longer written, or is written now so that it is another identity's."""
    if child.state is not ChildState.UP:
        return
    if not _configured(child, peer):
        delete.child(context, child, now)
        return
    context.host.holdings.hold(child, peer, context.ends.theirs)
    others = context.host.holdings.refusal(child.pairs, peer, context.ends.theirs)
    if others is not None:
        delete.child(context, child, now)
        context.report(Kind.CHILD_FAILED, others, cause=Cause.SELECTORS, child=child.number)


def _configured(child: Child, peer: Peer) -> bool:
    """Whether everything that may pass there is still written."""
    return all(any(one.covers(pair) for one in near(peer.proxy_ids, pair)) for pair in child.pairs)
