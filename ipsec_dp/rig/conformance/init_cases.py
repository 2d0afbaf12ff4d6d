"""IKE_SA_INIT and what is not authenticated: header, payload chain, proposals, nonces (RFC 7296 §1.2, §2.5, §2.7, §2.10, §3)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, negotiation, proposal
from ipsec_dp.ike.nat import detection_hash
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.wire import CRITICAL, ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import GROUP_OF_ID, Transform, TransformType
from ipsec_dp.rig.conformance.kit import (
    SHOULD,
    CaseFailedError,
    Cases,
    Kit,
    NotApplicableError,
    accepted,
    demand,
    names,
    refused,
)
from ipsec_dp.rig.odd_parts import Change, Part, Patch, RawPayload, build_parts, raw

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.rig.odd_parts import Heard
    from ipsec_dp.rig.odd_peer import OddPeer

CASES = Cases()
UNKNOWN_PAYLOAD: Final = 100  # no type has this number, and none is private
UNKNOWN_TRANSFORM: Final = 250
UNKNOWN_ATTRIBUTE: Final = (0x8000 | 100, b"\0\1")
VERSION_AT, FLAGS_AT, LENGTH_AT = 17, 19, slice(24, 28)  # of the header
LEAST_NONCE, MOST_NONCE = 16, 256
X25519, ECP256 = 31, 19


def changed(kind: type[p.Payload], into: Part | None) -> Change:
    """The payload of that kind gives way to another one, or to none."""

    def change(parts: list[Part]) -> list[Part]:
        return [each for part in parts for each in ([part] if not isinstance(part, kind) else [] if into is None else [into])]

    return change


def offering(*proposals: Proposal) -> Change:
    """These proposals, numbered from 1."""
    numbered = tuple(replace(each, number=number) for number, each in enumerate(proposals, 1))
    return changed(p.SecurityAssociation, p.SecurityAssociation(numbered))


def with_transforms(offered: Proposal, *more: Transform) -> Proposal:
    return replace(offered, transforms=(*more, *offered.transforms))


def without(offered: Proposal, kind: int) -> Proposal:
    return replace(offered, transforms=tuple(each for each in offered.transforms if each.type != kind))


def octet(at: int, change: int) -> Patch:
    """One octet of the message with these bits turned over."""
    return lambda octets: octets[:at] + bytes([octets[at] ^ change]) + octets[at + 1 :]


def is_acceptance(heard: Heard) -> bool:
    return heard.message is not None and heard.message.get(p.SecurityAssociation) is not None


def accepts(kit: Kit, change: Change = lambda parts: parts, patch: Patch = bytes) -> OddPeer:
    """It answers as it does a request without that oddity, and both come to the same keys."""
    peer = kit.begun(change, patch)
    demand(peer.auth() is not None, "both sides do not have the same keys: no answer to IKE_AUTH")
    return peer


def accepts_none_of_it(kit: Kit, change: Change = lambda parts: parts, patch: Patch = bytes) -> None:
    """No keys come of it, and the next request is answered."""
    peer = kit.fresh()
    since = len(peer.heard)
    peer.wire.pace()
    peer.send(peer.init_request(change(peer.init_parts()), patch), natt=False)
    kit.stays_silent_to_all(peer, lambda heard: peer.answers_init(heard) and is_acceptance(heard), since, "it accepts")


@CASES.add("RFC 7296 §1.2", "IKE_SA_INIT is answered with SAr1, KEr and Nr by the SPI and the number of the request")
def init_is_answered(kit: Kit) -> None:
    peer = kit.fresh()
    message = accepted(peer.init())
    header = message.header
    demand(header.spi_i == peer.sa.spi_i and any(header.spi_r), "its SPIs are not ours and one of its own")
    demand(header.message_id == 0 and header.exchange == ExchangeType.IKE_SA_INIT, "message ID or exchange type is another")


@CASES.add("RFC 7296 §3.1", "a response has the flags Response, not Initiator, and no reserved bit; its version is 2.0")
def init_header_is_right(kit: Kit) -> None:
    peer = kit.fresh()
    accepted(peer.init())
    octets = peer.init_messages[1]
    demand(octets[FLAGS_AT] == Flag.RESPONSE, f"the flags are {octets[FLAGS_AT]:#04x}")
    demand(octets[VERSION_AT] == 0x20, f"the version is {octets[VERSION_AT] >> 4}.{octets[VERSION_AT] & 15}")


@CASES.add("RFC 7296 §3.3.6", "one proposal is chosen, with one transform of each type that it was offered with")
def init_one_proposal_is_chosen(kit: Kit) -> None:
    sa = accepted(kit.fresh().init()).get(p.SecurityAssociation)
    try:
        negotiation.accept(kit.agreed.ike, () if sa is None else sa.proposals)
    except proposal.ProposalError as error:
        raise CaseFailedError(str(error)) from None


@CASES.add("RFC 7296 §2.10", "the responder's nonce has 16 to 256 octets, and at least half of the prf's key")
def init_nonce_is_long_enough(kit: Kit) -> None:
    peer = kit.begun()
    octets, key = len(peer.nonces[1]), peer.sa.suite.prf.octets if peer.sa.suite else 0
    demand(max(LEAST_NONCE, key // 2) <= octets <= MOST_NONCE, f"it has {octets} octets, the prf's key {key}")


@CASES.add("RFC 7296 §3.9", "nonces are not used again, nor are SPIs of IKE SAs that there are (§2.6)")
def init_nonces_and_spis_are_new(kit: Kit) -> None:
    made = [kit.begun() for _ in range(3)]
    demand(len({peer.nonces[1] for peer in made}) == len(made), "a nonce came twice")
    demand(len({peer.sa.spi_r for peer in made}) == len(made), "an SPI came twice")


@CASES.add(
    "RFC 7296 §2.1",
    "a repeated IKE_SA_INIT request has the same response again",
    unless="the first response was a COOKIE, which needs no memory",
)
def init_repeated(kit: Kit) -> None:
    peer = kit.fresh()
    accepted(peer.init())
    request, response = peer.init_messages
    again = peer.exchange_init(request)
    demand(again is not None, "the repetition has no answer")
    if again is not None and again.message is not None and again.message.notify(NotifyType.COOKIE):
        raise NotApplicableError("it asks for a COOKIE")
    demand(again is not None and again.octets == response, "the response is another")


@CASES.add("RFC 7296 §2.5", "the minor version is ignored")
def init_minor_version(kit: Kit) -> None:
    accepts(kit, patch=octet(VERSION_AT, 0x05))


@CASES.add(
    "RFC 7296 §2.5",
    "a message of a higher major version is dropped, and the sender is told of the version 2",
    level=SHOULD,
)
def init_major_version_is_told(kit: Kit) -> None:
    answer = _of_major_version_3(kit)
    if answer is None or answer.message is None:
        raise CaseFailedError("nothing came back")
    refused(answer.message, NotifyType.INVALID_MAJOR_VERSION)


@CASES.add("RFC 7296 §2.5", "a message of a higher major version is not taken for one of version 2")
def init_major_version_is_dropped(kit: Kit) -> None:
    answer = _of_major_version_3(kit)
    demand(answer is None or not is_acceptance(answer), "it accepts")


def _of_major_version_3(kit: Kit) -> Heard | None:
    peer = kit.fresh()
    since = len(peer.heard)
    peer.wire.pace()
    peer.send(octet(VERSION_AT, 0x10)(peer.init_request(peer.init_parts())), natt=False)
    kit.alive(peer)
    return peer.listen(peer.answers_init, kit.grace, since)


@CASES.add("RFC 7296 §3.1", "the reserved flags of the header are ignored")
def init_reserved_flags(kit: Kit) -> None:
    accepts(kit, patch=octet(FLAGS_AT, 0xC7))


@CASES.add("RFC 7296 §3.1", "the Version flag is ignored")
def init_version_flag(kit: Kit) -> None:
    accepts(kit, patch=octet(FLAGS_AT, Flag.VERSION))


@CASES.add("RFC 7296 §3.2", "the reserved bits of a payload's header are ignored")
def init_reserved_bits_of_payloads(kit: Kit) -> None:
    accepts(kit, lambda parts: [raw(part, flags=0x7F) for part in parts if not isinstance(part, RawPayload)])


@CASES.add("RFC 7296 §3.2", "the critical flag of a payload type that is known is ignored")
def init_critical_flag_of_known_payloads(kit: Kit) -> None:
    accepts(kit, lambda parts: [raw(part, flags=CRITICAL) for part in parts if not isinstance(part, RawPayload)])


@CASES.add("RFC 7296 §2.5", "payloads are taken in any order")
def init_payloads_in_another_order(kit: Kit) -> None:
    accepts(kit, lambda parts: parts[::-1])


@CASES.add("RFC 7296 §2.5", "a payload of an unknown type is passed over where it is not critical")
def init_unknown_payload(kit: Kit) -> None:
    accepts(kit, lambda parts: [RawPayload(UNKNOWN_PAYLOAD, b"unknown"), *parts, RawPayload(UNKNOWN_PAYLOAD)])


@CASES.add("RFC 7296 §2.5", "a critical payload of an unknown type is refused by UNSUPPORTED_CRITICAL_PAYLOAD with its type")
def init_unknown_critical_payload(kit: Kit) -> None:
    answer = kit.fresh().init(lambda parts: [*parts, RawPayload(UNKNOWN_PAYLOAD, flags=CRITICAL)])
    notify = refused(answer, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD)
    demand(notify.data == bytes([UNKNOWN_PAYLOAD]), f"it names {notify.data.hex() or 'no type'}")


@CASES.add("RFC 7296 §3.10.1", "notifies of unknown types are passed over in a request, errors too")
def init_unknown_notifies(kit: Kit) -> None:
    accepts(kit, lambda parts: [p.Notify(8_000), *parts, p.Notify(40_000, b"status")])


@CASES.add("RFC 7296 §2.5", "a vendor ID that is not known is passed over")
def init_unknown_vendor_id(kit: Kit) -> None:
    accepts(kit, lambda parts: [*parts, p.VendorId(os.urandom(16)), p.VendorId(b"")])


@CASES.add("RFC 7296 §3.9", "a nonce of 256 octets is taken")
def init_longest_nonce(kit: Kit) -> None:
    _of_nonce(kit, MOST_NONCE)


@CASES.add("RFC 7296 §3.9", "no keys come of a nonce of less than 16 octets")
def init_short_nonce(kit: Kit) -> None:
    accepts_none_of_it(kit, changed(p.Nonce, RawPayload(p.Nonce.type, os.urandom(8))))


def _of_nonce(kit: Kit, octets: int) -> None:
    peer = kit.fresh()
    peer.nonces = (os.urandom(octets), b"")
    accepted(peer.init())
    demand(peer.auth() is not None, "both sides do not have the same keys: no answer to IKE_AUTH")


@CASES.add("RFC 7296 §1.2", "no keys come of a request without a nonce")
def init_without_nonce(kit: Kit) -> None:
    accepts_none_of_it(kit, changed(p.Nonce, None))


@CASES.add("RFC 7296 §3.1", "a message is no longer than its header says: no keys come of one that says otherwise")
def init_wrong_length(kit: Kit) -> None:
    accepts_none_of_it(kit, patch=lambda octets: octets[: LENGTH_AT.start] + (len(octets) + 64).to_bytes(4, "big") + octets[28:])


@CASES.add("RFC 7296 §3.2", "no keys come of a message with a payload that is longer than the message")
def init_payload_beyond_the_message(kit: Kit) -> None:
    accepts_none_of_it(kit, lambda parts: [*parts, RawPayload(p.VendorId.type, b"x", length=400)])


@CASES.add("RFC 7296 §2.7", "where no proposal can be taken the answer is NO_PROPOSAL_CHOSEN")
def init_no_proposal(kit: Kit) -> None:
    first = kit.agreed.ike[0]
    unknown = replace(without(first, TransformType.ENCR), number=1)
    offer = with_transforms(unknown, Transform(TransformType.ENCR, UNKNOWN_TRANSFORM, 128))
    refused(kit.fresh().init(offering(offer)), NotifyType.NO_PROPOSAL_CHOSEN)


@CASES.add("RFC 7296 §3.3.6", "a transform with an unknown number is passed over, others of its type count")
def init_unknown_transform(kit: Kit) -> None:
    accepts(kit, offering(with_transforms(kit.agreed.ike[0], Transform(TransformType.ENCR, UNKNOWN_TRANSFORM, 128))))


@CASES.add("RFC 7296 §3.3.6", "a proposal with a transform type that is not known is passed over, the next one counts")
def init_unknown_transform_type(kit: Kit) -> None:
    first = kit.agreed.ike[0]
    _chooses_the_second(kit, with_transforms(first, Transform(UNKNOWN_TRANSFORM, 1)), first)


@CASES.add("RFC 7296 §3.3.6", "a proposal without a mandatory transform type is passed over, the next one counts")
def init_missing_transform_type(kit: Kit) -> None:
    first = kit.agreed.ike[0]
    _chooses_the_second(kit, without(first, TransformType.PRF), first)


@CASES.add("RFC 7296 §3.3.6", "a transform with an attribute that is not known is passed over, the next proposal counts")
def init_unknown_attribute(kit: Kit) -> None:
    first = kit.agreed.ike[0]
    marked = tuple(
        replace(each, unknown=(UNKNOWN_ATTRIBUTE,)) if each.type == TransformType.ENCR else each for each in first.transforms
    )
    _chooses_the_second(kit, replace(first, transforms=marked), first)


def _chooses_the_second(kit: Kit, *proposals: Proposal) -> None:
    sa = accepted(kit.fresh().init(offering(*proposals))).get(p.SecurityAssociation)
    demand(sa is not None and sa.proposals[0].number == 2, "it has chosen the first proposal")


@CASES.add("RFC 7296 §1.2", "a KE payload of a group that is not chosen is refused by INVALID_KE_PAYLOAD with the chosen one")
def init_other_group(kit: Kit) -> None:
    first, peer = kit.agreed.ike[0], kit.fresh()
    right = {each.id for each in first.transforms if each.type == TransformType.KE}
    other = next(group for group in map(GROUP_OF_ID.get, (X25519, ECP256, 14)) if group is not None and group.id not in right)
    unknown = without(without(first, TransformType.ENCR), TransformType.KE)
    second = with_transforms(unknown, Transform(TransformType.ENCR, UNKNOWN_TRANSFORM, 128), other.transform)
    ke = p.KeyExchangePayload(other.id, dh.initiate(other, os.urandom).public)
    answer = peer.init(lambda parts: changed(p.KeyExchangePayload, ke)(offering(first, second)(parts)))
    notify = refused(answer, NotifyType.INVALID_KE_PAYLOAD)
    demand(int.from_bytes(notify.data, "big") in right, f"it names group {notify.data.hex()}, which was not offered")


@CASES.add(
    "RFC 6989 §2.1",
    "no keys come of a public value that is none, as of a point that is not on the curve (§2.3)",
    unless="the group is curve25519, where the check is optional (RFC 8031 §3)",
)
def init_public_value_of_no_point(kit: Kit) -> None:
    group = kit.fresh().exchanged.group
    if group.id == X25519:
        raise NotApplicableError("the first group offered is curve25519")
    accepts_none_of_it(kit, changed(p.KeyExchangePayload, p.KeyExchangePayload(group.id, bytes(group.public - 1) + b"\1")))


@CASES.add("RFC 7296 §2.6", "a COOKIE that was not asked for is ignored: the request counts, or another COOKIE is wanted")
def init_cookie_of_nobody(kit: Kit) -> None:
    peer = kit.fresh()
    answer = peer.init(lambda parts: [p.Notify(NotifyType.COOKIE, os.urandom(20)), *parts])
    demand(answer is not None, "no answer")
    if answer is not None and answer.notify(NotifyType.COOKIE) is None:
        accepted(answer)


@CASES.add(
    "RFC 7296 §2.23",
    "both NAT detection notifies are there, and the one about our address is right",
    unless="it does not detect NATs, or there is one on the way",
)
def init_nat_detection(kit: Kit) -> None:
    peer = kit.fresh()
    message = accepted(peer.init())
    source, destination = (
        message.notify(kind) for kind in (NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP)
    )
    if source is None and destination is None:
        raise NotApplicableError("it sends neither")
    if source is None or destination is None:
        raise CaseFailedError("one of both is missing")
    seen = detection_hash(message.header.spi_i, message.header.spi_r, kit.wire.path.local)
    demand(len(destination.data) == len(seen), f"a hash of {len(destination.data)} octets")
    if destination.data != seen:
        raise NotApplicableError("it sees another address of us: a NAT is on the way")


@CASES.add("RFC 7296 §2.21.4", "a response of no IKE SA is never answered")
def response_of_nobody(kit: Kit) -> None:
    peer = kit.fresh()
    since, spi_i = len(peer.heard), os.urandom(8)
    header = Header(spi_i, os.urandom(8), ExchangeType.INFORMATIONAL, Flag.RESPONSE | Flag.INITIATOR, 0)
    peer.wire.pace()
    peer.send(build_message(Message(header, (p.Notify(NotifyType.INVALID_IKE_SPI),))), natt=False)
    kit.stays_silent_to_all(
        peer, lambda heard: heard.message is not None and heard.message.header.spi_i == spi_i, since, "it answers a response"
    )


@CASES.add(
    "RFC 7296 §2.21.4",
    "a request of no IKE SA is answered, if at all, unprotected by INVALID_IKE_SPI with its SPIs and message ID",
    unless="it does not answer, which it need not",
)
def request_of_nobody(kit: Kit) -> None:
    peer = kit.fresh()
    since, spis = len(peer.heard), (os.urandom(8), os.urandom(8))
    header = Header(*spis, ExchangeType.INFORMATIONAL, Flag.INITIATOR, 7)
    first, body = build_parts([RawPayload(p.Encrypted.type, os.urandom(64))])
    peer.wire.pace()
    octets = build_message(Message(header, ()))
    octets = octets[:16] + bytes([first]) + octets[17:24] + (len(octets) + len(body)).to_bytes(4, "big") + body
    peer.send(octets, natt=False)
    kit.alive(peer)
    answer = peer.listen(lambda heard: heard.message is not None and heard.message.header.spi_i == spis[0], kit.grace, since)
    if answer is None or answer.message is None:
        raise NotApplicableError("no answer")
    refused(answer.message, NotifyType.INVALID_IKE_SPI)
    back = answer.message.header
    demand((back.spi_i, back.spi_r, back.message_id) == (*spis, 7), f"its SPIs or message ID are others: {names(answer.message)}")
