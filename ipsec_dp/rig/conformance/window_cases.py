"""An IKE SA that is up: message IDs, INFORMATIONAL, what is not authentic, ports (RFC 7296 §1.4, §2, RFC 3948)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Message, build_message
from ipsec_dp.ike.v2.wire import CRITICAL, ExchangeType, Flag, NotifyType
from ipsec_dp.rig.conformance.auth_cases import answers_again
from ipsec_dp.rig.conformance.init_cases import UNKNOWN_PAYLOAD
from ipsec_dp.rig.conformance.kit import SHOULD, CaseFailedError, Cases, Kit, demand, names, refused, works
from ipsec_dp.rig.odd_exchanges import delete_child, delete_ike, new_spi
from ipsec_dp.rig.odd_parts import RawPayload

if TYPE_CHECKING:
    from ipsec_dp.rig.odd_parts import Heard, Part
    from ipsec_dp.rig.odd_peer import OddPeer

CASES = Cases()
INFORMATIONAL: Final = ExchangeType.INFORMATIONAL
AHEAD: Final = 1000  # further than any window
KEEPALIVE: Final = b"\xff"


def answered(peer: OddPeer, *parts: Part) -> Message:
    """The response to an INFORMATIONAL request, which has to come."""
    message = peer.ask(INFORMATIONAL, parts)
    if message is None:
        raise CaseFailedError("no answer")
    return message


@CASES.add("RFC 7296 §1.4", "an INFORMATIONAL request without payloads has a response without payloads (§2.4)")
def informational_is_answered(kit: Kit) -> None:
    message = answered(kit.up())
    demand(not message.payloads, f"it holds {names(message)}")


@CASES.add("RFC 7296 §3.1", "the flags of a responder's response are Response alone, its SPIs and message ID those of the request")
def informational_header_is_right(kit: Kit) -> None:
    peer = kit.up()
    number = peer.sa.next_id
    header = answered(peer).header
    demand(header.flags == Flag.RESPONSE, f"the flags are {header.flags:#04x}")
    demand((header.exchange, header.message_id) == (INFORMATIONAL, number), "exchange type or message ID is another")


@CASES.add("RFC 7296 §2.1", "a repeated request has the same response again")
def request_repeated(kit: Kit) -> None:
    peer = kit.up()
    request, match = peer.sealed(INFORMATIONAL, []), peer.answers(peer.sa.next_id)
    demand(peer.ask_by([request]) is not None, "no answer")
    answers_again(peer, request, match)


@CASES.add("RFC 7296 §2.3", "a request beyond the window is not answered")
def request_beyond_the_window(kit: Kit) -> None:
    peer = kit.up()
    number, since = peer.sa.next_id + AHEAD, len(peer.heard)
    peer.send(peer.sealed(INFORMATIONAL, [], message_id=number))
    kit.stays_silent(peer, peer.answers(number), since, "it is answered")


@CASES.add("RFC 7296 §2.2", "a request of an older number is not carried out: it has its old response or none")
def request_of_an_old_number(kit: Kit) -> None:
    peer = kit.up()
    works(peer)
    works(peer)
    child, number, since = peer.children[-1], peer.sa.next_id - 2, len(peer.heard)
    peer.send(peer.sealed(INFORMATIONAL, [p.Delete(ProtocolId.ESP, (child.incoming.spi,))], message_id=number))
    stray = peer.answers(number)
    kit.stays_silent(
        peer, lambda heard: stray(heard) and _deletes(heard, child.outgoing.spi), since, "a CHILD_SA is deleted by an old number"
    )


def _deletes(heard: Heard, spi: bytes) -> bool:
    return heard.message is not None and any(spi in each.spis for each in heard.message.all(p.Delete))


@CASES.add("RFC 7296 §3.14", "a request whose ICV does not hold is not answered, and its number is not used up")
def request_with_a_wrong_icv(kit: Kit) -> None:
    peer = kit.up()
    request, since, match = peer.sealed(INFORMATIONAL, []), len(peer.heard), peer.answers(peer.sa.next_id)
    peer.send(request[:-1] + bytes([request[-1] ^ 1]))
    kit.alive(peer)
    demand(peer.listen(match, kit.grace, since) is None, "it is answered")
    works(peer)


@CASES.add("RFC 7296 §1.4", "an INFORMATIONAL request that is not protected is not carried out, nor answered with protection")
def request_without_protection(kit: Kit) -> None:
    peer = kit.up()
    number, since = peer.sa.next_id, len(peer.heard)
    peer.send(build_message(Message(peer.sa.header(INFORMATIONAL, number), (p.Delete(ProtocolId.IKE),))))
    match = peer.answers(number)
    kit.alive(peer)
    demand(peer.listen(match, kit.grace, since) is None, "it is answered")
    works(peer)


@CASES.add("RFC 7296 §2.21.4", "an unprotected INVALID_IKE_SPI ends no IKE SA, and is not answered")
def unprotected_invalid_ike_spi(kit: Kit) -> None:
    peer = kit.up()
    since = len(peer.heard)
    header = peer.sa.header(INFORMATIONAL, 0, Flag.INITIATOR | Flag.RESPONSE)
    peer.send(build_message(Message(header, (p.Notify(NotifyType.INVALID_IKE_SPI),))))
    kit.stays_silent(peer, lambda heard: heard.message is not None and not heard.protected, since, "it is answered")


@CASES.add("RFC 7296 §2.21.4", "a notify in an INFORMATIONAL request about a suspicious message ends no SA")
def protected_invalid_ike_spi(kit: Kit) -> None:
    peer = kit.up()
    answered(peer, p.Notify(NotifyType.INVALID_IKE_SPI), p.Notify(NotifyType.INVALID_SPI, os.urandom(4)))
    works(peer)


@CASES.add("RFC 7296 §2.5", "payloads of unknown types in INFORMATIONAL are passed over where they are not critical")
def informational_unknown_payload(kit: Kit) -> None:
    peer = kit.up()
    message = answered(peer, RawPayload(UNKNOWN_PAYLOAD, b"unknown"), p.VendorId(b"somebody's"))
    demand(not any(each.is_error for each in message.all(p.Notify)), f"it refuses: {names(message)}")
    works(peer)


@CASES.add("RFC 7296 §2.5", "a critical payload of an unknown type in INFORMATIONAL is refused by UNSUPPORTED_CRITICAL_PAYLOAD")
def informational_unknown_critical_payload(kit: Kit) -> None:
    peer = kit.up()
    answer = peer.ask(INFORMATIONAL, [RawPayload(UNKNOWN_PAYLOAD, flags=CRITICAL)])
    notify = refused(answer, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD)
    demand(notify.data == bytes([UNKNOWN_PAYLOAD]), f"it names {notify.data.hex() or 'no type'}")


@CASES.add("RFC 7296 §3.10.1", "notifies of unknown types in INFORMATIONAL are passed over, errors too")
def informational_unknown_notifies(kit: Kit) -> None:
    peer = kit.up()
    message = answered(peer, p.Notify(8_000), p.Notify(40_000, b"status"))
    demand(not any(each.is_error for each in message.all(p.Notify)), f"it refuses: {names(message)}")
    works(peer)


@CASES.add("RFC 7296 §2.21.3", "a protected request that cannot be read is answered by INVALID_SYNTAX")
def informational_malformed(kit: Kit) -> None:
    peer = kit.up()
    answer = peer.ask(INFORMATIONAL, [RawPayload(p.Notify.type, b"\0\0\x9c\x40", length=400)])
    peer.gone = answer is not None
    refused(answer, NotifyType.INVALID_SYNTAX)


@CASES.add("RFC 7296 §1.4.1", "a DELETE of a CHILD_SA is answered with the SPI of the other direction, and the IKE SA remains")
def delete_of_a_child(kit: Kit) -> None:
    peer = kit.up()
    child = peer.children[-1]
    message = delete_child(peer, child)
    spis = [] if message is None else [spi for each in message.all(p.Delete) for spi in each.spis]
    demand(spis == [child.outgoing.spi], f"it sent: {names(message)}")
    works(peer)


@CASES.add("RFC 7296 §1.4.1", "a DELETE of an SPI that nobody has is answered, and deletes nothing")
def delete_of_nothing(kit: Kit) -> None:
    peer = kit.up()
    child = peer.children[-1]
    answered(peer, p.Delete(ProtocolId.ESP, (new_spi(),)))
    message = delete_child(peer, child)
    demand(message is not None and message.get(p.Delete), f"the CHILD_SA is gone: {names(message)}")


@CASES.add("RFC 7296 §1.4.1", "a DELETE of the IKE SA is answered without payloads, and ends it")
def delete_of_the_ike_sa(kit: Kit) -> None:
    peer = kit.up()
    message = delete_ike(peer)
    demand(message is not None, "no answer")
    demand(message is not None and not message.payloads, f"it holds {names(message)}")
    number, since = peer.sa.next_id, len(peer.heard)
    peer.send(peer.sealed(INFORMATIONAL, []))
    kit.stays_silent_to_all(peer, peer.answers(number), since, "the next request is answered")


@CASES.add("RFC 7296 §2.11", "a request from another port is answered to that port")
def request_from_another_port(kit: Kit) -> None:
    peer = kit.up()
    peer.wire.move()
    works(peer)


@CASES.add("RFC 3948 §2.2", "IKE on the port of ESP is behind a non-ESP marker, and not on port 500")
def marker_before_ike(kit: Kit) -> None:
    peer = kit.up()
    works(peer)
    heard = [each for each in peer.heard if each.message is not None]
    demand(all(each.marked == each.natt for each in heard), "a message has it where none is due, or lacks it")
    demand(any(each.protected and each.natt for each in heard), "nothing came over that port")


@CASES.add("RFC 3948 §2.2", "IKE on the port of ESP without a non-ESP marker is not taken for IKE")
def marker_is_missing(kit: Kit) -> None:
    peer = kit.up()
    request, since, match = peer.sealed(INFORMATIONAL, []), len(peer.heard), peer.answers(peer.sa.next_id)
    peer.send(request, marker=b"")
    kit.alive(peer)
    demand(peer.listen(match, kit.grace, since) is None, "it is answered")
    works(peer)


@CASES.add("RFC 3948 §2.3", "a NAT keepalive is ignored", level=SHOULD)
def nat_keepalive(kit: Kit) -> None:
    peer = kit.up()
    since = len(peer.heard)
    peer.wire.send(KEEPALIVE, natt=True)
    kit.stays_silent(peer, lambda heard: not heard.protected, since, "it is answered")


@CASES.add("RFC 3948 §2.2", "datagrams too short for a marker or an ESP header disturb nothing")
def short_datagrams(kit: Kit) -> None:
    peer = kit.up()
    since = len(peer.heard)
    for octets in (b"", b"\0", bytes(3), bytes(4), bytes(7), b"\1" * 8):
        peer.wire.pace()
        peer.wire.send(octets, natt=True)
    kit.stays_silent(peer, lambda heard: heard.esp is not None, since, "it answers by ESP")


@CASES.add("RFC 4303 §2.1", "ESP of an SPI that nobody has is discarded, and what follows it works")
def esp_of_an_unknown_spi(kit: Kit) -> None:
    peer = kit.up()
    since = len(peer.heard)
    peer.wire.pace()
    peer.wire.send(new_spi() + bytes(4) + os.urandom(64), natt=True)
    kit.stays_silent(peer, lambda heard: heard.esp is not None, since, "it answers by ESP")
