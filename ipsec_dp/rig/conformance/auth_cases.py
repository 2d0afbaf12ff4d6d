"""IKE_AUTH: who both are, the first CHILD_SA, what is passed over and what refuses (RFC 7296 §1.2, §2.9, §2.15, §2.21.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import negotiation, proposal
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.traffic_selectors import ANY, TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import CRITICAL, ExchangeType, NotifyType
from ipsec_dp.ipsec.transforms import Transform, TransformType
from ipsec_dp.rig.conformance.init_cases import UNKNOWN_PAYLOAD, UNKNOWN_TRANSFORM, changed, with_transforms, without
from ipsec_dp.rig.conformance.kit import (
    ALIVE_S,
    SHOULD,
    CaseFailedError,
    Cases,
    Kit,
    NotApplicableError,
    came_up,
    demand,
    names,
    refused,
    works,
)
from ipsec_dp.rig.odd_parts import Part, RawPayload, raw

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.rig.odd_parts import Heard
    from ipsec_dp.rig.odd_peer import OddPeer

CASES = Cases()
ELSEWHERE: Final = (TrafficSelector.from_prefix("203.0.113.0/24"),)  # of documents (RFC 5737): nobody protects it
UNKNOWN_SELECTOR: Final = bytes([200, 0, 0, 12]) + bytes(8)  # a type of which only the length is known


def broken(parts: list[Part]) -> list[Part]:
    """AUTH with one bit turned over."""
    return [
        replace(part, data=bytes([part.data[0] ^ 1]) + part.data[1:]) if isinstance(part, p.Authentication) else part
        for part in parts
    ]


def unusable(proposals: tuple[proposal.Proposal, ...]) -> proposal.Proposal:
    """One that nobody can take."""
    return with_transforms(without(proposals[0], TransformType.ENCR), Transform(TransformType.ENCR, UNKNOWN_TRANSFORM, 128))


@CASES.add("RFC 7296 §1.2", "IKE_AUTH is answered with IDr, AUTH, SAr2, TSi and TSr under message ID 1")
def auth_is_answered(kit: Kit) -> None:
    peer = kit.begun()
    message = came_up(peer, peer.auth())
    demand(message.header.message_id == 1, f"its message ID is {message.header.message_id}")


@CASES.add("RFC 7296 §2.15", "the responder's AUTH is over its IKE_SA_INIT response, our nonce and its identity")
def auth_of_the_responder_holds(kit: Kit) -> None:
    peer = kit.begun()
    message = peer.auth()
    demand(message is not None and message.get(p.Authentication) is not None, f"there is no AUTH: {names(message)}")
    demand(peer.authentic, "it does not hold, or the identity is another")


@CASES.add("RFC 7296 §3.3.6", "of the ESP proposals one is chosen, with one transform of each type that it was offered with")
def auth_one_proposal_is_chosen(kit: Kit) -> None:
    peer = kit.begun()
    sa = came_up(peer, peer.auth()).get(p.SecurityAssociation)
    offered = negotiation.with_spi(negotiation.without_key_exchange(kit.agreed.esp), peer.spi_in)
    try:
        negotiation.accept(offered, () if sa is None else sa.proposals)
    except proposal.ProposalError as error:
        raise CaseFailedError(str(error)) from None


@CASES.add("RFC 7296 §1.2", "an AUTH that does not hold brings no IKE SA")
def auth_wrong_key(kit: Kit) -> None:
    peer, answer = _with_a_wrong_auth(kit)
    demand(answer is None or not (answer.get(p.Authentication) or answer.get(p.SecurityAssociation)), f"it sent: {names(answer)}")
    since, number = len(peer.heard), peer.sa.next_id
    peer.send(peer.sealed(ExchangeType.INFORMATIONAL, []))
    kit.stays_silent_to_all(peer, peer.answers(number), since, "it answers a request on the IKE SA")


@CASES.add("RFC 7296 §2.21.2", "an AUTH that does not hold is refused by AUTHENTICATION_FAILED", level=SHOULD)
def auth_wrong_key_is_told(kit: Kit) -> None:
    refused(_with_a_wrong_auth(kit)[1], NotifyType.AUTHENTICATION_FAILED)


def _with_a_wrong_auth(kit: Kit) -> tuple[OddPeer, Message | None]:
    peer = kit.begun()
    answer = peer.auth(broken)
    peer.gone = not peer.authentic
    return peer, answer


@CASES.add("RFC 7296 §1", "before IKE_AUTH no other request is carried out")
def auth_is_first(kit: Kit) -> None:
    peer = kit.begun()
    since = len(peer.heard)
    peer.send(peer.sealed(ExchangeType.INFORMATIONAL, [p.Delete(ProtocolId.IKE)]))
    kit.alive(peer)
    found = peer.listen(peer.answers(1), kit.grace, since)
    peer.gone = found is not None
    if found is not None and found.message is not None:
        demand(any(each.is_error for each in found.message.all(p.Notify)), f"a DELETE is answered by {names(found.message)}")


@CASES.add("RFC 7296 §3.14", "IKE_AUTH whose ICV does not hold is not answered, and the right one counts after it")
def auth_wrong_icv(kit: Kit) -> None:
    peer = kit.begun()
    right, since = peer.sealed(ExchangeType.IKE_AUTH, peer.auth_parts()), len(peer.heard)
    peer.send(right[:-1] + bytes([right[-1] ^ 1]))
    kit.stays_silent_to_all(peer, peer.answers(1), since, "the forged one is answered")
    came_up(peer, peer.authenticated_by(peer.ask_by([right])))


@CASES.add("RFC 7296 §2.5", "the payloads of IKE_AUTH are taken in any order")
def auth_payloads_in_another_order(kit: Kit) -> None:
    kit.up(lambda parts: parts[::-1])


@CASES.add("RFC 7296 §2.5", "payloads of unknown types and vendor IDs in IKE_AUTH are passed over where they are not critical")
def auth_unknown_payloads(kit: Kit) -> None:
    kit.up(lambda parts: [RawPayload(UNKNOWN_PAYLOAD, b"unknown"), *parts, p.VendorId(b"somebody's"), RawPayload(UNKNOWN_PAYLOAD)])


@CASES.add("RFC 7296 §3.2", "reserved bits and critical flags of known payloads in IKE_AUTH are ignored")
def auth_reserved_bits_of_payloads(kit: Kit) -> None:
    kit.up(lambda parts: [raw(part, flags=0xFF) for part in parts if not isinstance(part, RawPayload)])


@CASES.add("RFC 7296 §3.10.1", "notifies of unknown types in IKE_AUTH are passed over, errors too")
def auth_unknown_notifies(kit: Kit) -> None:
    kit.up(lambda parts: [p.Notify(8_000), *parts, p.Notify(40_000, b"status")])


@CASES.add(
    "RFC 7296 §2.5", "a critical payload of an unknown type in IKE_AUTH is refused by UNSUPPORTED_CRITICAL_PAYLOAD with its type"
)
def auth_unknown_critical_payload(kit: Kit) -> None:
    peer = kit.begun()
    answer = peer.auth(lambda parts: [*parts, RawPayload(UNKNOWN_PAYLOAD, flags=CRITICAL)])
    peer.gone = not peer.authentic
    notify = refused(answer, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD)
    demand(notify.data == bytes([UNKNOWN_PAYLOAD]), f"it names {notify.data.hex() or 'no type'}")
    demand(not peer.authentic, "it accepts all the same")


@CASES.add("RFC 7296 §2.9", "the selectors of a CHILD_SA are a part of what was offered")
def auth_narrows_any_selectors(kit: Kit) -> None:
    peer = kit.begun(agreed=replace(kit.agreed, local=ANY[:1], remote=ANY[:1]))
    came_up(peer, peer.auth())
    _within(peer, ANY[:1], ANY[:1])


@CASES.add("RFC 7296 §2.9", "selectors are narrowed to what the responder's policy holds, the others beside it are left out")
def auth_narrows_foreign_selectors(kit: Kit) -> None:
    wide = replace(kit.agreed, local=(*ELSEWHERE, *kit.agreed.local), remote=(*ELSEWHERE, *kit.agreed.remote))
    peer = kit.begun(agreed=wide)
    came_up(peer, peer.auth())
    _within(peer, wide.local, wide.remote)


@CASES.add("RFC 7296 §2.9", "narrowed selectors include the first of each side where it is in the responder's policy")
def auth_keeps_the_first_selectors(kit: Kit) -> None:
    first = tuple((replace(side[0], end=side[0].start),) for side in (kit.agreed.local, kit.agreed.remote))
    wide = replace(kit.agreed, local=(*first[0], *kit.agreed.local), remote=(*first[1], *kit.agreed.remote))
    peer = kit.begun(agreed=wide)
    came_up(peer, peer.auth())
    _within(peer, wide.local, wide.remote)
    for wanted, answered in zip(first, peer.children[-1].selectors, strict=True):
        demand(any(one.covers(wanted[0]) for one in answered), f"{wanted[0]} is not in {', '.join(map(str, answered))}")


def _within(peer: OddPeer, local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...]) -> None:
    for offered, answered in zip((local, remote), peer.children[-1].selectors, strict=True):
        outside = [each for each in answered if not any(one.covers(each) for one in offered)]
        demand(answered and not outside, f"{', '.join(map(str, outside)) or 'nothing'} was not offered")


@CASES.add("RFC 7296 §2.9", "a selector of an unknown type beside a good one is left out")
def auth_unknown_selector_type(kit: Kit) -> None:
    def change(parts: list[Part]) -> list[Part]:
        return [_with_unknown_selector(part) if isinstance(part, p.TrafficSelectorsInitiator) else part for part in parts]

    kit.up(change)


def _with_unknown_selector(part: p.TrafficSelectorsInitiator) -> RawPayload:
    made = raw(part)
    return replace(made, body=bytes([made.body[0] + 1]) + made.body[1:] + UNKNOWN_SELECTOR)


@CASES.add(
    "RFC 7296 §2.9",
    "selectors of which it can take nothing are refused by TS_UNACCEPTABLE, and the IKE SA is there all the same (§1.2)",
    unless="its policy takes any selectors",
)
def auth_foreign_selectors(kit: Kit) -> None:
    peer = kit.begun(agreed=replace(kit.agreed, local=ELSEWHERE, remote=ELSEWHERE))
    answer = peer.auth()
    if peer.children:
        raise NotApplicableError("it takes 203.0.113.0/24")
    refused(answer, NotifyType.TS_UNACCEPTABLE)
    _is_up_without_child(peer, answer)


@CASES.add(
    "RFC 7296 §2.21.2", "ESP proposals that it cannot take are refused by NO_PROPOSAL_CHOSEN, and the IKE SA is there all the same"
)
def auth_no_esp_proposal(kit: Kit) -> None:
    peer = kit.begun()
    offer = negotiation.with_spi((unusable(negotiation.without_key_exchange(kit.agreed.esp)),), peer.spi_in)
    answer = peer.auth(changed(p.SecurityAssociation, p.SecurityAssociation(offer)))
    refused(answer, NotifyType.NO_PROPOSAL_CHOSEN)
    _is_up_without_child(peer, answer)


def _is_up_without_child(peer: OddPeer, answer: Message | None) -> None:
    demand(peer.authentic, f"the IKE SA is refused too: {names(answer)}")
    works(peer)


@CASES.add("RFC 7296 §2.1", "a repeated IKE_AUTH request has the same response again")
def auth_repeated(kit: Kit) -> None:
    peer = kit.begun()
    request, match = peer.sealed(ExchangeType.IKE_AUTH, peer.auth_parts()), peer.answers(1)
    came_up(peer, peer.authenticated_by(peer.ask_by([request])))
    answers_again(peer, request, match)


def answers_again(peer: OddPeer, request: bytes, match: Callable[[Heard], bool]) -> None:
    """A repetition of the last request brings the same octets."""
    first = next(heard for heard in peer.heard if match(heard))
    since = len(peer.heard)
    peer.send(request)
    again = peer.listen(match, ALIVE_S, since)
    demand(again is not None, "the repetition has no answer")
    demand(again is not None and again.octets == first.octets, "the response is another")
