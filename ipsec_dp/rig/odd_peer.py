"""An IKEv2 initiator that says whatever it is told to, right or wrong, to a gateway under test. `odd_responder` is the other half.

with UdpWire("192.0.2.2") as wire:
    peer = OddPeer(agreed, wire)
    peer.init()
    peer.auth(lambda parts: parts[::-1])  # payloads in the other order
    answer = peer.ask(ExchangeType.INFORMATIONAL, [RawPayload(200, flags=CRITICAL)])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ipsec_dp.ike import dh, negotiation, suites
from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.auth import AuthenticationError, Proof, signed_octets
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.nat import detection_hash
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.groups import groups_of
from ipsec_dp.ike.v2.message import Header, Message, build_header
from ipsec_dp.ike.v2.wire import IKE_HEADER, ExchangeType, Flag, NotifyType
from ipsec_dp.rig.odd_parts import Agreed, Change, Heard, Part, Patch, as_built, build_parts, unchanged
from ipsec_dp.rig.odd_sas import OddIkeSa
from ipsec_dp.rig.odd_speaker import NONCE_OCTETS, REPEATS, OddSpeaker, there
from ipsec_dp.rig.odd_wire import OddWire

ROUNDS: Final = 3  # of COOKIE and INVALID_KE_PAYLOAD


class OddPeer(OddSpeaker):
    """Who begins an IKE SA with a gateway."""

    def __init__(self, agreed: Agreed, wire: OddWire) -> None:
        super().__init__(agreed, wire, OddIkeSa(os.urandom(8)))
        self.nonces = (os.urandom(NONCE_OCTETS), b"")
        self.init_messages = (b"", b"")
        self.spi_in = os.urandom(4)[:1].replace(b"\0", b"\1") + os.urandom(3)
        self.exchanged = dh.initiate(groups_of(agreed.ike)[0], os.urandom)

    # ---- the initial exchanges

    def init_parts(self) -> list[Part]:
        """What a right IKE_SA_INIT request holds. The hash of our address is none, so that the peer finds a NAT before us."""
        return [
            p.SecurityAssociation(self.agreed.ike),
            p.KeyExchangePayload(self.exchanged.group.id, self.exchanged.public),
            p.Nonce(self.nonces[0]),
            p.Notify(NotifyType.NAT_DETECTION_SOURCE_IP, os.urandom(20)),
            p.Notify(NotifyType.NAT_DETECTION_DESTINATION_IP, detection_hash(self.sa.spi_i, NO_SPI, self.wire.path.remote)),
            p.Notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        ]

    def init(self, change: Change = unchanged, patch: Patch = as_built) -> Message | None:
        """The response to an IKE_SA_INIT request that is changed so, after a COOKIE and another group where the peer asks for them.

        Where it holds an SA, messages are protected from now on.
        """
        cookie: list[Part] = []
        for _ in range(ROUNDS):
            request = self.init_request([*cookie, *change(self.init_parts())], patch)
            answer = self.exchange_init(request)
            if answer is None or answer.message is None:
                return None
            message = answer.message
            asked, group = message.notify(NotifyType.COOKIE), message.notify(NotifyType.INVALID_KE_PAYLOAD)
            if message.get(p.SecurityAssociation) is not None:
                self.establish(message, request, answer.octets)
                return message
            if asked is not None:
                cookie = [p.Notify(NotifyType.COOKIE, asked.data)]
            elif group is None or not self._takes_group(group):
                return message
        return message

    def init_request(self, parts: Sequence[Part], patch: Patch = as_built) -> bytes:
        """The octets of an IKE_SA_INIT request with these payloads."""
        first, body = build_parts(parts)
        header = Header(self.sa.spi_i, NO_SPI, ExchangeType.IKE_SA_INIT, Flag.INITIATOR, 0)
        return patch(build_header(header, first, IKE_HEADER + len(body)) + body)

    def exchange_init(self, request: bytes) -> Heard | None:
        """The first thing that comes back for such octets, which are sent once more when nothing does."""
        since = len(self.heard)
        for seconds in REPEATS[-2:]:
            self.wire.pace()
            self.send(request, natt=False)
            found = self.listen(self.answers_init, seconds, since)
            if found is not None:
                return found
        return None

    def answers_init(self, heard: Heard) -> bool:
        """Matches what comes back for our IKE_SA_INIT request."""
        message = heard.message
        return message is not None and message.header.is_response and message.header.spi_i == self.sa.spi_i

    def _takes_group(self, notify: p.Notify) -> bool:
        wanted = int.from_bytes(notify.data[:2], "big")
        group = next((each for each in groups_of(self.agreed.ike) if each.id == wanted), None)
        if group is None or group.id == self.exchanged.group.id:
            return False
        self.exchanged = dh.initiate(group, os.urandom)
        return True

    def establish(self, message: Message, request: bytes, response: bytes) -> None:
        """Keys from an IKE_SA_INIT response; nothing where it cannot be used."""
        sa, ke, nonce = (message.get(kind) for kind in (p.SecurityAssociation, p.KeyExchangePayload, p.Nonce))
        if not isinstance(sa, p.SecurityAssociation) or not isinstance(ke, p.KeyExchangePayload) or not isinstance(nonce, p.Nonce):
            return
        try:
            suite = suites.ike_suite(sa.proposals[0])
            secret = self.exchanged.shared_secret(ke.data)
        except IkeError:
            return
        self.sa.spi_r, self.sa.next_id = message.header.spi_r, 1
        self.nonces, self.init_messages = (self.nonces[0], nonce.data), (request, response)
        seed = keymat.skeyseed(suite.prf, *self.nonces, secret)
        self.sa.establish(suite, keymat.ike_keys(suite, seed, *self.nonces, self.sa.spi_i, self.sa.spi_r))
        self.natt = True

    def auth_parts(self) -> list[Part]:
        """What a right IKE_AUTH request holds."""
        identity = p.IdentificationInitiator(self.agreed.local_id.type, self.agreed.local_id.data)
        theirs = self.agreed.remote_id
        suite, keys = there(self.sa.suite), there(self.sa.keys)
        signed = signed_octets(suite.prf, self.init_messages[0], self.nonces[1], keys.sk_pi, identity.body())
        proof = self.agreed.psk.sign(suite.prf, signed)
        return [
            identity,
            *([] if theirs is None else [p.IdentificationResponder(theirs.type, theirs.data)]),
            p.Authentication(proof.method, proof.data),
            p.Notify(NotifyType.INITIAL_CONTACT),
            p.SecurityAssociation(negotiation.with_spi(negotiation.without_key_exchange(self.agreed.esp), self.spi_in)),
            p.TrafficSelectorsInitiator(self.agreed.local),
            p.TrafficSelectorsResponder(self.agreed.remote),
        ]

    def auth(self, change: Change = unchanged) -> Message | None:
        """The response to an IKE_AUTH request that is changed so; a CHILD_SA that it holds is there from now on."""
        return self.authenticated_by(self.ask(ExchangeType.IKE_AUTH, change(self.auth_parts())))

    def authenticated_by(self, message: Message | None) -> Message | None:
        """The same response, once it was looked at: who the peer is, and which CHILD_SA it made."""
        if message is not None and self.proves(message):
            self.authentic = True
            self.take_child(message, self.spi_in, self.nonces)
        return message

    def proves(self, message: Message) -> bool:
        """Whether AUTH of an IKE_AUTH response holds, and its IDr is whom we expect (RFC 7296 §2.15)."""
        identity, auth = message.get(p.IdentificationResponder), message.get(p.Authentication)
        if identity is None or auth is None:
            return False
        expected = self.agreed.remote_id
        suite, keys = there(self.sa.suite), there(self.sa.keys)
        signed = signed_octets(suite.prf, self.init_messages[1], self.nonces[0], keys.sk_pr, identity.body())
        try:
            self.agreed.psk.verify(suite.prf, signed, Proof(auth.method, auth.data))
        except AuthenticationError:
            return False
        return expected is None or (identity.id_type, identity.data) == (expected.type, expected.data)
