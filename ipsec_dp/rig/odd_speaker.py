"""What both halves of an odd peer are: one side of an IKE SA that says what its caller wants, hears, and answers.

It is made of the octets, keys and payloads of `ipsec_dp.ike`, and has no state machine: what it sends is the caller's, what it
hears is a list (`heard`), and requests of the peer are answered as `answering` says. It claims to be behind a NAT, so that ESP goes
in UDP.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from ipsec_dp.ike import suites
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import keymat
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Message, parse_message
from ipsec_dp.ike.v2.protect import open_payload, opened, seal_payload
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.rig.odd_esp import EspDirection, EspError, OpenedEsp
from ipsec_dp.rig.odd_parts import Agreed, Heard, Part, build_parts
from ipsec_dp.rig.odd_sas import OddChild, OddIkeSa

if TYPE_CHECKING:
    from ipsec_dp.rig.odd_wire import OddWire

T = TypeVar("T")

MARKER: Final = bytes(4)  # RFC 3948 §2.2
NONCE_OCTETS: Final = 32
REPEATS: Final = (0.5, 1.0, 2.0)  # seconds between repetitions of a request; the last is the patience with its last one


class OddSpeaker:
    """One IKE SA with a gateway, `sa`, and its CHILD_SAs, `children`, newest last.

    `others`: IKE SAs before it or beside it after a rekey, on which requests are answered too. `nonce`: makes those of ours.
    """

    def __init__(self, agreed: Agreed, wire: OddWire, sa: OddIkeSa) -> None:
        self.agreed, self.wire, self.sa = agreed, wire, sa
        self.others: list[OddIkeSa] = []
        self.nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_OCTETS)
        self.children: list[OddChild] = []
        self.heard: list[Heard] = []
        self.natt = False  # whether IKE goes over the port that ESP uses
        self.authentic = False  # both sides have proven who they are
        self.gone = False  # the IKE SA was deleted
        # What requests of the gateway are answered with; None: not now.
        self.answering: Callable[..., Sequence[Part] | None] = shortest
        self._answered: dict[bytes, bytes] = {}  # responses by requests, whose repetitions get them again

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
        found = self._opened(heard, message)
        if found is None:
            self.unprotected(message, heard, natt=natt)
        elif not found.header.is_response:
            self.react(found, heard)
        return Heard(heard, natt, marked, found or message, found is not None)

    def unprotected(self, message: Message, octets: bytes, *, natt: bool) -> None:
        """A message came that no IKE SA of ours protects."""

    def react(self, request: Message, octets: bytes) -> None:
        """Answers a request as `answering` says, and its repetitions by the same octets (RFC 7296 §2.1)."""
        if octets in self._answered:
            self.send(self._answered[octets])
            return
        parts = self.answering(self, request)
        if parts is not None:
            self._answered[octets] = self.answer(request, parts)

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
        sa = self.of(message)
        if sa is None or sa.incoming is None:
            return None
        try:
            if sealed is not None:
                return opened(message, sealed.first_inner, open_payload(sa.incoming, octets, sealed))
            if piece is not None:
                plain = open_payload(sa.incoming, octets, piece)
                whole = sa.fragments.add(message.header.message_id, piece, plain, self.wire.now())
                return None if whole is None else opened(message, *whole)
        except IkeError:
            return None
        return None

    def of(self, message: Message) -> OddIkeSa | None:
        """The IKE SA of ours that a message is of."""
        spis = message.header.spi_i, message.header.spi_r
        return next((sa for sa in (self.sa, *self.others) if sa.spis == spis), None)

    def answer(self, request: Message, parts: Sequence[Part]) -> bytes:
        """A response to a request of the gateway, now, and once more at each call; its octets."""
        sa, header = there(self.of(request)), request.header
        first, plain = build_parts(parts)
        made = sa.header(header.exchange, header.message_id, sa.role | Flag.RESPONSE)
        octets = seal_payload(there(sa.outgoing), made, p.Encrypted(first, b""), plain, os.urandom)
        self.send(octets)
        return octets

    # ---- requests

    def sealed(self, exchange: int, parts: Sequence[Part], *, message_id: int | None = None, flags: int | None = None) -> bytes:
        """A protected message, by default with the number that the peer waits for, which is used up by `ask` alone."""
        first, plain = build_parts(parts)
        header = self.sa.header(exchange, self.sa.next_id if message_id is None else message_id, flags)
        return seal_payload(there(self.sa.outgoing), header, p.Encrypted(first, b""), plain, os.urandom)

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
        return seal_payload(there(self.sa.outgoing), self.sa.header(exchange, self.sa.next_id), shell, plain, os.urandom)

    def answers(self, message_id: int) -> Callable[[Heard], bool]:
        """Matches the protected response to the request of that number in the IKE SA that there is now."""
        spis = self.sa.spis

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

    def take_child(self, message: Message, spi_in: bytes, nonces: tuple[bytes, bytes], secrets: Sequence[bytearray] = ()) -> bool:
        """The CHILD_SA that a response made, where it made one."""
        sa, ours, theirs = (
            message.get(p.SecurityAssociation),
            message.get(p.TrafficSelectorsInitiator),
            message.get(p.TrafficSelectorsResponder),
        )
        if sa is None or ours is None or theirs is None:
            return False
        suite, ike, keys = suites.esp_suite(sa.proposals[0]), there(self.sa.suite), there(self.sa.keys)
        made = keymat.child_keys(ike.prf, keys.sk_d, suite, *nonces, secrets)
        self.children.append(
            OddChild(
                EspDirection(suite, sa.proposals[0].spi, made.encr_i, made.integ_i),
                EspDirection(suite, spi_in, made.encr_r, made.integ_r),
                (ours.selectors, theirs.selectors),
                suite,
                nonces,
            )
        )
        return True


def shortest(peer: OddSpeaker, request: Message) -> list[Part] | None:
    """The shortest response: a DELETE is taken, a new SA is not wanted, all else is heard."""
    if request.header.exchange == ExchangeType.CREATE_CHILD_SA:
        return [p.Notify(NotifyType.NO_ADDITIONAL_SAS)]
    parts: list[Part] = []
    for delete in request.all(p.Delete):
        if delete.protocol == ProtocolId.IKE:
            _leave(peer, request)
        for child in [each for each in peer.children if each.outgoing.spi in delete.spis]:
            parts.append(p.Delete(ProtocolId.ESP, (child.incoming.spi,)))
            peer.children.remove(child)
    return parts


def _leave(peer: OddSpeaker, request: Message) -> None:
    """The IKE SA of the request is deleted; it still protects the response. What replaced it takes its place."""
    if peer.of(request) is peer.sa and peer.others:
        peer.others.append(peer.sa)
        peer.sa = peer.others.pop(-2)
        return
    peer.gone = peer.gone or peer.of(request) is peer.sa


def there(value: T | None) -> T:
    """What IKE_SA_INIT has brought. RuntimeError before that."""
    if value is None:
        raise RuntimeError("there are no keys before IKE_SA_INIT was answered")
    return value
