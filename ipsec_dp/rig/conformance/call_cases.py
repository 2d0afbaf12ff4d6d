"""A gateway that calls: what it says as initiator, and what it makes of answers (RFC 7296 §1.2, §2.1, §2.5, §2.6, §2.7, §2.15)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import proposal
from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.rig.conformance.init_cases import UNKNOWN_PAYLOAD
from ipsec_dp.rig.conformance.kit import Cases, NotApplicableError, demand, names, works
from ipsec_dp.rig.odd_answers import changing, late, refusing, twice
from ipsec_dp.rig.odd_exchanges import create_child, delete_child, delete_ike, rekey_ike
from ipsec_dp.rig.odd_parts import RawPayload
from ipsec_dp.rig.odd_responder import rightly_called

if TYPE_CHECKING:
    from ipsec_dp.rig.conformance.calls import CallKit
    from ipsec_dp.rig.odd_parts import Part

CASES = Cases()
COOKIE: Final = b"a cookie of the kit"
INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
NO_MORE: Final = "it takes no further CHILD_SA, or rekeys no IKE SA (NO_ADDITIONAL_SAS)"


def spoiled(parts: list[Part]) -> list[Part]:
    """AUTH with one bit turned over."""
    return [
        replace(part, data=bytes([part.data[0] ^ 1]) + part.data[1:]) if isinstance(part, p.Authentication) else part
        for part in parts
    ]


def reordered(parts: list[Part]) -> list[Part]:
    """The transforms of a choice, which is one proposal, the other way round."""
    return [
        p.SecurityAssociation(tuple(replace(each, transforms=each.transforms[::-1]) for each in part.proposals))
        if isinstance(part, p.SecurityAssociation)
        else part
        for part in parts
    ]


@CASES.add("RFC 7296 §1.2", "IKE_SA_INIT of a call holds SA, KE and a nonce; its message ID and the responder's SPI are 0 (§3.1)")
def call_is_right(kit: CallKit) -> None:
    peer = kit.up(rightly_called)
    message = parse_message(peer.calls[0])
    header = message.header
    demand((header.spi_r, header.message_id, header.flags) == (NO_SPI, 0, Flag.INITIATOR), "SPI, message ID or flags are others")
    demand(any(header.spi_i), "its own SPI is 0")
    for kind in (p.SecurityAssociation, p.KeyExchangePayload, p.Nonce):
        demand(message.get(kind), f"it holds {', '.join(payload.type.name for payload in message.payloads)}")


@CASES.add("RFC 7296 §2.1", "a request that has no answer is repeated octet for octet, and a late answer counts")
def call_is_repeated(kit: CallKit) -> None:
    peer = kit.called(late(1, rightly_called))
    comes_up = peer.await_call(kit.wait)
    demand(len(peer.calls) >= 2, "it is not")
    demand(peer.calls[0] == peer.calls[1], "the repetition is another")
    demand(comes_up, "it comes to no IKE_AUTH that holds")


@CASES.add("RFC 7296 §2.1", "a response that comes twice changes nothing")
def call_answered_twice(kit: CallKit) -> None:
    works(kit.up(twice(rightly_called)))


@CASES.add("RFC 7296 §2.6", "a COOKIE is brought back as the first payload, and all others are as they were")
def call_brings_back_a_cookie(kit: CallKit) -> None:
    peer = kit.up(refusing(NotifyType.COOKIE, COOKIE, exchange=INIT, then=rightly_called))
    first, second = (parse_message(octets) for octets in list(dict.fromkeys(peer.calls))[:2])
    wanted = (p.Notify(NotifyType.COOKIE, COOKIE), *first.payloads)
    demand(second.payloads == wanted, f"it holds {', '.join(payload.type.name for payload in second.payloads)}")


@CASES.add("RFC 7296 §2.5", "the payloads of responses are taken in any order")
def call_payloads_in_another_order(kit: CallKit) -> None:
    works(kit.up(changing(lambda parts: parts[::-1], then=rightly_called)))


@CASES.add("RFC 7296 §3.3", "the transforms of a choice are taken in any order")
def call_transforms_in_another_order(kit: CallKit) -> None:
    works(kit.up(changing(reordered, then=rightly_called)))


@CASES.add("RFC 7296 §2.5", "payloads and status notifies of unknown types in responses are passed over")
def call_unknown_payloads(kit: CallKit) -> None:
    def more(parts: list[Part]) -> list[Part]:
        return [RawPayload(UNKNOWN_PAYLOAD, b"unknown"), *parts, p.Notify(40_000, b"status"), p.VendorId(b"somebody's")]

    works(kit.up(changing(more, then=rightly_called)))


@CASES.add("RFC 7296 §2.15", "an AUTH of the responder that does not hold brings no IKE SA")
def call_wrong_auth(kit: CallKit) -> None:
    peer = kit.called(changing(spoiled, AUTH, rightly_called))
    demand(peer.await_call(kit.wait), "it sent no IKE_AUTH that holds")
    answer = peer.ask(ExchangeType.INFORMATIONAL)
    peer.gone = True
    refuses = answer is None or any(each.is_error for each in answer.all(p.Notify))
    demand(refuses, f"a request on it is answered by {names(answer)}")


@CASES.add("RFC 7296 §3.3.6", "a choice that was not offered is not taken")
def call_choice_that_was_not_offered(kit: CallKit) -> None:
    def other(parts: list[Part]) -> list[Part]:
        return [
            p.SecurityAssociation(tuple(_other_key_length(each) for each in part.proposals))
            if isinstance(part, p.SecurityAssociation)
            else part
            for part in parts
        ]

    peer = kit.called(changing(other, INIT, rightly_called))
    demand(peer.hears(INIT, kit.wait) is not None, "it does not call")
    peer.listen(lambda _: peer.authentic, kit.patience, len(peer.heard))
    demand(not peer.authentic, "it goes on to IKE_AUTH")
    peer.gone = True


def _other_key_length(chosen: proposal.Proposal) -> proposal.Proposal:
    transforms = tuple(
        each if each.key_length is None else replace(each, key_length=each.key_length ^ 64) for each in chosen.transforms
    )
    return replace(chosen, transforms=transforms)


@CASES.add("RFC 7296 §1.2", "where the CHILD_SA is refused the IKE SA is there, or is deleted in order")
def call_child_refused(kit: CallKit) -> None:
    def without_child(parts: list[Part]) -> list[Part]:
        kept = [part for part in parts if part.type in (p.IdentificationResponder.type, p.Authentication.type)]
        return [*kept, p.Notify(NotifyType.NO_PROPOSAL_CHOSEN)]

    peer = kit.called(changing(without_child, AUTH, rightly_called))
    demand(peer.await_call(kit.wait), "it sent no IKE_AUTH that holds")
    peer.children.clear()
    answer = peer.ask(ExchangeType.INFORMATIONAL)
    demand(answer is not None or peer.gone, "a request on the IKE SA is not answered, and there was no DELETE")


@CASES.add("RFC 7296 §1.3.3", "the responder may rekey the CHILD_SA at once", unless=NO_MORE)
def call_child_rekeyed_at_once(kit: CallKit) -> None:
    peer = kit.up(rightly_called)
    old = peer.children[-1]
    answer = create_child(peer, old)
    if answer is not None and answer.notify(NotifyType.NO_ADDITIONAL_SAS) is not None:
        raise NotApplicableError(NO_MORE)
    demand(len(peer.children) == 2, f"no CHILD_SA came of it: {names(answer)}")
    demand(delete_child(peer, old) is not None, "the DELETE of the old one is not answered")
    works(peer)


@CASES.add("RFC 7296 §2.18", "the responder may rekey the IKE SA, and is the initiator of the new one", unless=NO_MORE)
def call_ike_sa_rekeyed_at_once(kit: CallKit) -> None:
    peer = kit.up(rightly_called)
    answer, old = rekey_ike(peer)
    if answer is not None and answer.notify(NotifyType.NO_ADDITIONAL_SAS) is not None:
        raise NotApplicableError(NO_MORE)
    demand(peer.sa is not old, f"there is no new IKE SA: {names(answer)}")
    new, peer.sa = peer.sa, old
    deleted = peer.ask(ExchangeType.INFORMATIONAL, [p.Delete(ProtocolId.IKE)])
    peer.sa = new
    demand(deleted is not None, "the DELETE of the old IKE SA is not answered")
    works(peer)


@CASES.add("RFC 7296 §1.4.1", "a DELETE right behind IKE_AUTH is answered without payloads")
def call_deleted_early(kit: CallKit) -> None:
    message = delete_ike(kit.up(rightly_called))
    demand(message is not None, "no answer")
    demand(message is not None and not message.payloads, f"it holds {names(message)}")
