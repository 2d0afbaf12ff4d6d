"""What an odd peer answers requests of a gateway with: right, in the shortest way, late, twice, never, or by a refusal.

    peer.answering = rightly
    peer.answering = refusing(NotifyType.TEMPORARY_FAILURE, times=2)
    peer.answering = changing(lambda parts: parts[::-1])

Each is called with the peer and the request, and gives the payloads of the response, or None for no response now.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ipsec_dp.ike import dh, negotiation, proposal, suites
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.rig.odd_esp import EspDirection
from ipsec_dp.rig.odd_sas import OddChild, OddIkeSa
from ipsec_dp.rig.odd_speaker import shortest

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.rig.odd_parts import Change, Part
    from ipsec_dp.rig.odd_speaker import OddSpeaker

Answering = Callable[["OddSpeaker", "Message"], "Sequence[Part] | None"]


def rightly(peer: OddSpeaker, request: Message) -> list[Part] | None:
    """As a right peer does: SAs that are asked for are made, as far as `agreed` has them."""
    if request.header.exchange != ExchangeType.CREATE_CHILD_SA:
        return shortest(peer, request)
    sa, nonce = request.get(p.SecurityAssociation), request.get(p.Nonce)
    if sa is None or nonce is None:
        return [p.Notify(NotifyType.INVALID_SYNTAX)]
    of_ike = sa.proposals[0].protocol == ProtocolId.IKE
    return _new_ike(peer, request, sa, nonce.data) if of_ike else new_child(peer, request, sa, nonce.data)


def new_child(peer: OddSpeaker, request: Message, sa: p.SecurityAssociation, nonce: bytes) -> list[Part]:
    """The response to a request for a CHILD_SA in CREATE_CHILD_SA, which is there from now on; or a refusal."""
    chosen = negotiation.select(peer.agreed.esp, sa.proposals)
    if chosen is None:
        return [p.Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    group, ke = suites.esp_suite(chosen).group, request.get(p.KeyExchangePayload)
    own = peer.nonce()
    if group is None:
        return [p.Nonce(own), *child_parts(peer, chosen, (nonce, own))]
    if ke is None or ke.group != group.id:
        return [p.Notify(NotifyType.INVALID_KE_PAYLOAD, group.id.to_bytes(2, "big"))]
    public, secret = dh.respond(group, ke.data, os.urandom)
    return [p.Nonce(own), p.KeyExchangePayload(group.id, public), *child_parts(peer, chosen, (nonce, own), [secret])]


def child_parts(
    peer: OddSpeaker, chosen: proposal.Proposal, nonces: tuple[bytes, bytes], secrets: Sequence[bytearray] = ()
) -> list[Part]:
    """SA, TSi and TSr of a response that makes a CHILD_SA of a request, which is there from now on."""
    suite, ike, keys = suites.esp_suite(chosen), peer.sa.suite, peer.sa.keys
    if ike is None or keys is None:
        raise RuntimeError("there is no IKE SA to make a CHILD_SA by")
    spi = bytes([1 + os.urandom(1)[0] % 255]) + os.urandom(3)
    made = keymat.child_keys(ike.prf, keys.sk_d, suite, *nonces, secrets)
    outgoing = EspDirection(suite, chosen.spi, made.encr_r, made.integ_r)
    incoming = EspDirection(suite, spi, made.encr_i, made.integ_i)
    agreed = peer.agreed
    peer.children.append(OddChild(outgoing, incoming, (agreed.local, agreed.remote), suite, nonces, ours=False))
    return [
        p.SecurityAssociation(negotiation.with_spi((chosen,), spi)),
        p.TrafficSelectorsInitiator(agreed.remote),
        p.TrafficSelectorsResponder(agreed.local),
    ]


def _new_ike(peer: OddSpeaker, request: Message, sa: p.SecurityAssociation, nonce: bytes) -> list[Part]:
    """The response to the rekey of an IKE SA; the new one is among `others` until the old one is deleted."""
    chosen, ke = negotiation.select(peer.agreed.ike, sa.proposals), request.get(p.KeyExchangePayload)
    if chosen is None:
        return [p.Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite, ike, keys = suites.ike_suite(chosen), peer.sa.suite, peer.sa.keys
    if ke is None or ke.group != suite.group.id or ike is None or keys is None:
        return [p.Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
    public, secret = dh.respond(suite.group, ke.data, os.urandom)
    own, new = peer.nonce(), OddIkeSa(chosen.spi, os.urandom(8), ours=False)
    seed = keymat.next_skeyseed(ike.prf, keys.sk_d, nonce, own, [secret])
    new.establish(suite, keymat.ike_keys(suite, seed, nonce, own, *new.spis))
    peer.others.append(new)
    return [
        p.SecurityAssociation(negotiation.with_spi((chosen,), new.spi_r)),
        p.Nonce(own),
        p.KeyExchangePayload(suite.group.id, public),
    ]


# ---- otherwise


def never(_peer: OddSpeaker, _request: Message) -> None:
    """Not at all."""


def late(repetitions: int, then: Answering = rightly) -> Answering:
    """Only what is asked so many times more is answered; each request counts for itself."""
    asked: dict[tuple[bytes, bytes, int], int] = {}

    def answer(peer: OddSpeaker, request: Message) -> Sequence[Part] | None:
        header = request.header
        key = header.spi_i, header.spi_r, header.message_id
        asked[key] = asked.get(key, -1) + 1
        return then(peer, request) if asked[key] >= repetitions else None

    return answer


def twice(then: Answering = rightly) -> Answering:
    """Two responses of the same payloads to each request, one right behind the other."""

    def answer(peer: OddSpeaker, request: Message) -> Sequence[Part] | None:
        parts = then(peer, request)
        if parts is not None:
            peer.answer(request, parts)
        return parts

    return answer


def changing(change: Change, exchange: int | None = None, then: Answering = rightly) -> Answering:
    """Other payloads than `then` has, of one exchange or of all."""

    def answer(peer: OddSpeaker, request: Message) -> Sequence[Part] | None:
        parts = then(peer, request)
        return parts if parts is None or exchange not in (None, request.header.exchange) else change(list(parts))

    return answer


def refusing(
    kind: NotifyType, data: bytes = b"", *, exchange: int = ExchangeType.CREATE_CHILD_SA, times: int = 1, then: Answering = rightly
) -> Answering:
    """So many requests of an exchange are answered by this notify alone, and nothing is made of them."""
    left = times

    def answer(peer: OddSpeaker, request: Message) -> Sequence[Part] | None:
        nonlocal left
        if request.header.exchange != exchange or left == 0:
            return then(peer, request)
        left -= 1
        return [p.Notify(kind, data)]

    return answer


def redundant(one: OddChild, other: OddChild) -> OddChild:
    """Of two CHILD_SAs whose exchanges crossed that which its own initiator deletes: the one with the lowest of the four nonces
    (RFC 7296 §2.8.1)."""
    return min(one, other, key=lambda child: min(child.nonces))
