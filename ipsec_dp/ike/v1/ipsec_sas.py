"""IPsec SAs in both roles: installed, switched to, one in another's place, and the end of one (RFC 2409 §5.5, RFC 2407 §4.4).

IKEv1 does not say when to change from an IPsec SA to the one that renews it, so this does:

    the responder receives on the new one before message 2 leaves, the initiator before message 3 does
    the responder sends on it once message 3 has come, or ESP on it, or a DELETE of the old one
    the initiator sends on it AFTER_MESSAGE_3 seconds after that: there are responders that receive on it only when they have read
    message 3; with message 3, where there is no old one or its octets or packets are soon used up; at once, when the old one ends
    both receive on the old one for OVERLAP seconds at the least; then who began the renewal deletes it, and it receives for GRACE
    seconds more; a peer that deletes none leaves it to its own hard limit
    two quick modes at once for one proxy ID: that with the lowest of the four nonces is the one whose initiator deletes it; the
    peer's is at once with ours also where nothing shows that it has our message 3
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, InstallInbound, InstallOutbound, Kind, RemoveChild, RemoveOutbound, SwitchOutbound
from ipsec_dp.ike.environment import NEVER
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.suites import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v1.keymat import sa_keymat
from ipsec_dp.ike.v1.offers import DEFAULT_LIFE, KILOBYTE
from ipsec_dp.ike.v1.payloads import DeletePayload
from ipsec_dp.ike.v1.sa import IpsecSa
from ipsec_dp.ike.v1.states import IpsecSaState
from ipsec_dp.ike.v1.wire import ESP_SPI, Protocol
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Renewal
    from ipsec_dp.ike.octets import Buffer
    from ipsec_dp.ike.v1.context import IsakmpContext, Peering
    from ipsec_dp.ike.v1.offers import Phase2Choice, SaLife
    from ipsec_dp.ike.v1.quick import QuickMode

OVERLAP: Final = 5.0  # seconds
MOST_OCTETS: Final = 2**64 - 1  # that are counted; a limit beyond is none
AFTER_MESSAGE_3: Final = 0.5  # seconds
DELETES: Final = 64  # SPIs in one DELETE of ours
UNDER_WAY: Final = 60.0  # seconds in which message 3 may still be lost, and sent again


def octets_of(life: SaLife) -> int:
    """0: no limit."""
    octets = (life.kilobytes or 0) * KILOBYTE
    return octets if octets <= MOST_OCTETS else 0


def agreed_life(ours: Life, theirs: SaLife) -> Life:
    """The shorter of both; a soft limit keeps its place in it."""
    hard = min(ours.hard_s, float(theirs.seconds or DEFAULT_LIFE))
    soft = None if ours.soft_s is None or ours.soft_s >= hard else ours.soft_s
    least = min((one for one in (ours.octets, octets_of(theirs)) if one), default=0)
    return Life(hard, soft, least, ours.packets, ours.idle_s)


def install(
    context: IsakmpContext, exchange: QuickMode, choice: Phase2Choice, spi_out: bytes, shared: Buffer, life: Life, now: float
) -> IpsecSa:
    """Derives keys and emits both installs."""
    peering, (suite, keys), peer = context.peering, context.keyed, context.peer
    if peering is None:
        raise RuntimeError("quick mode without a peer")
    rng = context.host.environment.rng
    old = peering.sas.get(exchange.replaces or 0)
    new = IpsecSa(
        context.host.next_child(),
        exchange.spi_in,
        int.from_bytes(spi_out, "big"),
        choice.suite,
        exchange.initiator,
        exchange.pair,
        now,
        now if old is None else old.used,
        min(exchange.nonces),
        replaces=exchange.replaces,
    )
    new.soft = now + lifetimes.soft_after(life, initiator=new.initiator, rng=rng)
    new.hard = now + life.hard_s
    new.idle_at = now + life.idle_s if life.idle_s else inf
    limits = new.limits = lifetimes.limits_of(life, initiator=new.initiator, rng=rng)
    peering.sas[new.number], exchange.sa = new, new
    context.host.holds(new.number, peering)
    inbound, outbound = (
        sa_keymat(suite.prf, keys.d, choice.suite, spi, exchange.nonces, shared)
        for spi in (exchange.spi_in.to_bytes(ESP_SPI, "big"), spi_out)
    )
    esp, pairs, path = suite_of(choice.suite), selector_pairs((exchange.pair,)), (context.path, context.udp)
    window = peer.replay_window
    context.host.emit(
        InstallInbound(peer.tunnel, new.number, new.spi_in, esp, inbound, pairs, window, limits, *path, new.replaces),
        InstallOutbound(peer.tunnel, new.number, new.spi_out, esp, outbound, pairs, limits, *path),
    )
    return new


def switch_soon(context: IsakmpContext, sa: IpsecSa, now: float) -> None:
    """Message 3 of ours leaves: send by `sa` when the peer has read it, or at once where nothing else sends for as long."""
    peering = context.peering
    if peering is not None and any(one.sending and not one.spent for one in peering.of_pair(sa.pair)):
        sa.look_at = now + AFTER_MESSAGE_3
    else:
        switch(context, sa, now)


def switch(context: IsakmpContext, sa: IpsecSa, now: float) -> None:
    """Send by `sa` from now on, unless one that was made at once with it stands."""
    peering = context.peering
    sa.look_at = inf
    if peering is None or sa.sending or sa.number not in peering.sas or sa.state not in (IpsecSaState.WAITING, IpsecSaState.UP):
        return
    others = [one for one in peering.of_pair(sa.pair) if one is not sa and (one.state is IpsecSaState.UP or _made(one))]
    sa.enter(IpsecSaState.UP)
    if any(_made_at_once(peering, one, sa) and one.lowest_nonce > sa.lowest_nonce for one in others):
        sa.soft = sa.idle_at = inf  # a spare, which its initiator deletes
        return
    sa.sending = True
    sending = [one for one in others if one.sending]
    peering.host.emit(SwitchOutbound(peering.peer.tunnel, sa.number, sending[0].number if sending else sa.replaces))
    for one in sending:
        one.sending = False
        if not _is_peers_spare(one, sa):  # which may have to send again
            peering.host.emit(RemoveOutbound(peering.peer.tunnel, one.number))
    for one in others:
        if not _is_peers_spare(one, sa):
            _replaced(one, now, ours=sa.initiator or _made_at_once(peering, one, sa))
    text = f"{spi_text(sa.spi_in)} in, {spi_text(sa.spi_out)} out, {sa.suite}, {sa.pair}"
    renewal: Renewal | None = None if not others else "ours" if sa.initiator else "peer"
    kind = Kind.CHILD_REKEYED if others else Kind.CHILD_UP
    context.report(kind, text, child=sa.number, exchange="quick mode", renewal=renewal)


def _made(sa: IpsecSa) -> bool:
    """Whether it is one of ours that the peer knows, and waits to be sent by."""
    return sa.initiator and sa.state is IpsecSaState.WAITING


def _made_at_once(peering: Peering, one: IpsecSa, sa: IpsecSa) -> bool:
    """Whether we have made `one` while `sa`, which the peer made, was under way, or before it where the peer may not know that: it
    renews what `one` renews, whose message 3 may be lost."""
    if not one.initiator or sa.initiator:
        return False
    if one.created >= sa.created:
        return True
    return one.replaces is not None and sa.created < one.created + UNDER_WAY and not used_by_peer(peering, one)


def _is_peers_spare(one: IpsecSa, sa: IpsecSa) -> bool:
    """Whether the peer has made `one` in the place of the same one as we `sa`, which goes before it."""
    return sa.initiator and not one.initiator and sa.replaces is not None and one.replaces == sa.replaces


def _replaced(sa: IpsecSa, now: float, *, ours: bool) -> None:
    """Another sends in its place. `ours`: we delete it."""
    sa.enter(IpsecSaState.REPLACED)
    sa.soft = sa.idle_at = sa.look_at = inf
    sa.asked = False
    sa.tell_at = now + OVERLAP if ours else inf
    sa.hard = max(sa.hard, now + lifetimes.REKEY_TIME)


def tell(peering: Peering, sas: list[IpsecSa]) -> None:
    """A DELETE for each SPI that we receive on; nobody answers it."""
    context = peering.current
    for at in range(0, len(sas), DELETES):
        spis = tuple(one.spi_in.to_bytes(ESP_SPI, "big") for one in sas[at : at + DELETES])
        if context is not None:
            context.send_informational([DeletePayload(Protocol.ESP, spis)])


def delete(peering: Peering, sa: IpsecSa, now: float, *, told: bool = False) -> None:
    """It sends no more, and receives what is under way. `told`: the peer knows."""
    if sa.state is IpsecSaState.DELETED:
        return
    if not told:
        tell(peering, [sa])
        sa.told = True
    if sa.sending:
        sa.sending = False
        peering.host.emit(RemoveOutbound(peering.peer.tunnel, sa.number))
    sa.enter(IpsecSaState.DELETED)
    sa.soft = sa.hard = sa.idle_at = sa.look_at = sa.tell_at = inf
    sa.asked = False
    sa.remove_at = now + lifetimes.GRACE


def remove(peering: Peering, sa: IpsecSa) -> None:
    """Nothing of it is left."""
    if sa.told:
        sa.told = False
        tell(peering, [sa])
    if peering.sas.pop(sa.number, None) is not None:
        peering.host.emit(RemoveChild(peering.peer.tunnel, sa.number))


def expire(context: IsakmpContext, sa: IpsecSa, now: float) -> None:
    """A hard limit: it ends at once, replaced or not."""
    if context.peering is None:
        return
    tell(context.peering, [sa])
    waits = next((one for one in reversed(context.peering.of_pair(sa.pair)) if _made(one)), None)
    if sa.sending and waits is not None:
        switch(context, waits, now)
    elif sa.sending:
        text = "it reached its hard limit"
        context.report(Kind.CHILD_DOWN, text, cause=Cause.LIFETIME, child=sa.number, again=True)
    remove(context.peering, sa)


def deleted_by_peer(context: IsakmpContext, spi: bytes, now: float) -> None:
    """The peer receives no more on an SPI."""
    peering = context.peering
    sa = None if peering is None else peering.by_spi_out(int.from_bytes(spi, "big"))
    if peering is None or sa is None or sa.state is IpsecSaState.DELETED:
        return
    alone = sa.sending
    delete(peering, sa, now, told=True)
    for other in reversed(peering.of_pair(sa.pair)):  # message 3 that would have said so is still under way, or it is a spare
        if alone and other.state in (IpsecSaState.WAITING, IpsecSaState.UP):
            switch(context, other, now)
            alone = False
    if alone:
        context.report(Kind.CHILD_DOWN, "the peer deleted it", cause=Cause.PEER, child=sa.number, again=True)


def used_by_peer(peering: Peering, sa: IpsecSa) -> bool:
    """Whether ESP has come on it."""
    return peering.host.environment.activity(sa.number).received > NEVER
