"""Time: what is due of an ISAKMP SA and of the IPsec SAs with a peer, and what is then done."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind, SendKeepalive
from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.peer import NAT_KEEPALIVE
from ipsec_dp.ike.v1 import collecting, informational, ipsec_sas, peerings, proof, quick_mode, silence
from ipsec_dp.ike.v1.payloads import NotificationPayload
from ipsec_dp.ike.v1.quick import QuickStage
from ipsec_dp.ike.v1.registry import suites_phase2
from ipsec_dp.ike.v1.states import IpsecSaState, IsakmpState
from ipsec_dp.ike.v1.wire import NotifyCode, Protocol

if TYPE_CHECKING:
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.quick import QuickMode
    from ipsec_dp.ike.v1.sa import IpsecSa

PROOF_LOOK = 60.0  # seconds between two looks at the calendar
LOOK_AGAIN = 1.0  # seconds
ALIVE = 30.0  # seconds: who was heard that long ago or later, and does not answer a quick mode, does not want it


# ---- an ISAKMP SA --------------------------------------------------------------------------------------------------------------


def next_of(context: IsakmpContext) -> float:
    """When `due` has something to do; inf: never."""
    first = context.deadlines.next
    if context.waiting is not None:
        first = min(first, context.waiting.deadline)
    return min([first, *(one.due_at for one in context.exchanges.values())])


def due(context: IsakmpContext, now: float) -> None:
    """Retransmissions, lifetimes, liveness, whatever is due."""
    deadlines = context.deadlines
    if context.waiting is not None and now >= context.waiting.deadline:
        _retransmit(context, now)
    if now >= deadlines.fragments_at:
        collecting.forget(context, now)
    if now >= deadlines.tell_at:
        silence.does_not_go_on(context)
    if now >= deadlines.close_at:
        _gave_up(context, "the initiator did not authenticate in time", Cause.TIMEOUT)
    for exchange in list(context.exchanges.values()):
        if context.alive and now >= exchange.due_at:
            _exchange_due(context, exchange, now)
    if not context.established:
        return
    lifetimes.overlook(deadlines, now, context.host.environment.interference)
    if now >= deadlines.leave_at:
        peerings.drop(context, tell=True)
    elif now >= deadlines.hard:
        _hard_limit(context)
    else:
        _while_up(context, now)


def _while_up(context: IsakmpContext, now: float) -> None:
    deadlines, peering = context.deadlines, context.peering
    if now >= deadlines.soft and peering is not None:
        deadlines.soft = now + lifetimes.retry_after(2, context.host.environment.rng)
        peering.host.call(peering, now)
    if now >= deadlines.proof_at:
        _judge(context, now)
    if context.established and now >= deadlines.check_at:
        _check(context, now)
    if context.established and now >= deadlines.ask_at:
        informational.ask(context, now)
    if context.established and now >= deadlines.keepalive_at:
        _keepalive(context, now)


def _retransmit(context: IsakmpContext, now: float) -> None:
    waiting = context.waiting
    if waiting is None:
        return
    if waiting.again(now):
        context.send(waiting.datagram)
        context.host.retransmitted(context.peer.tunnel)
        silence.tell(context, now, waiting.attempt)
        return
    if context.established:  # message 3 of aggressive mode, which is acknowledged by whatever comes next
        context.waiting = None
        return
    said = next((hint for hint in reversed(context.negotiation.hints) if hint[1] is not None), None)
    if said is not None:
        _gave_up(context, f"{said[0]} (not authenticated)", said[1] or Cause.REFUSED)
        return
    if (ours := silence.kept_back(context)) is not None:
        _gave_up(context, ours, Cause.TIMEOUT)
        return
    asked = f"{context.path.remote} did not answer {silence.asked_for(context)} ({waiting.attempt + 1} times)"
    _gave_up(context, f"{asked}: {_UNANSWERED[context.state].format(port=context.path.remote.port)}", Cause.TIMEOUT)


_DOWN = (
    "it is down (ping it), UDP port {port} is blocked on the way (capture there), no IKEv1 runs on it,"
    " or it expects nobody from here"
)
_UNANSWERED = {
    IsakmpState.SA_SENT: _DOWN,
    IsakmpState.KE_SENT: "it is down or the way to it is, or it has no secret for our address",
    IsakmpState.AUTH_SENT: silence.DIFFER + ", or UDP port {port} is blocked",
    IsakmpState.AGGRESSIVE_SENT: f"{_DOWN}, or nobody in aggressive mode",
}


def _gave_up(context: IsakmpContext, text: str, cause: Cause) -> None:
    """Phase 1 came to nothing; a responder that believes otherwise is told."""
    if context.negotiation.refused:
        context.sa.last_block = context.negotiation.refused
        context.send_informational([NotificationPayload(Protocol.ISAKMP, NotifyCode.AUTHENTICATION_FAILED)])
    stranger = not context.sa.initiator and not context.negotiation.hints
    if not stranger and context.in_use:
        hints = "" if context.sa.initiator else f": {context.negotiation.hints[-1][0]} (not authenticated)"
        context.report(Kind.IKE_FAILED, f"{text}{hints}", cause=cause, again=True, exchange=context.mode)
    context.close()


def _exchange_due(context: IsakmpContext, exchange: QuickMode, now: float) -> None:
    if now >= exchange.forget_at:
        context.exchanges.pop(exchange.message_id, None)
        return
    if exchange.waiting is None or now < exchange.waiting.deadline:
        return
    if exchange.waiting.again(now):
        context.send(exchange.last_out)
        context.host.retransmitted(context.peer.tunnel)
        silence.tell(context, now, exchange.waiting.attempt)
    elif exchange.stage is QuickStage.ANSWERED:
        quick_mode.look(context, exchange, now)
    elif now - context.liveliness.heard <= ALIVE + context.peer.liveness.interval_s:
        quick_mode.unanswered(context, exchange, now)
    else:
        asked = f"{context.path.remote} did not answer quick mode ({exchange.waiting.attempt + 1} times)"
        peerings.end(context.peering, Cause.TIMEOUT, f"{asked}: it is down or the way to it is", again=True, quiet=True)


def _hard_limit(context: IsakmpContext) -> None:
    peering = context.peering
    if peering is not None and peering.current is context:
        peerings.end(peering, Cause.LIFETIME, "the ISAKMP SA reached its hard limit", again=True)
    else:
        peerings.drop(context, tell=True)


def _judge(context: IsakmpContext, now: float) -> None:
    """The certificates by which the peer has proven itself may have run out."""
    context.deadlines.proof_at = now + PROOF_LOOK
    until, utc = context.proven.until, context.host.environment.utc(now)
    if until is not None and until < utc:
        judge(context, now)
    elif until is not None:
        context.deadlines.proof_at = now + min(PROOF_LOOK, max((until - utc).total_seconds(), 0.0) + 0.1)


def judge(context: IsakmpContext, now: float) -> bool:
    """By what the tunnel says now; false, and all that is with the peer is ended, where they do not hold any more."""
    try:
        proof.judge_again(context, context.host.environment.utc(now))
    except AuthenticationError as error:
        peerings.end(context.peering, Cause.AUTHENTICATION, f"the peer's certificate is no longer good: {error}", again=True)
        return False
    return True


def _check(context: IsakmpContext, now: float) -> None:
    """Ask only a peer that was silent, in ISAKMP and in ESP (RFC 3706 §5.4)."""
    alive, interval, peering = context.liveliness, context.peer.liveness.interval_s, context.peering
    sas = () if peering is None else tuple(peering.sas)
    alive.heard = max([alive.heard, *(context.host.environment.activity(number).received for number in sas)])
    context.deadlines.check_at = max(alive.heard, now - interval) + interval
    if context.deadlines.check_at <= now:
        informational.check(context, now)


def _keepalive(context: IsakmpContext, now: float) -> None:
    """Only while nothing else keeps the mapping (RFC 3948 §4)."""
    sas = () if context.peering is None else tuple(context.peering.sas)
    sent = max((context.host.environment.activity(number).sent for number in sas), default=NEVER)
    context.deadlines.keepalive_at = max(sent, now - NAT_KEEPALIVE) + NAT_KEEPALIVE
    if context.deadlines.keepalive_at <= now:
        context.deadlines.keepalive_at = now + NAT_KEEPALIVE
        context.host.emit(SendKeepalive(context.path))


# ---- IPsec SAs -----------------------------------------------------------------------------------------------------------------


def next_of_peering(peering: Peering) -> float:
    """When `peering_due` has something to do."""
    without = peering.current is None  # then no message can be sent
    times = (min(one.hard, one.remove_at) if without else one.due_at for one in peering.sas.values())
    return min([peering.wait_until, peerings.next_ask(peering), *times])


def peering_due(peering: Peering, now: float) -> None:
    """What is due of its IPsec SAs."""
    if now >= peering.wait_until:
        peerings.end(peering, Cause.PEER, "the peer deleted the ISAKMP SA, and there is no other", again=True, quiet=True)
        return
    context = peering.current
    for sa in list(peering.sas.values()):
        if now >= sa.remove_at or (context is None and now >= sa.hard):
            ipsec_sas.remove(peering, sa)
        elif context is not None and now >= sa.due_at and sa.number in peering.sas:
            _sa_due(context, peering, sa, now)


def _sa_due(context: IsakmpContext, peering: Peering, sa: IpsecSa, now: float) -> None:
    lifetimes.overlook(sa, now, context.host.environment.interference)
    if now >= sa.hard:
        ipsec_sas.expire(context, sa, now)
    elif now >= sa.tell_at:
        ipsec_sas.delete(peering, sa, now)
    else:
        if now >= sa.look_at:
            _look(context, peering, sa, now)
        if now >= sa.soft:
            renew(sa, now)
        if now >= sa.idle_at:
            _idle(context, peering, sa, now)


def _look(context: IsakmpContext, peering: Peering, sa: IpsecSa, now: float) -> None:
    if sa.initiator or ipsec_sas.used_by_peer(peering, sa):
        ipsec_sas.switch(context, sa, now)
    else:
        sa.look_at = now + lifetimes.SWITCH_LOOK


def spent(sa: IpsecSa, now: float) -> None:
    """A soft limit of octets or packets: nobody knows how soon the hard one comes."""
    sa.spent = True
    renew(sa, now)


def renew(sa: IpsecSa, now: float) -> None:
    """Make another in its place before it ends, which for this once may take REKEY_TIME."""
    if sa.state is not IpsecSaState.UP or sa.asked:
        sa.soft = inf if sa.state is not IpsecSaState.WAITING else now + LOOK_AGAIN
        return
    sa.asked, sa.soft = True, inf
    if not sa.reprieved:
        sa.reprieved = True
        sa.hard = max(sa.hard, now + lifetimes.REKEY_TIME)


def _idle(context: IsakmpContext, peering: Peering, sa: IpsecSa, now: float) -> None:
    activity, idle = context.host.environment.activity(sa.number), peering.peer.child_life.idle_s
    sa.used = max(sa.used, activity.received, activity.sent)
    sa.idle_at = sa.used + idle
    if sa.idle_at > now or sa.state is not IpsecSaState.UP:
        sa.idle_at = max(sa.idle_at, now + LOOK_AGAIN)
        return
    text = f"no packets for {idle:g} s"
    peering.wanted.dismiss(sa.number)
    ipsec_sas.delete(peering, sa, now)
    context.report(Kind.CHILD_DOWN, text, cause=Cause.IDLE, child=sa.number)
    if not peering.up:
        peerings.end(peering, Cause.IDLE, text)


# ---- another configuration -----------------------------------------------------------------------------------------------------


def fit(peering: Peering, peer: Peer, effect: Effect, now: float) -> None:
    """The least that makes what is there what is written now."""
    peering.configure(peer)
    _drop_withdrawn(peering, now)
    context = peering.current
    if context is None:
        return
    interval = peering.peer.liveness.interval_s
    context.deadlines.check_at = min(context.deadlines.check_at, now + interval) if interval and context.abilities.dpd else inf
    if effect >= Effect.RECHECK and not judge(context, now):
        return
    for sa in list(peering.sas.values()):
        if effect >= Effect.SELECTORS and sa.pair not in peering.peer.proxy_ids:
            ipsec_sas.delete(peering, sa, now)
        elif effect is Effect.REKEY:
            renew(sa, now)
    if effect is Effect.REAUTH:
        peering.host.call(peering, now)
    if effect >= Effect.SELECTORS:
        peering.wanted.begin_anew()


def _drop_withdrawn(peering: Peering, now: float) -> None:
    """Where its suite is no longer written, what was made and nobody sends by yet never does, and what was replaced goes soon,
    whichever side is to delete it."""
    suites = suites_phase2(peering.peer.esp_proposals)
    for sa in list(peering.sas.values()):
        if sa.suite in suites:
            continue
        if sa.state is IpsecSaState.WAITING:
            ipsec_sas.delete(peering, sa, now)
        elif sa.state is IpsecSaState.REPLACED:
            sa.tell_at = min(sa.tell_at, now + ipsec_sas.OVERLAP)
