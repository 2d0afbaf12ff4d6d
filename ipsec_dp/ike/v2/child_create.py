"""CHILD_SAs that we ask for: new, rekeyed, one for each proxy ID where the peer wants that (RFC 7296 §1.3, §2.8, §2.9)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, lifetimes, negotiation, suites, traffic_selectors
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import delete, followup, refusals, replacement, resources, ts
from ipsec_dp.ike.v2.child import (
    MAX_PAIRS,
    Agreement,
    ChildError,
    install,
    is_held,
    replaced_by,
    report_up,
    switch,
)
from ipsec_dp.ike.v2.child_offer import Offer, is_withdrawn, make_offer, offer_again
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
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Renewal
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import ReceivedMessage

MAX_ROUNDS: Final = 3  # INVALID_KE_PAYLOAD answers that one request follows


class ChildCreate(followup.SerialTask):
    """A CHILD_SA for `pairs`, or one that takes the place of `rekeys`. `rival`: what the peer made of `rekeys` in the meantime.

    `any_suite`: all that is configured is offered, and not only what keeps the suite in use. `beside`: it is to be one more like
    this one, for a resource that has none (`resources`).
    """

    def __init__(
        self,
        pairs: tuple[ProxyId, ...],
        packet: ProxyId | None = None,
        rekeys: Child | None = None,
        *,
        any_suite: bool = False,
        beside: Child | None = None,
    ) -> None:
        self.beside = beside
        self.pairs, self.packet, self.rekeys, self.any_suite = pairs, packet, rekeys, any_suite
        self.shape = Shape.NEW_CHILD if rekeys is None else Shape.REKEY_CHILD
        self.priority = Priority.NEW_CHILD if rekeys is None else Priority.REKEY_CHILD
        self.rival: Child | None = None
        self.offer: Offer | None = None
        self.key: dh.KeyExchange | None = None
        self.group = None if rekeys is None else rekeys.suite.group
        self.rounds = 0
        self.nonce, self.nonces = b"", (b"", b"")

    @property
    def spi_in(self) -> int | None:
        return None if self.offer is None else self.offer.spi

    def build(self, context: Context, now: float) -> list[Payload] | None:
        rng = context.host.environment.rng
        if self.series is not None:
            return self.series.ask(rng)
        if self.rekeys is not None and self.rekeys.state is not ChildState.UP:
            return None
        if self.rekeys is not None and (theirs := followup.awaited(context, self.rekeys) or followup.awaited(context)) is not None:
            self.rekeys.soft = theirs.until
            return None
        if self.beside is not None:
            if (resource := resources.missing(context, self.beside)) is None:
                return None
            self.offer = offer_again(context, self.beside, self.pairs, resource, any_suite=False)
        elif self.rekeys is not None:
            self.offer = offer_again(context, self.rekeys, self.pairs, self.rekeys.resource, any_suite=self.any_suite)
        elif self.pairs and all(is_held(context, pair) for pair in self.pairs):
            return None
        else:
            self.offer = make_offer(context, self.pairs, self.packet, in_auth=False)
        if self.offer is None:
            why = "no SPI is free"
            if self.beside is not None:
                resources.refused(context, self.beside, None, why, now)
                return None
            if self.rekeys is not None:
                retry_child(self.rekeys, now, rng)
            if self.rekeys is not None or context.wanted.were_refused(self.pairs, why, now, rng):
                renewal: Renewal | None = None if self.rekeys is None else "ours"
                context.report(Kind.CHILD_FAILED, why, cause=Cause.RESOURCES, again=True, renewal=renewal)
            return None
        self.nonce = nonce(rng)
        groups = groups_of(self.offer.proposals)
        group = self.group if self.group in groups else next(iter(groups), None)
        self.key = None if group is None else dh.initiate(group, rng)
        sa, *selectors = self.offer.payloads()
        return [
            *self._named(),
            *self.offer.notifies,
            sa,
            Nonce(self.nonce),
            *(() if self.key is None else (KeyExchangePayload(self.key.group.id, self.key.public),)),
            *selectors,
        ]

    def _named(self) -> list[Payload]:
        """REKEY_SA names the SPI that we receive on (RFC 7296 §1.3.3)."""
        spi = b"" if self.rekeys is None else self.rekeys.spi_in.to_bytes(4, "big")
        return [Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi)] if spi else []

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        message, offer = received.message, self.offer
        if offer is None:
            return
        if self.series is None:
            peer_nonce = message.get(Nonce)
            self.nonces = self.nonce, b"" if peer_nonce is None else peer_nonce.data
            secrets = self._secret(message)
            if secrets and (suite := followup.esp_suite(offer.proposals, message)) is not None and suite.additional:
                self.begin(suite, secrets[0], message)
                if not self._has_lost(context, received.now):
                    self.go_on(context, received.now)
                return
        else:
            if not self.series.take(message):
                self.go_on(context, received.now)
                return
            message, secrets = self.series.answer, tuple(self.series.secrets)
        if is_withdrawn(context, offer, message):
            self.leave_off()
            self.offer = None
            context.enqueue(self)
            return
        self.offer = None  # from here on the answer decides about its SPI
        agreed = Agreement(self.nonces, initiator=True, secrets=secrets, rekeys=self.rekeys)
        new = _accept(context, offer, message, received.now, agreed, self.beside)
        self.leave_off()
        if self.beside is not None:
            if new is not None:
                _begin(context, new, received.now)
                resources.made(context, self.beside, received.now)
        elif new is None:
            self._failed_rekey(context, received.now, None, "the peer's answer cannot be used")
        elif self.rekeys is None:
            _begin(context, new, received.now)
            self._settle(context, new, received.now)
        else:
            self._rekeyed(context, self.rekeys, new, received.now)

    def _settle(self, context: Context, new: Child, now: float) -> None:
        """What the question has brought of what it was for."""
        if context.wanted.served.has_shrunk(self.pairs):  # what it was narrowed to before is part of this one
            inside = [one for one in context.children.near_any(new.pairs) if one is not new and all(map(new.holds, one.pairs))]
            for one in inside:
                delete.child(context, one, now)
        context.wanted.served.granted(self.pairs)
        if not context.wanted.served.any_of(new.pairs, self.pairs) and not (self.packet is not None and new.holds(self.packet)):
            made = f"{traffic_selectors.text(new.ts_local)} <-> {traffic_selectors.text(new.ts_remote)}"
            why, rng = f"the peer made a CHILD_SA for {made} instead", context.host.environment.rng
            context.wanted.were_refused(self.pairs, why, now, rng)

    def _secret(self, message: Message) -> tuple[bytearray, ...]:
        """g^ir when both sides sent KE. Raises KeyExchangeError."""
        ke = message.get(KeyExchangePayload)
        if ke is None or self.key is None:
            return ()
        if ke.group != self.key.group.id:
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        return (self.key.shared_secret(ke.data),)

    def _has_lost(self, context: Context, now: float) -> bool:
        """Whose series goes on where the peer rekeys it too: by the lowest nonce, and nothing is made yet (RFC 9370 §2.2.4)."""
        old, rival = self.rekeys, self.rival
        if old is None:
            return False
        stands = rival is not None and rival.state is ChildState.UP and rival.number in context.children
        lowest = rival.lowest_nonce if rival is not None and stands else followup.lowest_nonce(context, old)
        if lowest is not None and min(self.nonces) < lowest:
            self.dropped(context)
            if rival is not None and stands:
                replaced_by(old, rival, now)
            return True
        followup.goes_no_further(context, old)
        return False

    def _rekeyed(self, context: Context, old: Child, new: Child, now: float) -> None:
        """Switch and delete the old one; or, when the peer rekeyed it too, what the lowest nonce says (RFC 7296 §2.8.1)."""
        rival, awaited = self.rival, followup.lowest_nonce(context, old)
        if awaited is not None and new.lowest_nonce < awaited:  # the old one goes on until the peer's series is over
            delete.child(context, new, now)
            return
        followup.goes_no_further(context, old)
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
        if notify is None and offer is not None:  # the peer may have made one
            context.enqueue(delete.ChildDelete(offer.spi))
        kind = None if notify is None else notify.notify_type
        if kind == NotifyType.INVALID_KE_PAYLOAD and notify is not None and self._other_group(context, offer, notify):
            return
        if self.may_begin_again(notify):
            context.enqueue(self)
        elif self.rekeys is not None and kind == NotifyType.NO_PROPOSAL_CHOSEN and not self.any_suite:
            self.any_suite = True
            context.enqueue(self)
        elif self.rekeys is not None:
            self._failed_rekey(context, now, kind, text)
        elif self.beside is not None:
            resources.refused(context, self.beside, kind, text, now)
        elif kind == NotifyType.TEMPORARY_FAILURE:
            context.wanted.were_put_off(self.pairs, text, now, context.host.environment.rng)
        else:
            report_refusal(context, offer, self.pairs, () if kind is None else (kind,), text, now)

    def unusable(self, context: Context, error: IkeError, now: float) -> None:
        """The CHILD_SA that the peer may have made is deleted, and the IKE SA goes on."""
        self.refused(context, None, f"the peer's answer cannot be used: {error}", now)

    def _other_group(self, context: Context, offer: Offer | None, notify: Notify) -> bool:
        tried = None if self.key is None else self.key.group
        self.rounds += 1
        if tried is None or self.rounds > MAX_ROUNDS:
            return False
        self.group = wanted_group(notify, context.peer.esp_proposals, tried, "esp.proposals")
        self.any_suite = self.any_suite or (offer is not None and self.group not in groups_of(offer.proposals))
        context.enqueue(self)
        return True

    def _failed_rekey(self, context: Context, now: float, kind: int | None, text: str) -> None:
        old, rival = self.rekeys, self.rival
        if old is None or old.state is not ChildState.UP:
            return
        if rival is not None and rival.state is ChildState.UP and rival.number in context.children:
            replaced_by(old, rival, now)
        elif kind == NotifyType.CHILD_SA_NOT_FOUND:  # RFC 7296 §2.25: the peer has lost it, so must we
            delete.forget(context, old)
            context.report(Kind.CHILD_DOWN, "the peer no longer has it", cause=Cause.PEER, child=old.number, again=True)
        else:
            refusals.rekey_refused(context, old, kind, text, now)

    def dropped(self, context: Context) -> None:
        self.leave_off()
        if self.offer is not None:
            context.release_spi(self.offer.spi)
            self.offer = None


def accept_first(context: Context, offer: Offer, message: Message, now: float) -> None:
    """The CHILD_SA part of an IKE_AUTH response; the IKE SA is up whatever it says (RFC 7296 §1.2)."""
    if is_withdrawn(context, offer, message):
        return
    if message.get(SecurityAssociation) is not None:
        new = _accept(context, offer, message, now, Agreement(context.handshake.nonces, initiator=True))
        if new is not None:
            _begin(context, new, now)
            refusals.beside_an_answer(context, refusals.errors_in(message), new.number)
        return
    context.release_spi(offer.spi)
    kinds = refusals.errors_in(message)
    if kinds and refusals.SELECTORS.issuperset(kinds) and len(offer.pairs) > 1:
        context.abilities.single_pair = True
        return
    report_refusal(context, offer, offer.pairs, kinds, "the peer made no CHILD_SA", now)


def _begin(context: Context, new: Child, now: float) -> None:
    """A CHILD_SA that replaces none of this IKE SA sends at once, unless one of the IKE SA before is to do so for a while."""
    if not replacement.must_wait(context, new, now):
        switch(context, new)
    report_up(context, new)


def _accept(
    context: Context, offer: Offer, message: Message, now: float, agreed: Agreement, beside: Child | None = None
) -> Child | None:
    """Install what the peer agreed to; when it is not what we offered, delete it again and say so."""
    sa, tsi, tsr = message.get(SecurityAssociation), message.get(TrafficSelectorsInitiator), message.get(TrafficSelectorsResponder)
    try:
        if sa is None or tsi is None or tsr is None:
            raise ChildError("the peer's answer lacks SA or TS payloads", Cause.SYNTAX)
        chosen = negotiation.accept(offer.proposals, sa.proposals)
        suite = suites.esp_suite(chosen)
        if len(agreed.secrets) != (0 if suite.group is None else 1 + len(suite.additional)):
            raise ChildError("key exchange and proposal in the peer's answer do not fit", Cause.KEY_EXCHANGE)
        local, remote = tsi.selectors, tsr.selectors
        if not ts.is_narrowing(offer.ts_local, local) or not ts.is_narrowing(offer.ts_remote, remote):
            text = ts.explain_mismatch((offer.ts_local, offer.ts_remote), (local, remote))
            raise ChildError(f"the peer's selectors are not within ours: {text}", Cause.SELECTORS)
        pairs = permitted(context.peer.proxy_ids, local, remote, MAX_PAIRS)
        if not pairs:
            asked = f"{traffic_selectors.text(local)} <-> {traffic_selectors.text(remote)}"
            raise ChildError(f"nothing that is configured is in {asked}", Cause.SELECTORS)
        if beside is not None and not resources.is_alike(beside, suite, pairs):  # RFC 9611: all have the same properties
            made = f"{suite}, {traffic_selectors.text(local)} <-> {traffic_selectors.text(remote)}"
            raise ChildError(f"the peer made another one: {made}", Cause.SELECTORS)
        if (others := context.host.holdings.refusal(pairs, context.peer, context.ends.theirs)) is not None:
            raise ChildError(others, Cause.SELECTORS)
    except IkeError as error:
        cause = error.cause if isinstance(error, ChildError) else Cause.PROPOSAL
        rng = context.host.environment.rng
        if beside is not None:
            resources.refused(context, beside, None, str(error), now)
        elif agreed.rekeys is not None or context.wanted.were_refused(offer.pairs, str(error), now, rng):
            context.report(Kind.CHILD_FAILED, str(error), cause=cause, renewal=None if agreed.rekeys is None else "ours")
        context.release_spi(offer.spi)
        context.enqueue(delete.ChildDelete(offer.spi))
        return None
    if agreed.rekeys is None and any(not any(known.covers(p) for known in pairs) for p in offer.pairs):
        context.abilities.single_pair = len(offer.pairs) > 1 or context.abilities.single_pair
    wanted = offer.wants_fragments and message.notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO) is not None
    resource = resources.agreed(offer.resource, message, agreed.rekeys) if beside is None else offer.resource
    agreed = replace(agreed, fragments_also=wanted, resource=resource)
    return install(context, (offer.spi, int.from_bytes(chosen.spi, "big")), suite, (local, remote), pairs, now, agreed)


def report_refusal(
    context: Context, offer: Offer | None, pairs: tuple[ProxyId, ...], kinds: Iterable[int], text: str, now: float
) -> None:
    """The peer made no CHILD_SA. `kinds`: the errors in its response; `text`: where it names none."""
    ours = "" if offer is None else f"{traffic_selectors.text(offer.ts_local)} <-> {traffic_selectors.text(offer.ts_remote)}"
    text, cause = refusals.of_child(context.peer, ours, kinds, text)
    if context.wanted.were_refused(pairs, text, now, context.host.environment.rng):
        context.report(Kind.CHILD_FAILED, text, cause=cause, again=True)
