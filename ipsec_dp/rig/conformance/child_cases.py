"""CREATE_CHILD_SA: further CHILD_SAs, rekeys of both kinds, and what is refused (RFC 7296 §1.3, §2.8, §2.17, §2.18, §2.25)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ipsec_dp.ike import dh, negotiation
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import CRITICAL, ExchangeType, NotifyType
from ipsec_dp.ipsec.transforms import GROUP_OF_ID, Transform, TransformType
from ipsec_dp.rig.conformance.auth_cases import ELSEWHERE, answers_again, unusable
from ipsec_dp.rig.conformance.init_cases import ECP256, UNKNOWN_PAYLOAD, X25519, changed
from ipsec_dp.rig.conformance.kit import (
    SHOULD,
    CaseFailedError,
    Cases,
    Kit,
    NotApplicableError,
    demand,
    names,
    refused,
    works,
)
from ipsec_dp.rig.odd_exchanges import create_child, delete_child, new_spi, rekey_ike, rekey_notify
from ipsec_dp.rig.odd_parts import Part, RawPayload

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.rig.odd_peer import OddPeer
    from ipsec_dp.rig.odd_sas import OddIkeSa

CASES = Cases()
NO_MORE = "it takes no further CHILD_SA (NO_ADDITIONAL_SAS)"


def made(peer: OddPeer, answer: Message | None, children: int) -> Message:
    """The response, which has to make a CHILD_SA so that there are so many."""
    if answer is not None and answer.notify(NotifyType.NO_ADDITIONAL_SAS) is not None:
        raise NotApplicableError(NO_MORE)
    if answer is None or len(peer.children) != children:
        raise CaseFailedError(f"no CHILD_SA came of it: {names(answer)}")
    return answer


def rekeyed(kit: Kit) -> tuple[OddPeer, OddIkeSa]:
    """A peer whose IKE SA was rekeyed, and the old one, which is deleted by now."""
    peer = kit.up()
    answer, old = rekey_ike(peer)
    if answer is not None and answer.notify(NotifyType.NO_ADDITIONAL_SAS) is not None:
        raise NotApplicableError("it rekeys no IKE SA (NO_ADDITIONAL_SAS)")
    demand(peer.sa is not old, f"there is no new IKE SA: {names(answer)}")
    new, peer.sa = peer.sa, old
    deleted = peer.ask(ExchangeType.INFORMATIONAL, [p.Delete(ProtocolId.IKE)])
    peer.sa = new
    demand(deleted is not None, "the DELETE of the old IKE SA is not answered")
    return peer, old


def unspoiled(peer: OddPeer, answer: Message | None, *kinds: NotifyType) -> None:
    """It is refused so, and the IKE SA is there all the same."""
    if answer is not None and answer.notify(NotifyType.NO_ADDITIONAL_SAS) is not None:
        raise NotApplicableError(NO_MORE)
    refused(answer, *kinds)
    works(peer)


@CASES.add("RFC 7296 §1.3.1", "a further CHILD_SA is made beside the first, with an SPI of its own", unless=NO_MORE)
def child_further(kit: Kit) -> None:
    peer = kit.up()
    made(peer, create_child(peer), 2)
    first, second = (child.outgoing.spi for child in peer.children)
    demand(first != second, "both have one SPI")
    works(peer)


@CASES.add(
    "RFC 7296 §1.3.3",
    "a CHILD_SA is rekeyed: the new one has another SPI, and the old one stays until it is deleted",
    unless=NO_MORE,
)
def child_rekey(kit: Kit) -> None:
    peer = kit.up()
    old = peer.children[-1]
    made(peer, create_child(peer, old), 2)
    demand(peer.children[-1].outgoing.spi != old.outgoing.spi, "the SPI is the same")
    deleted = delete_child(peer, old)
    spis = [] if deleted is None else [spi for each in deleted.all(p.Delete) for spi in each.spis]
    demand(spis == [old.outgoing.spi], f"the DELETE of the old one is answered by: {names(deleted)}")
    works(peer)


@CASES.add("RFC 7296 §1.3.3", "a CHILD_SA is rekeyed twice, the second time the new one", unless=NO_MORE)
def child_rekey_twice(kit: Kit) -> None:
    peer = kit.up()
    for _ in range(2):
        old = peer.children[-1]
        made(peer, create_child(peer, old), 2)
        demand(delete_child(peer, old) is not None, "the DELETE of the old one is not answered")
    works(peer)


@CASES.add("RFC 7296 §2.9.2", "a rekeyed CHILD_SA has no narrower selectors than it had", unless=NO_MORE)
def child_rekey_selectors(kit: Kit) -> None:
    peer = kit.up()
    old = peer.children[-1]
    made(peer, create_child(peer, old), 2)
    for before, after in zip(old.selectors, peer.children[-1].selectors, strict=True):
        demand(all(any(new.covers(each) for new in after) for each in before), f"{', '.join(map(str, after))} is narrower")


@CASES.add(
    "RFC 7296 §2.25",
    "the rekey of a CHILD_SA that is not there is refused by CHILD_SA_NOT_FOUND",
    level=SHOULD,
    unless=NO_MORE,
)
def child_rekey_of_nothing(kit: Kit) -> None:
    peer = kit.up()
    nothing = p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, new_spi())
    unspoiled(peer, create_child(peer, change=lambda parts: [nothing, *parts]), NotifyType.CHILD_SA_NOT_FOUND)


@CASES.add(
    "RFC 7296 §2.7",
    "CREATE_CHILD_SA without a usable proposal is refused by NO_PROPOSAL_CHOSEN, and the IKE SA remains",
    unless=NO_MORE,
)
def child_no_proposal(kit: Kit) -> None:
    peer = kit.up()
    offer = p.SecurityAssociation(negotiation.with_spi((unusable(kit.agreed.esp),), new_spi()))
    unspoiled(peer, create_child(peer, change=changed(p.SecurityAssociation, offer)), NotifyType.NO_PROPOSAL_CHOSEN)


@CASES.add(
    "RFC 7296 §2.9",
    "CREATE_CHILD_SA without usable selectors is refused by TS_UNACCEPTABLE, and the IKE SA remains",
    unless=NO_MORE,
)
def child_foreign_selectors(kit: Kit) -> None:
    peer = kit.up()

    def change(parts: list[Part]) -> list[Part]:
        parts = changed(p.TrafficSelectorsInitiator, p.TrafficSelectorsInitiator(ELSEWHERE))(parts)
        return changed(p.TrafficSelectorsResponder, p.TrafficSelectorsResponder(ELSEWHERE))(parts)

    answer = create_child(peer, change=change)
    if len(peer.children) > 1:
        raise NotApplicableError("it takes 203.0.113.0/24")
    unspoiled(peer, answer, NotifyType.TS_UNACCEPTABLE)


@CASES.add("RFC 7296 §2.21.3", "CREATE_CHILD_SA without a nonce is answered by an error", unless=NO_MORE)
def child_without_nonce(kit: Kit) -> None:
    peer = kit.up()
    answer = create_child(peer, change=changed(p.Nonce, None))
    peer.gone = answer is not None and answer.notify(NotifyType.INVALID_SYNTAX) is not None
    demand(answer is not None, "no answer")
    demand(answer is not None and any(each.is_error for each in answer.all(p.Notify)), f"it sent: {names(answer)}")


@CASES.add("RFC 7296 §2.5", "a critical payload of an unknown type in CREATE_CHILD_SA is refused by UNSUPPORTED_CRITICAL_PAYLOAD")
def child_unknown_critical_payload(kit: Kit) -> None:
    peer = kit.up()
    answer = create_child(peer, change=lambda parts: [*parts, RawPayload(UNKNOWN_PAYLOAD, flags=CRITICAL)])
    notify = refused(answer, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD)
    demand(notify.data == bytes([UNKNOWN_PAYLOAD]), f"it names {notify.data.hex() or 'no type'}")


@CASES.add("RFC 7296 §2.5", "payloads of CREATE_CHILD_SA are taken in any order, unknown ones among them", unless=NO_MORE)
def child_payloads_in_another_order(kit: Kit) -> None:
    peer = kit.up()
    made(peer, create_child(peer, change=lambda parts: [RawPayload(UNKNOWN_PAYLOAD, b"unknown"), *parts[::-1]]), 2)


@CASES.add("RFC 7296 §2.1", "a repeated CREATE_CHILD_SA request has the same response again, and makes nothing new")
def child_repeated(kit: Kit) -> None:
    peer = kit.up()
    match = peer.answers(peer.sa.next_id)
    request = peer.sealed(ExchangeType.CREATE_CHILD_SA, [rekey_notify(peer.children[-1]), *_parts_of(peer)])
    demand(peer.ask_by([request]) is not None, "no answer")
    answers_again(peer, request, match)


def _parts_of(peer: OddPeer) -> list[Part]:
    agreed = peer.agreed
    return [
        p.SecurityAssociation(negotiation.with_spi(negotiation.without_key_exchange(agreed.esp), new_spi())),
        p.Nonce(os.urandom(32)),
        p.TrafficSelectorsInitiator(agreed.local),
        p.TrafficSelectorsResponder(agreed.remote),
    ]


@CASES.add("RFC 7296 §2.18", "an IKE SA is rekeyed, and the new one answers under message ID 0", unless="it rekeys no IKE SA")
def ike_rekey(kit: Kit) -> None:
    peer, old = rekeyed(kit)
    demand((peer.sa.spi_i, peer.sa.spi_r) != (old.spi_i, old.spi_r) and any(peer.sa.spi_r), "its SPIs are no new ones")
    demand(peer.sa.next_id == 0, "its message IDs do not begin at 0")
    works(peer)


@CASES.add("RFC 7296 §2.8", "CHILD_SAs go over to the new IKE SA", unless="it rekeys no IKE SA")
def ike_rekey_keeps_children(kit: Kit) -> None:
    peer, _ = rekeyed(kit)
    child = peer.children[-1]
    message = delete_child(peer, child)
    spis = [] if message is None else [spi for each in message.all(p.Delete) for spi in each.spis]
    demand(spis == [child.outgoing.spi], f"a DELETE there is answered by: {names(message)}")


@CASES.add("RFC 7296 §1.3.2", "an IKE SA is rekeyed twice, the second time the new one", unless="it rekeys no IKE SA")
def ike_rekey_twice(kit: Kit) -> None:
    peer, _ = rekeyed(kit)
    answer, old = rekey_ike(peer)
    demand(peer.sa is not old, f"there is no second one: {names(answer)}")
    works(peer)


@CASES.add("RFC 7296 §2.18", "an IKE SA is not rekeyed without a key exchange", unless="it rekeys no IKE SA")
def ike_rekey_without_key_exchange(kit: Kit) -> None:
    peer = kit.up()
    none = Transform(TransformType.KE, 0)
    offer = tuple(
        replace(each, transforms=(*(t for t in each.transforms if t.type != TransformType.KE), none)) for each in kit.agreed.ike
    )
    sa = p.SecurityAssociation(negotiation.with_spi(offer, os.urandom(8)))
    answer, old = rekey_ike(peer, lambda parts: changed(p.KeyExchangePayload, None)(changed(p.SecurityAssociation, sa)(parts)))
    demand(peer.sa is old and answer is not None and answer.get(p.SecurityAssociation) is None, f"it sent: {names(answer)}")
    peer.gone = answer is not None and answer.notify(NotifyType.INVALID_SYNTAX) is not None


@CASES.add(
    "RFC 7296 §1.3",
    "a KE payload of another group than the chosen one is refused by INVALID_KE_PAYLOAD",
    unless="it rekeys no IKE SA",
)
def ike_rekey_other_group(kit: Kit) -> None:
    peer = kit.up()
    right = {t.id for each in kit.agreed.ike for t in each.transforms if t.type == TransformType.KE}
    other = next(group for group in map(GROUP_OF_ID.get, (X25519, ECP256, 14)) if group is not None and group.id not in right)
    ke = p.KeyExchangePayload(other.id, dh.initiate(other, os.urandom).public)
    answer, _ = rekey_ike(peer, changed(p.KeyExchangePayload, ke))
    notify = refused(answer, NotifyType.INVALID_KE_PAYLOAD)
    demand(int.from_bytes(notify.data, "big") in right, f"it names group {notify.data.hex()}, which was not offered")
    works(peer)


@CASES.add(
    "RFC 7296 §2.7", "an IKE SA's rekey without a usable proposal is refused by NO_PROPOSAL_CHOSEN", unless="it rekeys no IKE SA"
)
def ike_rekey_no_proposal(kit: Kit) -> None:
    peer = kit.up()
    offer = p.SecurityAssociation(negotiation.with_spi((unusable(kit.agreed.ike),), os.urandom(8)))
    answer, _ = rekey_ike(peer, changed(p.SecurityAssociation, offer))
    unspoiled(peer, answer, NotifyType.NO_PROPOSAL_CHOSEN)
