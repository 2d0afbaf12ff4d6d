"""What is with one peer as a whole: the next thing to ask it for, another ISAKMP SA in the place of one, and the end of all of it.

An ISAKMP SA is renewed by another main mode; the new one has every exchange from then on, and the old one is deleted LEAVE seconds
later. One that the peer deletes leaves the IPsec SAs as they are where another is there, or comes within WAIT seconds.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind, MovePath
from ipsec_dp.ike.peer import NAT_KEEPALIVE, Life
from ipsec_dp.ike.v1 import ipsec_sas, quick_mode
from ipsec_dp.ike.v1.payloads import DeletePayload
from ipsec_dp.ike.v1.quick import QuickStage
from ipsec_dp.ike.v1.states import IpsecSaState
from ipsec_dp.ike.v1.wire import Protocol

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Renewal
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.sa import IpsecSa

LEAVE: Final = 10.0  # seconds
YOUNG: Final = 5.0
WAIT: Final = 30.0


# ---- what is asked for ---------------------------------------------------------------------------------------------------------


def asks(peering: Peering) -> bool:
    """Whether a quick mode of ours is under way."""
    return any(one.initiator and one.stage is QuickStage.ASKED for each in peering.sessions for one in each.exchanges.values())


def work(peering: Peering, now: float) -> None:
    """Something may have changed: what is wanted is compared with what is there, and the next quick mode begins."""
    context = peering.current
    if context is None or peering.withdrawn:
        return
    _look(peering, context, now)
    if not context.established or asks(peering):
        return
    due = _due(peering)
    if due is not None:
        quick_mode.begin(context, due.pair, now, due.number)
        return
    found = peering.wanted.next(now)
    if found is not None and not _waits(peering, found[0]):
        quick_mode.begin(context, found[0], now)


def _due(peering: Peering) -> IpsecSa | None:
    """An IPsec SA to be renewed in whose place none is made yet."""
    asked = (one for one in peering.sas.values() if one.asked and one.state is IpsecSaState.UP)
    return next((one for one in asked if not _waits(peering, one.pair)), None)


def _waits(peering: Peering, pair: ProxyId) -> bool:
    """Whether one for a proxy ID is made that does not send yet."""
    return any(one.state is IpsecSaState.WAITING for one in peering.of_pair(pair))


def _look(peering: Peering, context: IsakmpContext, now: float) -> None:
    wanted, before, up = peering.wanted, peering.seen, peering.up
    came = {number: pairs for number, pairs in up.items() if number not in before}
    went = {number: number in peering.sas and peering.sas[number].told for number in before if number not in up}
    peering.seen = up
    if wanted.look(came, went, now, peering.host.environment.rng):
        context.report(Kind.WHOLE, "everything that is wanted has a CHILD_SA again")
    if context.sa.initiator and not peering.sas and wanted.refused and not asks(peering):
        end(peering, Cause.SELECTORS, "the peer makes no CHILD_SA", again=True)


def next_ask(peering: Peering) -> float:
    """When `work` has something to begin; inf: never, or when what is under way is over."""
    if peering.withdrawn or peering.current is None or asks(peering):
        return inf
    if _due(peering) is not None:
        return -inf
    return peering.wanted.next_due()


# ---- ISAKMP SAs ----------------------------------------------------------------------------------------------------------------


def joined(peering: Peering, context: IsakmpContext, now: float) -> None:
    """A main mode has come to its end: its ISAKMP SA has every exchange from now on."""
    old = peering.current
    peering.sessions.append(context)
    context.peering, peering.wait_until, peering.calling = peering, inf, False
    start_deadlines(context, now)
    at_once = old is not None and _at_once(old, context)
    stays = old if at_once and old is not None and old.sa.cookies < context.sa.cookies else context
    for one in peering.sessions:
        if one is not stays and not one.replaced:
            _leave(one, now, ours=stays.sa.initiator)
    _follow(peering, old or peering.last, context)
    kind = Kind.IKE_UP if old is None and not peering.sas else Kind.IKE_REKEYED
    vendors = f", {', '.join(context.abilities.vendors)}" if context.abilities.vendors else ""
    theirs = f"IKEv1 with {context.proven.identities and context.proven.identities[1]} at {context.path.remote}"
    text = f"{theirs}, {context.sa.suite}{vendors}"
    renewal: Renewal | None = None if kind is Kind.IKE_UP else "ours" if context.sa.initiator else "peer"
    context.report(kind, text, exchange=context.mode, renewal=renewal)


def _follow(peering: Peering, before: IsakmpContext | None, context: IsakmpContext) -> None:
    """It may show first that a NAT before the peer has another mapping now: packets go where the peer has just shown itself."""
    if before is None or not peering.sas or not context.follows(before.path):
        return
    context.host.emit(MovePath(peering.peer.tunnel, tuple(peering.sas), context.path))
    context.report(Kind.PATH, f"the peer's address is now {context.path.remote}: its NAT changed the mapping")


def _at_once(old: IsakmpContext, new: IsakmpContext) -> bool:
    """Whether each side has begun one of them while the other was under way."""
    return old.sa.established_at >= new.sa.started and old.sa.initiator != new.sa.initiator


def _leave(context: IsakmpContext, now: float, *, ours: bool) -> None:
    """Another is in its place: it is deleted a while later, first by who began the other.

    There are peers whose IPsec SAs go with the ISAKMP SA that they hang on, the newest that such a peer has taken for it. Of two
    that are almost of one age nobody knows which that is: neither is deleted before its hard limit.
    """
    context.replaced = True
    deadlines, rng = context.deadlines, context.host.environment.rng
    deadlines.soft = deadlines.check_at = deadlines.ask_at = deadlines.keepalive_at = deadlines.proof_at = inf
    if now - context.sa.established_at > YOUNG:
        deadlines.leave_at = now + (1.0 if ours else 1.5) * LEAVE * lifetimes.jitter(rng, 1.0, 1.3)


def began_anew(context: IsakmpContext, now: float) -> None:
    """INITIAL-CONTACT, authenticated: of all that was with this identity before, the peer knows nothing any more. What both sides
    make at the same time is not before."""
    del now
    peering = context.peering
    if peering is None:
        return
    others = [one for one in peering.sessions if one is not context]
    crossing = [one for one in others if _at_once(one, context)]
    for one in others:
        if one not in crossing:
            drop(one)
    for sa in list(peering.sas.values()):
        if sa.created < context.sa.started or (not crossing and sa.created <= context.sa.established_at):
            if sa.state is IpsecSaState.UP:
                text = "the peer began anew (INITIAL-CONTACT)"
                context.report(Kind.CHILD_DOWN, text, cause=Cause.REPLACED, child=sa.number, again=True)
            ipsec_sas.remove(peering, sa)


def drop(context: IsakmpContext, *, tell: bool = False) -> None:
    """An ISAKMP SA is no more; its IPsec SAs go on. `tell`: by a DELETE."""
    if not context.alive:
        return
    if tell and context.established:
        context.send_informational([DeletePayload(Protocol.ISAKMP, (context.sa.cookies,))])
    quick_mode.abandon(context)
    if context.peering is not None:
        context.peering.sessions.remove(context)
        context.peering.gone.append(context)
    context.close()


def deleted_by_peer(context: IsakmpContext, now: float) -> None:
    """The peer has deleted an ISAKMP SA."""
    peering = context.peering
    if peering is None:
        return
    was_current = peering.current is context
    others = [one for one in peering.sessions if one is not context and one.established]
    carries = any(one.state in (IpsecSaState.UP, IpsecSaState.WAITING) for one in peering.sas.values())
    if was_current and not others and not carries:
        end(peering, Cause.PEER, "the peer deleted it", again=True, quiet=True)
        return
    peering.last = context
    drop(context)
    if was_current and others:
        others[-1].replaced, others[-1].deadlines.leave_at = False, inf
        start_deadlines(others[-1], now)
    elif was_current:
        peering.wait_until = now + WAIT
        if peering.peer.remotes:
            peering.host.call(peering, now)


def start_deadlines(context: IsakmpContext, now: float) -> None:
    """It is up: its times begin."""
    peer, deadlines, rng = context.peer, context.deadlines, context.host.environment.rng
    hard = min(context.sa.life_s, peer.ike_life.hard_s)
    life = Life(hard, peer.ike_life.soft_s if (peer.ike_life.soft_s or inf) < hard else None)
    deadlines.close_at = inf
    deadlines.soft = now + lifetimes.soft_after(life, initiator=context.sa.initiator, rng=rng)
    deadlines.hard = now + hard
    deadlines.check_at = now + peer.liveness.interval_s if peer.liveness.interval_s and context.abilities.dpd else inf
    checks_s = peer.liveness.interval_s if context.abilities.dpd else 0.0
    keeps = context.nat.needs_keepalives(checks_s, called=context.sa.initiator)
    deadlines.keepalive_at = now + NAT_KEEPALIVE if keeps else inf
    if peer.reauth_s:
        deadlines.soft = min(deadlines.soft, now + lifetimes.reauth_after(peer.reauth_s, called=context.sa.initiator, rng=rng))
    if context.proven.until is not None:
        deadlines.proof_at = now


# ---- the end -------------------------------------------------------------------------------------------------------------------


def end(peering: Peering | None, cause: Cause, text: str, *, again: bool = False, quiet: bool = False) -> None:
    """Nothing is left with this peer. `quiet`: it is not told, since it knows or is not there."""
    if peering is None:
        return
    context = peering.current or peering.last
    sas = [one for one in peering.sas.values() if one.state is not IpsecSaState.DELETED]
    if not quiet:
        ipsec_sas.tell(peering, sas)
    for one in list(peering.sas.values()):
        one.told = False
        ipsec_sas.remove(peering, one)
    if context is not None and not peering.withdrawn:
        context.report(Kind.IKE_DOWN, text, cause=cause, again=again)
    for session in list(peering.sessions):
        drop(session, tell=not quiet)
    peering.over = True


def withdraw(peering: Peering, _now: float) -> None:
    """Its tunnel is configured otherwise: the peer is told, and nothing of it concerns the tunnel any more."""
    peering.withdrawn = True
    end(peering, Cause.LOCAL, "it is withdrawn")
