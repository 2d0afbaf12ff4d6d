"""An IKEv2 initiator that says whatever it is told to, right or wrong, to a gateway under test.

    with UdpWire("192.0.2.2") as wire:
        peer = OddPeer(agreed, wire)
        peer.init()
        peer.auth(lambda parts: parts[::-1])  # payloads in the other order
        answer = peer.ask(ExchangeType.INFORMATIONAL, [RawPayload(200, flags=CRITICAL)])

It is made of the octets, keys and payloads of `ipsec_dp.ike`, and has no state machine: what it sends is the caller's, what it
hears is a list (`heard`), and requests of the peer are answered in the shortest way. It claims to be behind a NAT, so that ESP goes
in UDP.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ipsec_dp.ike import dh, proposal
from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.auth import AuthenticationError, Proof, signed_octets
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.nat import detection_hash
from ipsec_dp.ike.proposal import IkeSuite, ProtocolId
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.fragment import Reassembler
from ipsec_dp.ike.v2.groups import groups_of
from ipsec_dp.ike.v2.message import Header, Message, build_header, parse_message
from ipsec_dp.ike.v2.protect import Protection, open_payload, opened, protections, seal_payload
from ipsec_dp.ike.v2.wire import IKE_HEADER, ExchangeType, Flag, NotifyType
from ipsec_dp.rig.odd_esp import EspDirection, EspError, OpenedEsp
from ipsec_dp.rig.odd_parts import Agreed, Change, Heard, Part, Patch, as_built, build_parts, unchanged
from ipsec_dp.rig.odd_wire import OddWire

T = TypeVar("T")

MARKER: Final = bytes(4)  # RFC 3948 §2.2
NONCE_OCTETS: Final = 32
REPEATS: Final = (0.5, 1.0, 2.0)  # seconds between repetitions of a request; the last is the patience with its last one
ROUNDS: Final = 3  # of COOKIE and INVALID_KE_PAYLOAD


@dataclass(slots=True, eq=False)
class OddIkeSa:
    """One IKE SA of which we are the initiator."""

    spi_i: bytes
    spi_r: bytes = NO_SPI
    suite: IkeSuite | None = None
    keys: keymat.IkeKeys | None = field(default=None, repr=False)
    outgoing: Protection | None = field(default=None, repr=False)
    incoming: Protection | None = field(default=None, repr=False)
    next_id: int = 0
    fragments: Reassembler = field(default_factory=Reassembler, repr=False)

    def establish(self, suite: IkeSuite, keys: keymat.IkeKeys) -> None:
        """Messages are protected by these from now on."""
        self.suite, self.keys = suite, keys
        self.outgoing, self.incoming = protections(suite, keys)

    def header(self, exchange: int, message_id: int, flags: int = Flag.INITIATOR) -> Header:
        return Header(self.spi_i, self.spi_r, exchange, flags, message_id)


@dataclass(frozen=True, slots=True, eq=False)
class OddChild:
    """One CHILD_SA: what we send and what we receive."""

    outgoing: EspDirection
    incoming: EspDirection
    selectors: tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]
    suite: proposal.EspSuite


class OddPeer:
    """One IKE SA with a gateway, `sa`, and its CHILD_SAs, `children`, newest last."""

    def __init__(self, agreed: Agreed, wire: OddWire) -> None:
        self.agreed, self.wire = agreed, wire
        self.sa = OddIkeSa(os.urandom(8))
        self.children: list[OddChild] = []
        self.heard: list[Heard] = []
        self.natt = False  # whether IKE goes over the port that ESP uses
        self.authentic = False  # both sides have proven who they are
        self.gone = False  # the IKE SA was deleted
        self.nonces = (os.urandom(NONCE_OCTETS), b"")
        self.init_messages = (b"", b"")
        self.spi_in = os.urandom(4)[:1].replace(b"\0", b"\1") + os.urandom(3)
        self.exchanged = dh.initiate(groups_of(agreed.ike)[0], os.urandom)

    # ---- datagrams

    def send(self, octets: bytes, *, natt: bool | None = None, marker: bytes | None = None) -> None:
        """IKE octets over the port in use, behind the marker where it is due."""
        over = self.natt if natt is None else natt
        front = (MARKER if over else b"") if marker is None else marker
        self.wire.send(front + octets, natt=over)

    def listen(self, match: Callable[[Heard], bool], seconds: float, since: int) -> Heard | None:
        """The first of `heard`, from number `since` on, that matches, waited for as long as that; None when there is none."""
        deadline = self.wire.now() + seconds
        while True:
            found = next((each for each in self.heard[since:] if match(each)), None)
            if found is not None:
                return found
            payload = self.wire.receive(max(deadline - self.wire.now(), 0.0))
            if payload is None:
                return None
            self.heard.append(self._read(payload.octets, natt=payload.natt))

    def _read(self, octets: bytes, *, natt: bool) -> Heard:
        marked = natt and octets[:4] == MARKER
        if natt and not marked:
            return Heard(octets, natt, esp=self._opened_esp(octets))
        heard = octets[4:] if marked else octets
        try:
            message = parse_message(heard)
        except IkeError:
            return Heard(heard, natt, marked)
        found = self._opened(heard, message) if self.sa.incoming is not None else None
        if found is not None and not found.header.is_response:
            self._answer(found)
        return Heard(heard, natt, marked, found or message, found is not None)

    def _opened_esp(self, octets: bytes) -> OpenedEsp | None:
        for child in self.children:
            try:
                return child.incoming.open(octets)
            except EspError:
                continue
        return None

    def _opened(self, octets: bytes, message: Message) -> Message | None:
        sealed = message.get(p.Encrypted)
        piece = message.get(p.EncryptedFragment)
        if self.sa.incoming is None or (message.header.spi_i, message.header.spi_r) != (self.sa.spi_i, self.sa.spi_r):
            return None
        try:
            if sealed is not None:
                return opened(message, sealed.first_inner, open_payload(self.sa.incoming, octets, sealed))
            if piece is not None:
                plain = open_payload(self.sa.incoming, octets, piece)
                whole = self.sa.fragments.add(message.header.message_id, piece, plain, self.wire.now())
                return None if whole is None else opened(message, *whole)
        except IkeError:
            return None
        return None

    def _answer(self, request: Message) -> None:
        """The shortest response: a DELETE is taken, a new SA is not wanted, all else is heard."""
        parts: list[Part] = []
        if request.header.exchange == ExchangeType.CREATE_CHILD_SA:
            parts = [p.Notify(NotifyType.NO_ADDITIONAL_SAS)]
        for delete in request.all(p.Delete):
            self.gone = self.gone or delete.protocol == ProtocolId.IKE
            for child in [each for each in self.children if each.outgoing.spi in delete.spis]:
                parts.append(p.Delete(ProtocolId.ESP, (child.incoming.spi,)))
                self.children.remove(child)
        flags = Flag.INITIATOR | Flag.RESPONSE
        self.send(self.sealed(request.header.exchange, parts, message_id=request.header.message_id, flags=flags))

    # ---- requests

    def sealed(self, exchange: int, parts: Sequence[Part], *, message_id: int | None = None, flags: int = Flag.INITIATOR) -> bytes:
        """A protected message, by default with the number that the peer waits for, which is used up by `ask` alone."""
        first, plain = build_parts(parts)
        header = self.sa.header(exchange, self.sa.next_id if message_id is None else message_id, flags)
        return seal_payload(_there(self.sa.outgoing), header, p.Encrypted(first, b""), plain, os.urandom)

    def fragments(self, exchange: int, parts: Sequence[Part], total: int) -> list[bytes]:
        """The same cut into so many fragments (RFC 7383), each sealed for itself."""
        first, plain = build_parts(parts)
        piece = -(-len(plain) // total)
        return [
            self.fragment(exchange, (first if number == 1 else 0, number, total), plain[(number - 1) * piece : number * piece])
            for number in range(1, total + 1)
        ]

    def fragment(self, exchange: int, fields: tuple[int, int, int], plain: bytes) -> bytes:
        """One fragment; `fields`: the type of the first payload inside, its number, and how many there are."""
        shell = p.EncryptedFragment(*fields, b"")
        return seal_payload(_there(self.sa.outgoing), self.sa.header(exchange, self.sa.next_id), shell, plain, os.urandom)

    def answers(self, message_id: int) -> Callable[[Heard], bool]:
        """Matches the protected response to the request of that number in the IKE SA that there is now."""
        spis = (self.sa.spi_i, self.sa.spi_r)

        def match(heard: Heard) -> bool:
            if heard.message is None or not heard.protected:
                return False
            header = heard.message.header
            return header.is_response and header.message_id == message_id and (header.spi_i, header.spi_r) == spis

        return match

    def ask(self, exchange: int, parts: Sequence[Part] = ()) -> Message | None:
        """The response to a request with these payloads, repeated while there is none; None in the end. Its number is used up."""
        return self.ask_by([self.sealed(exchange, parts)])

    def ask_by(self, datagrams: Sequence[bytes]) -> Message | None:
        """The same for what is sealed already: all of these are one request."""
        since, number = len(self.heard), self.sa.next_id
        self.sa.next_id += 1
        for seconds in REPEATS:
            for octets in datagrams:
                self.send(octets)
            found = self.listen(self.answers(number), seconds, since)
            if found is not None:
                return found.message
        return None

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
            suite = proposal.ike_suite(sa.proposals[0])
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
        suite, keys = _there(self.sa.suite), _there(self.sa.keys)
        signed = signed_octets(suite.prf, self.init_messages[0], self.nonces[1], keys.sk_pi, identity.body())
        proof = self.agreed.psk.sign(suite.prf, signed)
        return [
            identity,
            *([] if theirs is None else [p.IdentificationResponder(theirs.type, theirs.data)]),
            p.Authentication(proof.method, proof.data),
            p.Notify(NotifyType.INITIAL_CONTACT),
            p.SecurityAssociation(proposal.with_spi(proposal.without_key_exchange(self.agreed.esp), self.spi_in)),
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
        suite, keys = _there(self.sa.suite), _there(self.sa.keys)
        signed = signed_octets(suite.prf, self.init_messages[1], self.nonces[0], keys.sk_pr, identity.body())
        try:
            self.agreed.psk.verify(suite.prf, signed, Proof(auth.method, auth.data))
        except AuthenticationError:
            return False
        return expected is None or (identity.id_type, identity.data) == (expected.type, expected.data)

    def take_child(self, message: Message, spi_in: bytes, nonces: tuple[bytes, bytes], secrets: Sequence[bytearray] = ()) -> bool:
        """The CHILD_SA that a response made, where it made one."""
        sa, ours, theirs = (
            message.get(p.SecurityAssociation),
            message.get(p.TrafficSelectorsInitiator),
            message.get(p.TrafficSelectorsResponder),
        )
        if sa is None or ours is None or theirs is None:
            return False
        suite, ike, keys = proposal.esp_suite(sa.proposals[0]), _there(self.sa.suite), _there(self.sa.keys)
        made = keymat.child_keys(ike.prf, keys.sk_d, suite, *nonces, secrets)
        self.children.append(
            OddChild(
                EspDirection(suite, sa.proposals[0].spi, made.encr_i, made.integ_i),
                EspDirection(suite, spi_in, made.encr_r, made.integ_r),
                (ours.selectors, theirs.selectors),
                suite,
            )
        )
        return True


def _there(value: T | None) -> T:
    """What IKE_SA_INIT has brought. RuntimeError before that."""
    if value is None:
        raise RuntimeError("there are no keys before IKE_SA_INIT was answered")
    return value
