"""What we offer for a CHILD_SA, and whether that still holds when the answer comes (RFC 7296 §1.3, §2.8, §2.9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.ike import negotiation, traffic_selectors
from ipsec_dp.ike.proposal import ProposalError
from ipsec_dp.ike.v2 import delete, resources
from ipsec_dp.ike.v2.child import MAX_OFFERED
from ipsec_dp.ike.v2.context import expected_on
from ipsec_dp.ike.v2.payloads import (
    KeyExchangePayload,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectorsInitiator,
    TrafficSelectorsResponder,
)
from ipsec_dp.ike.v2.wire import NotifyType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import Child


@dataclass(slots=True, eq=False)
class Offer:
    """Our half of an exchange that makes a CHILD_SA. `configured`, `admitted`: proxy IDs and proposals of then. `resource`: which
    of several with the same selectors it is to be."""

    spi: int
    proposals: tuple[Proposal, ...]
    ts_local: tuple[TrafficSelector, ...]
    ts_remote: tuple[TrafficSelector, ...]
    pairs: tuple[ProxyId, ...]
    configured: tuple[ProxyId, ...] = ()
    admitted: tuple[Proposal, ...] = ()
    resource: int | None = None

    @property
    def notifies(self) -> list[Payload]:
        """What we wish besides: later fragments too, where selectors ask for ports (RFC 4301 §7.3); several like it (RFC 9611)."""
        fragments: list[Payload] = [Notify(NotifyType.NON_FIRST_FRAGMENTS_ALSO)] if self.wants_fragments else []
        return [*fragments, *resources.info(self.resource)]

    @property
    def wants_fragments(self) -> bool:
        return traffic_selectors.ask_ports(*self.pairs) and not traffic_selectors.go_apart(self.pairs, self.configured)

    def payloads(self) -> list[Payload]:
        """SA, TSi, TSr of a request."""
        return [
            SecurityAssociation(self.proposals),
            TrafficSelectorsInitiator(self.ts_local),
            TrafficSelectorsResponder(self.ts_remote),
        ]


def _announced(context: Context) -> int | None:
    """An SPI that a request is about to name; None when no SPI is free."""
    spi = context.host.environment.allocate_spi(context.peer.tunnel)
    if spi is not None:
        context.emit(expected_on(context, spi))
    return spi


def make_offer(context: Context, pairs: tuple[ProxyId, ...], packet: ProxyId | None, *, in_auth: bool) -> Offer | None:
    """None when no SPI is free. `packet`: its selectors go first, so that narrowing keeps them (RFC 7296 §2.9).

    Of `pairs` those of one kind, as of the packet or the first: SAs for later fragments are others' (RFC 4301 §7.2).
    """
    spi = _announced(context)
    if spi is None:
        return None
    ours = context.peer.esp_proposals
    proposals = negotiation.with_spi(negotiation.without_key_exchange(ours) if in_auth else ours, spi.to_bytes(4, "big"))
    first = packet if packet is not None else next(iter(pairs), None)
    pairs = traffic_selectors.of_one_kind(pairs, first is not None and first.opaque)
    offered = pairs if packet is None or context.abilities.single_pair else (packet, *pairs)
    local, remote = _first_of(pair.local for pair in offered), _first_of(pair.remote for pair in offered)
    return Offer(spi, proposals, local, remote, pairs, context.peer.proxy_ids, ours, resources.wanted(context.peer))


def _first_of(selectors: Iterable[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """Each once, MAX_OFFERED at the most."""
    found: dict[TrafficSelector, None] = {}
    for each in selectors:
        found[each] = None
        if len(found) == MAX_OFFERED:
            break
    return tuple(found)


def offer_again(context: Context, old: Child, pairs: tuple[ProxyId, ...], resource: int | None, *, any_suite: bool) -> Offer | None:
    """For a rekey of `old`, or another one beside it: its selectors and, unless it may be any, its suite (RFC 7296 §2.8, RFC 9611
    §4). None when no SPI is free."""
    spi = _announced(context)
    if spi is None:
        return None
    context.emit(expected_on(context, spi))
    ours = context.peer.esp_proposals
    proposals = (() if any_suite else negotiation.keeping(old.suite, ours)) or negotiation.no_weaker(old.suite, ours)
    numbered = negotiation.with_spi(proposals, spi.to_bytes(4, "big"))
    return Offer(spi, numbered, old.ts_local, old.ts_remote, pairs, context.peer.proxy_ids, ours, resource)


def is_withdrawn(context: Context, offer: Offer, message: Message) -> bool:
    """Whether a reload has taken away, while we waited, what the peer chose. Then it deletes what it made, and our SPI is free."""
    sa, ours = message.get(SecurityAssociation), context.peer.esp_proposals
    if sa is None or ours == offer.admitted:
        return False
    try:
        chosen = (negotiation.accept(offer.proposals, sa.proposals),)
    except ProposalError:  # whoever takes the answer says so
        return False
    with_key_exchange = message.get(KeyExchangePayload) is not None
    if (negotiation.select if with_key_exchange else negotiation.select_child)(ours, chosen) is not None:
        return False
    context.release_spi(offer.spi)
    context.enqueue(delete.ChildDelete(offer.spi))
    return True
