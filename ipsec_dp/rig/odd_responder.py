"""The other half of an `OddPeer`: a gateway under test calls it, and it answers whatever it is told to, right or wrong.

    with UdpWire("192.0.2.2", source=(500, 4500)) as wire:
        peer = OddResponder(agreed, wire)
        peer.answering = late(2, then=rightly_called)
        called = peer.await_call(60)
        create_child(peer, peer.children[0])  # a rekey at once

Until it listens, it says nothing: `await_call`, `listen` and `ask` do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipsec_dp.ike import dh, negotiation, suites
from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.auth import AuthenticationError, Proof, signed_octets
from ipsec_dp.ike.nat import detection_hash
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header, Message, build_header
from ipsec_dp.ike.v2.wire import IKE_HEADER, ExchangeType, Flag, NotifyType
from ipsec_dp.rig.odd_answers import child_parts, rightly
from ipsec_dp.rig.odd_parts import as_built, build_parts
from ipsec_dp.rig.odd_sas import OddIkeSa
from ipsec_dp.rig.odd_speaker import OddSpeaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.rig.odd_parts import Agreed, Heard, Part, Patch
    from ipsec_dp.rig.odd_wire import OddWire

CALL_S = 60.0  # for which a call is awaited


class OddResponder(OddSpeaker):
    """One IKE SA that a gateway begins with us. `calls`: its IKE_SA_INIT requests, each repetition too, as octets."""

    def __init__(self, agreed: Agreed, wire: OddWire) -> None:
        super().__init__(agreed, wire, OddIkeSa(NO_SPI, os.urandom(8), ours=False))
        self.nonces, self.init_messages = (b"", b""), (b"", b"")
        self.answering = rightly_called
        self.patch: Patch = as_built  # of our IKE_SA_INIT responses
        self.calls: list[bytes] = []
        self.secret: tuple[suites.IkeSuite, bytearray] | None = None  # of the IKE_SA_INIT that is being answered

    def await_call(self, seconds: float = CALL_S) -> bool:
        """Listens until the gateway has called and its IKE_AUTH is answered; whether it has proven who it is."""
        return self.listen(lambda _: self.authentic, seconds, len(self.heard)) is not None

    def hears(self, exchange: int, seconds: float = CALL_S, since: int = 0) -> Heard | None:
        """The first request of that exchange, waited for as long as that."""

        def match(heard: Heard) -> bool:
            message = heard.message
            return message is not None and not message.header.is_response and message.header.exchange == exchange

        return self.listen(match, seconds, since)

    def unprotected(self, message: Message, octets: bytes, *, natt: bool) -> None:
        header = message.header
        if header.exchange != ExchangeType.IKE_SA_INIT or header.is_response or header.spi_r != NO_SPI:
            return
        if self.sa.incoming is not None and header.spi_i != self.sa.spi_i:  # another call: we have one
            return
        self.natt = natt
        self.calls.append(octets)
        self.react(message, octets)

    def answer(self, request: Message, parts: Sequence[Part]) -> bytes:
        if request.header.exchange != ExchangeType.IKE_SA_INIT:
            self.natt = True
            return super().answer(request, parts)
        accepts = any(part.type == p.SecurityAssociation.type for part in parts)
        first, body = build_parts(parts)
        spi_i, spi_r = request.header.spi_i, self.sa.spi_r if accepts else NO_SPI
        header = Header(spi_i, spi_r, ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0)
        octets = self.patch(build_header(header, first, IKE_HEADER + len(body)) + body)
        self.send(octets)
        nonce = request.get(p.Nonce)
        if accepts and self.secret is not None and nonce is not None:
            self.sa.spi_i, self.nonces = spi_i, (nonce.data, self.nonces[1])
            self.init_messages = self.calls[-1], octets
            suite, secret = self.secret
            seed = keymat.skeyseed(suite.prf, *self.nonces, secret)
            self.sa.establish(suite, keymat.ike_keys(suite, seed, *self.nonces, *self.sa.spis))
        return octets

    def proves(self, message: Message) -> bool:
        """Whether AUTH of an IKE_AUTH request holds, and its IDi is whom we expect (RFC 7296 §2.15)."""
        identity, auth, keys, suite = (
            message.get(p.IdentificationInitiator),
            message.get(p.Authentication),
            self.sa.keys,
            self.sa.suite,
        )
        if identity is None or auth is None or keys is None or suite is None:
            return False
        signed = signed_octets(suite.prf, self.init_messages[0], self.nonces[1], keys.sk_pi, identity.body())
        try:
            self.agreed.psk.verify(suite.prf, signed, Proof(auth.method, auth.data))
        except AuthenticationError:
            return False
        expected = self.agreed.remote_id
        return expected is None or (identity.id_type, identity.data) == (expected.type, expected.data)


def rightly_called(peer: OddSpeaker, request: Message) -> list[Part] | None:
    """As a right responder does, from the call on."""
    if not isinstance(peer, OddResponder):
        return rightly(peer, request)
    if request.header.exchange == ExchangeType.IKE_SA_INIT:
        return _init_parts(peer, request)
    if request.header.exchange == ExchangeType.IKE_AUTH:
        return _auth_parts(peer, request)
    return rightly(peer, request)


def _init_parts(peer: OddResponder, request: Message) -> list[Part]:
    sa, ke = request.get(p.SecurityAssociation), request.get(p.KeyExchangePayload)
    chosen = None if sa is None else negotiation.select(peer.agreed.ike, sa.proposals)
    if chosen is None or ke is None:
        return [p.Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    suite = suites.ike_suite(chosen)
    if ke.group != suite.group.id:
        return [p.Notify(NotifyType.INVALID_KE_PAYLOAD, suite.group.id.to_bytes(2, "big"))]
    public, secret = dh.respond(suite.group, ke.data, os.urandom)
    own = peer.nonces[1] or peer.nonce()
    peer.secret, peer.nonces = (suite, secret), (b"", own)
    there = detection_hash(request.header.spi_i, peer.sa.spi_r, peer.wire.path.remote)
    return [
        p.SecurityAssociation((chosen,)),
        p.KeyExchangePayload(suite.group.id, public),
        p.Nonce(own),
        p.Notify(NotifyType.NAT_DETECTION_SOURCE_IP, os.urandom(20)),
        p.Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, there),
        p.Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
    ]


def _auth_parts(peer: OddResponder, request: Message) -> list[Part]:
    suite, keys, sa = peer.sa.suite, peer.sa.keys, request.get(p.SecurityAssociation)
    if suite is None or keys is None or not peer.proves(request):
        return [p.Notify(NotifyType.AUTHENTICATION_FAILED)]
    peer.authentic = True
    identity = p.IdentificationResponder(peer.agreed.local_id.type, peer.agreed.local_id.data)
    signed = signed_octets(suite.prf, peer.init_messages[1], peer.nonces[0], keys.sk_pr, identity.body())
    proof = peer.agreed.psk.sign(suite.prf, signed)
    parts: list[Part] = [identity, p.Authentication(proof.method, proof.data)]
    chosen = None if sa is None else negotiation.select_child(peer.agreed.esp, sa.proposals)
    if chosen is None:
        return [*parts, p.Notify(NotifyType.NO_PROPOSAL_CHOSEN)]
    return [*parts, *child_parts(peer, chosen, peer.nonces)]
