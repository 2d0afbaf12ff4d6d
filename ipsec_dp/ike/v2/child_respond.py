"""CHILD_SAs that the peer asks for: chosen, narrowed, declined (RFC 7296 §1.3, §2.9, §2.25)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ipsec_dp.ike import dh, negotiation, suites
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.proxy_ids import near
from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.traffic_selectors import ProxyId, ask_ports, go_apart, of_one_kind
from ipsec_dp.ike.v2 import followup, on_purpose, prices, replacement, resources, ts
from ipsec_dp.ike.v2.child import MAX_OFFERED, MAX_PAIRS, Agreement, by_spi_out, install, replaced_by, report_up, switch
from ipsec_dp.ike.v2.child_create import ChildCreate
from ipsec_dp.ike.v2.exchanges import Shape
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
from ipsec_dp.ike.v2.series import TheirSeries
from ipsec_dp.ike.v2.ts import permitted
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.suites import EspSuite
    from ipsec_dp.ike.traffic_selectors import TrafficSelector
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import ReceivedMessage


def answer_first(context: Context, received: ReceivedMessage) -> list[Payload]:
    """SA, TSi, TSr of an IKE_AUTH response, or why there is no CHILD_SA."""
    refused = on_purpose.refusal(context, received.message, child=True)
    if refused is not None:
        return refused
    return _answer(context, received, Agreement(context.handshake.nonces, initiator=False), in_auth=True)


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """A CREATE_CHILD_SA request for a new CHILD_SA or a rekey of one."""
    message = received.message
    rekeyed = context.task is not None and context.task.shape is Shape.REKEY_IKE
    if context.withdrawn or rekeyed or followup.awaited(context) is not None:
        return [Notify(NotifyType.TEMPORARY_FAILURE)]  # RFC 7296 §2.25.2
    rekeys = None
    notify = message.notify(NotifyType.REKEY_SA)
    if notify is not None:
        rekeys = _rekeyed_child(context, notify)
        refused = _not_to_be_rekeyed(context, rekeys, notify)
        if refused is not None:
            return refused
    if not _has_room(context):
        return [Notify(NotifyType.NO_ADDITIONAL_SAS)]
    if rekeys is not None and context.children.undeleted >= PEER_LIMITS.undeleted + len(context.peer.proxy_ids):
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    own = message.get(Nonce)
    reply_nonce = nonce(context.host.environment.rng)
    agreed = Agreement((b"" if own is None else own.data, reply_nonce), initiator=False, rekeys=rekeys)
    return _answer(context, received, agreed, in_auth=False)


def _not_to_be_rekeyed(context: Context, rekeys: Child | None, notify: Notify) -> list[Payload] | None:
    """Why a CHILD_SA cannot be replaced (now); None: it can."""
    if rekeys is None or rekeys.state is ChildState.DELETED:
        return [Notify(NotifyType.CHILD_SA_NOT_FOUND, b"", notify.protocol, notify.spi)]
    task = context.task
    ours = (
        isinstance(task, ChildCreate) and task.rekeys is rekeys and task.series is not None
    )  # it is too late to cross (RFC 9370 §2.2.4)
    if ours or rekeys.state is not ChildState.UP:  # RFC 7296 §2.25.1: it is being closed
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    return None


def _has_room(context: Context) -> bool:
    """False when all IKE SAs of this identity together have so many CHILD_SAs that it may not make another."""
    most = PEER_LIMITS.children + PEER_LIMITS.children_of_proxy_id * len(context.peer.proxy_ids)
    return context.host.children(context) < most


def _rekeyed_child(context: Context, notify: Notify) -> Child | None:
    """The CHILD_SA whose receiving SPI at the peer is in `notify`; never one of another protocol or without an SPI."""
    if notify.protocol != ProtocolId.ESP or not notify.spi:
        return None
    return by_spi_out(context, notify.spi)


def _answer(context: Context, received: ReceivedMessage, agreed: Agreement, *, in_auth: bool) -> list[Payload]:
    message, peer = received.message, context.peer
    sa, tsi, tsr = message.get(SecurityAssociation), message.get(TrafficSelectorsInitiator), message.get(TrafficSelectorsResponder)
    if sa is None or tsi is None or tsr is None:
        return [Notify(NotifyType.INVALID_SYNTAX)]
    chosen = _choose(peer, sa.proposals, agreed, in_auth=in_auth)
    if chosen is None or len(chosen.spi) != 4:
        text = negotiation.explain_mismatch(peer.esp_proposals, sa.proposals)
        context.report(
            Kind.CHILD_FAILED,
            f"no ESP proposal in common: {text}; write one of the peer's into esp.proposals",
            cause=Cause.PROPOSAL,
        )
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    first = next(iter(tsi.selectors), None)  # what the initiator wants most (RFC 7296 §2.9)
    fitting = permitted(peer.proxy_ids, tsr.selectors, tsi.selectors, MAX_PAIRS)
    pairs = _outermost_pairs(of_one_kind(fitting, first is not None and first.opaque))
    if not pairs:
        _report_misfit(context, tsi.selectors, tsr.selectors, received.now)
        return [Notify(NotifyType.TS_UNACCEPTABLE)]
    refused = _not_these(context, message, pairs, agreed)
    if refused is not None:
        return [refused]
    if agreed.rekeys is None:
        chosen = resources.of_others(context, message, pairs, sa.proposals, chosen)
    if chosen is None:
        context.report(Kind.CHILD_FAILED, "the peer wants one more CHILD_SA, but of another suite", cause=Cause.PROPOSAL)
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite = suites.esp_suite(chosen)
    ke = message.get(KeyExchangePayload)
    extra: list[Payload] = [] if in_auth else [Nonce(agreed.nonces[1])]
    if suite.group is not None:
        if ke is None or ke.group != suite.group.id:
            return [Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
        public, secret = dh.respond(suite.group, ke.data, context.host.environment.rng)
        agreed = replace(agreed, secrets=(secret,))
        extra.append(KeyExchangePayload(suite.group.id, public))
    if suite.additional and not followup.has_room(context):
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    spi = context.host.environment.allocate_spi(context.peer.tunnel)
    if spi is None:
        return [Notify(NotifyType.NO_ADDITIONAL_SAS)]
    local, remote = outermost(pair.local for pair in pairs), outermost(pair.remote for pair in pairs)
    wanted = ask_ports(local, remote) and not go_apart(pairs, peer.proxy_ids)
    also = wanted and message.notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO) is not None
    resource = resources.assigned(context, message, pairs, agreed.rekeys)
    agreed = replace(agreed, fragments_also=also, resource=resource)
    made = Prepared((spi, int.from_bytes(chosen.spi, "big")), chosen, suite, (local, remote), pairs, agreed)
    if suite.additional:
        extra.append(_await_rounds(context, made, received.now))
    else:
        _make(context, made, received.now)
    return [
        *([Notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO)] if also else []),
        *(resources.info(resource) if resources.is_told(message) else []),
        SecurityAssociation(negotiation.with_spi((chosen,), spi.to_bytes(4, "big"))),
        *extra,
        TrafficSelectorsInitiator(remote),
        TrafficSelectorsResponder(local),
    ]


def _choose(peer: Peer, offered: Sequence[Proposal], agreed: Agreement, *, in_auth: bool) -> Proposal | None:
    if in_auth:
        return negotiation.select_child(peer.esp_proposals, offered)
    return negotiation.select_keeping(None if agreed.rekeys is None else agreed.rekeys.suite, peer.esp_proposals, offered)


def _report_misfit(context: Context, theirs: tuple[TrafficSelector, ...], wanted: tuple[TrafficSelector, ...], now: float) -> None:
    """No proxy ID fits the peer's selectors and those it wants here: to explain that is at the peer's expense."""
    proxy_ids = context.peer.proxy_ids
    ours = ([p.local for p in proxy_ids], [p.remote for p in proxy_ids])
    text = ts.explain_mismatch(ours, (wanted, theirs))
    if context.ends.account is not None:
        context.ends.account.spend(prices.of_explanation(len(theirs) + len(wanted), proxy_ids), now)
    context.report(
        Kind.CHILD_FAILED, f"no proxy ID fits: {text}; each side's proxy_id is the other's, mirrored", cause=Cause.SELECTORS
    )


def _not_these(context: Context, message: Message, pairs: tuple[ProxyId, ...], agreed: Agreement) -> Notify | None:
    """Why there is no CHILD_SA, or no further one, for selectors that are configured."""
    others = context.host.holdings.refusal(pairs, context.peer, context.ends.theirs)
    if others is not None:
        context.report(Kind.CHILD_FAILED, others, cause=Cause.SELECTORS)
        return Notify(NotifyType.TS_UNACCEPTABLE)
    if agreed.rekeys is None and not resources.has_room(context, message, pairs):
        return Notify(NotifyType.TS_MAX_QUEUE)
    return None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A CHILD_SA that is agreed on and not made yet; `spis`: ours, set aside, and the peer's."""

    spis: tuple[int, int]
    chosen: Proposal
    suite: EspSuite
    selectors: tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]
    pairs: tuple[ProxyId, ...]
    agreed: Agreement

    def finish(self, context: Context, secrets: tuple[bytearray, ...], received: ReceivedMessage) -> list[Payload]:
        refused = _changed_since(context, self)
        if not refused:
            _make(context, replace(self, agreed=replace(self.agreed, secrets=secrets)), received.now)
        return refused

    def release(self, context: Context) -> None:
        context.release_spi(self.spis[0])


def _make(context: Context, made: Prepared, now: float) -> None:
    new = install(context, made.spis, made.suite, made.selectors, made.pairs, now, made.agreed)
    _take_place(context, new, made.agreed.rekeys, now)


def _await_rounds(context: Context, made: Prepared, now: float) -> Payload:
    """Its additional key exchanges come first (`followup`)."""
    agreed = made.agreed
    methods = followup.methods_of(made.suite)
    series = TheirSeries(methods, list(agreed.secrets), agreed.nonces, made, agreed.rekeys)
    return followup.begin(context, series, now)


def _changed_since(context: Context, made: Prepared) -> list[Payload]:
    """What stands against it now, though it was agreed on; nothing: it can be made."""
    old, peer = made.agreed.rekeys, context.peer
    if old is not None and old.state is ChildState.DELETED:
        return [Notify(NotifyType.CHILD_SA_NOT_FOUND, b"", ProtocolId.ESP, old.spi_out.to_bytes(4, "big"))]
    if old is not None and old.state is not ChildState.UP:
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    if not _has_room(context):
        return [Notify(NotifyType.NO_ADDITIONAL_SAS)]
    if negotiation.select(peer.esp_proposals, (made.chosen,)) is None:
        return [Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    written = all(any(one.covers(pair) for one in near(peer.proxy_ids, pair)) for pair in made.pairs)
    if not written or context.host.holdings.refusal(made.pairs, peer, context.ends.theirs) is not None:
        return [Notify(NotifyType.TS_UNACCEPTABLE)]
    return []


def _take_place(context: Context, new: Child, old: Child | None, now: float) -> None:
    """As responder: the initiator can receive on the new SA only once it has our reply, so a rekeyed one keeps sending until the
    initiator deletes it."""
    if old is None:
        if not replacement.must_wait(context, new, now):
            context.defer(lambda: switch(context, new))
        context.defer(lambda: report_up(context, new))
        return
    task = context.task
    if isinstance(task, ChildCreate) and task.rekeys is old:
        task.rival = new  # decided when our own response comes (RFC 7296 §2.8.1)
    else:
        replaced_by(old, new, now)
    context.defer(lambda: report_up(context, new))


def outermost(selectors: Iterable[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """Each once, and none that another holds, the first `MAX_OFFERED`."""
    kept = _outermost_pairs([ProxyId(each, each) for each in dict.fromkeys(selectors)])
    return tuple(pair.local for pair in kept[:MAX_OFFERED])


def _outermost_pairs(pairs: Sequence[ProxyId]) -> tuple[ProxyId, ...]:
    index = SelectorIndex((pair, pair) for pair in pairs)
    return tuple(one for one in pairs if not any(other is not one and other.covers(one) for other in index.near(one)))
