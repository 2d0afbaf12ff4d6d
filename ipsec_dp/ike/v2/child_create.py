"""CHILD_SAs that we ask for: new, rekeyed, one for each proxy ID where the peer wants that (RFC 7296 §1.3, §2.8, §2.9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, lifetimes, proposal, traffic_selectors
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import delete, replacement, ts
from ipsec_dp.ike.v2.child import (
    MAX_OFFERED,
    MAX_PAIRS,
    Agreement,
    ChildError,
    install,
    is_held,
    replaced_by,
    report_up,
    serves,
    switch,
)
from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.deadlines import retry_child
from ipsec_dp.ike.v2.exchanges import Priority, Shape
from ipsec_dp.ike.v2.groups import groups_of, wanted_group
from ipsec_dp.ike.v2.payloads import (
    KeyExchangePayload,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from ipsec_dp.ike.v2.sa import Child, ChildState, nonce
from ipsec_dp.ike.v2.ts import permitted
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import ReceivedMessage

MAX_ROUNDS: Final = 3  # INVALID_KE_PAYLOAD answers that one request follows
MAX_DELAYS: Final = 16  # TEMPORARY_FAILURE answers after which a request is asked again


@dataclass(slots=True, eq=False)
class Offer:
    """Our half of an exchange that makes a CHILD_SA."""

    spi: int
    proposals: tuple[Proposal, ...]
    ts_local: tuple[TrafficSelector, ...]
    ts_remote: tuple[TrafficSelector, ...]
    pairs: tuple[ProxyId, ...]

    @property
    def notifies(self) -> list[Payload]:
        """What we wish besides: later fragments too, where selectors ask for ports (RFC 4301 §7.3)."""
        return [Notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO)] if self.wants_fragments else []

    @property
    def wants_fragments(self) -> bool:
        return traffic_selectors.ask_ports(*self.pairs)

    def payloads(self) -> list[Payload]:
        """SA, TSi, TSr of a request."""
        return [
            SecurityAssociation(self.proposals),
            TrafficSelectorsInitiator(self.ts_local),
            TrafficSelectorsResponder(self.ts_remote),
        ]


def make_offer(
    context: Context, pairs: tuple[ProxyId, ...], packet: ProxyId | None, *, in_auth: bool, rekeys: Child | None = None
) -> Offer | None:
    """None when no SPI is free. `packet`: its selectors go first, so that narrowing keeps them (RFC 7296 §2.9)."""
    spi = context.host.environment.allocate_spi(context.peer.tunnel)
    if spi is None:
        return None
    ours = context.peer.esp_proposals
    proposals = proposal.with_spi(proposal.without_key_exchange(ours) if in_auth else ours, spi.to_bytes(4, "big"))
    if rekeys is not None:
        return Offer(spi, proposals, rekeys.ts_local, rekeys.ts_remote, pairs)
    offered = pairs if packet is None or context.abilities.single_pair else (packet, *pairs)
    local, remote = _first_of(pair.local for pair in offered), _first_of(pair.remote for pair in offered)
    return Offer(spi, proposals, local, remote, pairs)


def _first_of(selectors: Iterable[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """Each once, MAX_OFFERED at the most."""
    found: dict[TrafficSelector, None] = {}
    for each in selectors:
        found[each] = None
        if len(found) == MAX_OFFERED:
            break
    return tuple(found)


class ChildCreate(Task):
    """A CHILD_SA for `pairs`, or one that takes the place of `rekeys`. `rival`: what the peer made of `rekeys` in the meantime."""

    exchange = ExchangeType.CREATE_CHILD_SA

    def __init__(self, pairs: tuple[ProxyId, ...], packet: ProxyId | None = None, rekeys: Child | None = None) -> None:
        self.pairs, self.packet, self.rekeys = pairs, packet, rekeys
        self.shape = Shape.NEW_CHILD if rekeys is None else Shape.REKEY_CHILD
        self.priority = Priority.NEW_CHILD if rekeys is None else Priority.REKEY_CHILD
        self.rival: Child | None = None
        self.offer: Offer | None = None
        self.key: dh.KeyExchange | None = None
        self.group = None if rekeys is None else rekeys.suite.group
        self.rounds = 0
        self.nonce = b""

    def build(self, context: Context, now: float) -> list[Payload] | None:
        if self.rekeys is not None and self.rekeys.state is not ChildState.UP:
            return None
        if self.rekeys is None and self.pairs and all(is_held(context, pair) for pair in self.pairs):
            return None
        self.offer = make_offer(context, self.pairs, self.packet, in_auth=False, rekeys=self.rekeys)
        if self.offer is None:
            context.report(Kind.CHILD_FAILED, "no SPI is free", cause=Cause.RESOURCES, again=True)
            if self.rekeys is not None:
                retry_child(self.rekeys, now, context.host.environment.rng)
            return None
        rng = context.host.environment.rng
        self.nonce = nonce(rng)
        groups = groups_of(self.offer.proposals)
        group = self.group if self.group in groups else next(iter(groups), None)
        self.key = None if group is None else dh.initiate(group, rng)
        sa, tsi, tsr = self.offer.payloads()
        return [
            *(() if self.rekeys is None else (_rekey_notify(self.rekeys),)),
            *self.offer.notifies,
            sa,
            Nonce(self.nonce),
            *(() if self.key is None else (KeyExchangePayload(self.key.group.id, self.key.public),)),
            tsi,
            tsr,
        ]

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        message, offer = received.message, self.offer
        peer_nonce = message.get(Nonce)
        if offer is None or peer_nonce is None:
            return
        secrets = self._secret(message)
        self.offer = None  # from here on the answer decides about its SPI
        agreed = Agreement((self.nonce, peer_nonce.data), initiator=True, secrets=secrets, rekeys=self.rekeys)
        new = _accept(context, offer, message, received.now, agreed)
        if new is None:
            self._failed_rekey(context, received.now)
        elif self.rekeys is None:
            _begin(context, new, received.now)
            cover(context, received.now)
        else:
            self._rekeyed(context, self.rekeys, new, received.now)

    def _secret(self, message: Message) -> tuple[bytearray, ...]:
        """g^ir when both sides sent KE. Raises KeyExchangeError."""
        ke = message.get(KeyExchangePayload)
        if ke is None or self.key is None:
            return ()
        if ke.group != self.key.group.id:
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        return (self.key.shared_secret(ke.data),)

    def _rekeyed(self, context: Context, old: Child, new: Child, now: float) -> None:
        """Switch and delete the old one; or, when the peer rekeyed it too, what the lowest nonce says (RFC 7296 §2.8.1)."""
        rival = self.rival
        if rival is not None and rival.state is ChildState.UP and rival.number in context.children:
            if new.lowest_nonce < rival.lowest_nonce:  # ours is redundant, and ours to delete; the peer deletes the old one
                replaced_by(old, rival, now)
                delete.child(context, new, now)
                return
            rival.enter(ChildState.REKEYED)
            rival.soft = rival.switch_at = lifetimes.NEVER_DUE
        switch(context, new)
        report_up(context, new)
        if old.state is ChildState.UP:
            old.successor = new
            delete.child(context, old, now)

    def refused(self, context: Context, notify: Notify | None, text: str, now: float) -> None:
        offer = self.offer
        self.dropped(context)
        kind = None if notify is None else notify.notify_type
        if kind == NotifyType.INVALID_KE_PAYLOAD and notify is not None and self._other_group(context, notify):
            return
        if self.rekeys is not None:
            self._failed_rekey(context, now, kind)
        elif kind == NotifyType.TEMPORARY_FAILURE:
            self._later(context, now)
        elif kind in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED) and len(self.pairs) > 1:
            context.abilities.single_pair = True
            cover(context, now, every=True)
        else:
            report_refusal(context, offer, kind, text)
            cover(context, now)

    def _later(self, context: Context, now: float) -> None:
        """It met TEMPORARY_FAILURE (RFC 7296 §2.25): again after a while."""
        context.deadlines.failures += 1
        if context.deadlines.failures <= MAX_DELAYS:  # then whoever wants it asks again
            wait = lifetimes.retry_after(context.deadlines.failures, context.host.environment.rng)
            context.queue.delayed.append((now + wait, self))

    def _other_group(self, context: Context, notify: Notify) -> bool:
        tried = None if self.key is None else self.key.group
        self.rounds += 1
        if tried is None or self.rounds > MAX_ROUNDS:
            return False
        self.group = wanted_group(notify, context.peer.esp_proposals, tried)
        return context.enqueue(self)

    def _failed_rekey(self, context: Context, now: float, kind: int | None = None) -> None:
        old, rival = self.rekeys, self.rival
        if old is None or old.state is not ChildState.UP:
            return
        if rival is not None and rival.state is ChildState.UP and rival.number in context.children:
            replaced_by(old, rival, now)
        elif kind == NotifyType.CHILD_SA_NOT_FOUND:  # RFC 7296 §2.25: the peer has lost it, so must we
            delete.forget(context, old)
            context.report(Kind.CHILD_DOWN, "the peer no longer has it", cause=Cause.PEER, child=old.number, again=True)
            if context.peer.start == "start":
                context.enqueue(ChildCreate(old.pairs))
        else:
            retry_child(old, now, context.host.environment.rng)

    def dropped(self, context: Context) -> None:
        if self.offer is not None:
            context.release_spi(self.offer.spi)
            self.offer = None


def _rekey_notify(old: Child) -> Notify:
    """REKEY_SA names the SPI that we receive on (RFC 7296 §1.3.3)."""
    return Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.spi_in.to_bytes(4, "big"))


def accept_first(context: Context, offer: Offer, message: Message, now: float) -> None:
    """The CHILD_SA part of an IKE_AUTH response; the IKE SA is up whatever it says (RFC 7296 §1.2)."""
    if message.get(SecurityAssociation) is not None:
        new = _accept(context, offer, message, now, Agreement(context.handshake.nonces, initiator=True))
        if new is not None:
            _begin(context, new, now)
        cover(context, now)
        return
    context.release_spi(offer.spi)
    kinds = [notify.notify_type for notify in message.all(Notify) if notify.is_error]
    kind = kinds[0] if kinds else None
    if kind in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED) and len(offer.pairs) > 1:
        context.abilities.single_pair = True
        cover(context, now, every=True)
        return
    report_refusal(context, offer, kind, "the peer made no CHILD_SA")
    context.coverage.attempted.update(offer.pairs)
    cover(context, now)


def _begin(context: Context, new: Child, now: float) -> None:
    """A CHILD_SA that replaces none of this IKE SA sends at once, unless one of the IKE SA before is to do so for a while."""
    if not replacement.must_wait(context, new, now):
        switch(context, new)
    report_up(context, new)


def _accept(context: Context, offer: Offer, message: Message, now: float, agreed: Agreement) -> Child | None:
    """Install what the peer agreed to; when it is not what we offered, delete it again and say so."""
    sa, tsi, tsr = message.get(SecurityAssociation), message.get(TrafficSelectorsInitiator), message.get(TrafficSelectorsResponder)
    try:
        if sa is None or tsi is None or tsr is None:
            raise ChildError("the peer's answer lacks SA or TS payloads", Cause.SYNTAX)
        chosen = proposal.accept(offer.proposals, sa.proposals)
        suite = proposal.esp_suite(chosen)
        if (suite.group is None) != (not agreed.secrets):
            raise ChildError("key exchange and proposal in the peer's answer do not fit", Cause.KEY_EXCHANGE)
        local, remote = tsi.selectors, tsr.selectors
        if not ts.is_narrowing(offer.ts_local, local) or not ts.is_narrowing(offer.ts_remote, remote):
            text = ts.explain_mismatch((offer.ts_local, offer.ts_remote), (local, remote))
            raise ChildError(f"the peer's selectors are not within ours: {text}", Cause.SELECTORS)
        pairs = permitted(context.peer.proxy_ids, local, remote, MAX_PAIRS)
        if not pairs:
            raise ChildError(
                f"nothing that is configured is in {traffic_selectors.text(local)} <-> {traffic_selectors.text(remote)}",
                Cause.SELECTORS,
            )
    except IkeError as error:
        cause = error.cause if isinstance(error, ChildError) else Cause.PROPOSAL
        context.report(Kind.CHILD_FAILED, str(error), cause=cause)
        context.release_spi(offer.spi)
        context.enqueue(delete.ChildDelete(offer.spi))
        return None
    if agreed.rekeys is None and any(not any(known.covers(p) for known in pairs) for p in offer.pairs):
        context.abilities.single_pair = len(offer.pairs) > 1 or context.abilities.single_pair
    wanted = offer.wants_fragments and message.notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO) is not None
    agreed = replace(agreed, fragments_also=wanted)
    return install(context, (offer.spi, int.from_bytes(chosen.spi, "big")), suite, (local, remote), pairs, now, agreed)


def cover(context: Context, now: float, *, every: bool = False) -> None:
    """Ask for proxy IDs that have no CHILD_SA yet, one exchange each: all of them where the tunnel is to be up as a whole, or where
    the peer did not take several at once. An IKE SA of ours for which the peer makes no CHILD_SA at all is given up."""
    configured = context.peer.proxy_ids
    wanted = configured if every or context.peer.start == "start" else context.coverage.wanted
    while not context.queue.full and (proxy_id := context.coverage.next_of(wanted)) is not None:
        if not serves(context, proxy_id, configured):
            context.coverage.attempted.add(proxy_id)
            context.enqueue(ChildCreate((proxy_id,)))
    if context.queue.full:  # the others have their turn when these are answered
        context.coverage.wanted = wanted
    if context.sa.initiator and not context.children and context.queue.empty:
        delete.ike(context, Cause.SELECTORS, "the peer makes no CHILD_SA", now, again=True)


def report_refusal(context: Context, offer: Offer | None, kind: int | None, text: str) -> None:
    """Why the peer made no CHILD_SA, as far as we can know: our side of it, and where to look."""
    ours = "" if offer is None else f"{traffic_selectors.text(offer.ts_local)} <-> {traffic_selectors.text(offer.ts_remote)}"
    if kind in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED):
        text = f"the peer accepts none of our selectors ({ours}): its proxy IDs must have something in common with ours, mirrored"
        context.report(Kind.CHILD_FAILED, text, cause=Cause.SELECTORS, again=True)
    elif kind == NotifyType.NO_PROPOSAL_CHOSEN:
        text = (
            f"the peer accepts none of our ESP proposals ({proposal.text(context.peer.esp_proposals)}); its log tells what it would"
        )
        context.report(Kind.CHILD_FAILED, text, cause=Cause.PROPOSAL, again=True)
    else:
        context.report(Kind.CHILD_FAILED, f"{text} ({ours})", cause=Cause.REFUSED, again=True)
