"""IKE messages: header, payload chain, and the rules a chain keeps whatever the exchange (RFC 7296 §3.1, §3.2)."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Buffer, Reader, Writer
from ipsec_dp.ike.payload import HasPayloads, HeaderFields, build_chain, build_fields, check_length, read_header
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.errors import Ikev1MessageError, InvalidMajorVersionError, UnsupportedCriticalPayloadError
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment, Payload
from ipsec_dp.ike.v2.wire import (
    CRITICAL,
    IKE_HEADER,
    IKE_SPI,
    MAJOR_VERSION,
    PAYLOAD_HEADER,
    ExchangeType,
    Flag,
    NotifyType,
    PayloadType,
)

_FIRST_PAYLOAD: Final = 16  # of the header: its type
_EXCHANGE: Final = 18
_FLAGS: Final = 19

_CLASSES: Final[tuple[type[Payload], ...]] = (
    p.SecurityAssociation,
    p.KeyExchangePayload,
    p.IdentificationInitiator,
    p.IdentificationResponder,
    p.Certificate,
    p.CertificateRequest,
    p.Authentication,
    p.Nonce,
    p.Notify,
    p.Delete,
    p.VendorId,
    p.TrafficSelectorsInitiator,
    p.TrafficSelectorsResponder,
    p.Configuration,
    p.Eap,
)
PARSERS: Final[dict[int, type[Payload]]] = {cls.type: cls for cls in _CLASSES}
REPEATABLE: Final = frozenset(
    {PayloadType.CERT, PayloadType.CERTREQ, PayloadType.NOTIFY, PayloadType.DELETE, PayloadType.VENDOR_ID}
)
"""Payloads that may occur more than once in a message (RFC 7296 appendix C); any other twice is INVALID_SYNTAX."""


@dataclass(frozen=True, slots=True)
class Header:
    """The IKE header without next payload and length: SPIs of 8 octets, exchange type, flag octet, message ID."""

    spi_i: bytes
    spi_r: bytes
    exchange: int
    flags: int
    message_id: int

    @property
    def from_initiator(self) -> bool:
        """True when the sender is the original initiator of the IKE SA."""
        return bool(self.flags & Flag.INITIATOR)

    @property
    def is_response(self) -> bool:
        """True for a response to the request with the same message ID."""
        return bool(self.flags & Flag.RESPONSE)


@dataclass(frozen=True, slots=True)
class Message(HasPayloads):
    """A header and its payloads. A protected one, before it is opened, ends in `Encrypted` or `EncryptedFragment`."""

    header: Header
    payloads: tuple[Payload, ...]
    unknown: tuple[int, ...] = field(default=(), compare=False)  # types of payloads that were passed over
    inner: tuple[int, bytes] | None = field(default=None, compare=False, repr=False)  # first type and octets of what was protected

    def notify(self, notify_type: int) -> p.Notify | None:
        """The first notify of that type, or None."""
        return next((notify for notify in self.all(p.Notify) if notify.notify_type == notify_type), None)

    def with_payloads(
        self, payloads: Iterable[Payload], unknown: Iterable[int] = (), inner: tuple[int, bytes] | None = None
    ) -> "Message":
        """The same header over other payloads: a protected message once opened."""
        return replace(self, payloads=tuple(payloads), unknown=tuple(unknown), inner=inner)


def parse_header(reader: Reader, datagram_octets: int) -> tuple[Header, int]:
    """Header and first payload type. The length field must be the datagram's: nothing may trail (RFC 7296 §3.1)."""
    fields = read_header(reader)
    version = fields.version >> 4
    if version == 1:
        raise Ikev1MessageError("it is IKEv1, which is not spoken here")
    if version < MAJOR_VERSION:
        raise IkeSyntaxError(f"major version {version}")
    if version > MAJOR_VERSION:
        raise InvalidMajorVersionError(f"major version {version}")
    check_length(fields.length, datagram_octets)
    if not any(fields.spi_i):
        raise IkeSyntaxError("initiator's SPI is zero")
    return Header(fields.spi_i, fields.spi_r, fields.exchange, fields.flags, fields.message_id), fields.first


def parse_message(datagram: Buffer) -> Message:
    """A datagram (without non-ESP marker) as header and payloads, protected payloads still closed."""
    reader = Reader(datagram)
    header, first = parse_header(reader, len(datagram))
    unknown: list[int] = []
    return Message(header, parse_chain(first, reader, unknown=unknown), tuple(unknown))


def parse_chain(first: int, reader: Reader, *, inside: bool = False, unknown: list[int] | None = None) -> tuple[Payload, ...]:
    """All payloads until the chain ends, which must be where the octets end. `unknown` gets the types that were passed over.

    Unknown payloads are passed over, or refused when critical (RFC 7296 §2.5). SK and SKF end the outer chain and never stand
    `inside` a protected one. The critical bit of a payload we know is ignored (§3.2).
    """
    found: list[Payload] = []
    seen: set[int] = set()
    payload_type = first
    for _ in range(LIMITS.payloads + 1):
        if payload_type == PayloadType.NONE:
            reader.end("message")
            return tuple(found)
        following, flags, length = reader.u8(), reader.u8(), reader.u16()
        body = reader.sub(length - PAYLOAD_HEADER)
        if payload_type in (PayloadType.SK, PayloadType.SKF):
            if inside:
                raise IkeSyntaxError("protected payload inside a protected payload")
            reader.end("message after its protected payload")
            return (*found, _parse_protected(payload_type, following, body))
        parser = PARSERS.get(payload_type)
        if parser is not None:
            if payload_type in seen and payload_type not in REPEATABLE:
                raise IkeSyntaxError(f"payload type {payload_type} twice")
            seen.add(payload_type)
            found.append(parser.parse(body))
        elif flags & CRITICAL:
            raise UnsupportedCriticalPayloadError(payload_type)
        elif unknown is not None:
            unknown.append(payload_type)
        payload_type = following
    raise IkeSyntaxError(f"more than {LIMITS.payloads} payloads")


def _parse_protected(payload_type: int, first_inner: int, body: Reader) -> Payload:
    if payload_type == PayloadType.SK:
        return Encrypted(first_inner, body.rest())
    number, total = body.u16(), body.u16()
    if not 1 <= number <= total <= LIMITS.fragments:
        raise IkeSyntaxError(f"fragment {number} of {total}")
    if (number == 1) != (first_inner != PayloadType.NONE):
        raise IkeSyntaxError("only the first fragment names a payload (RFC 7383 §2.5)")
    return EncryptedFragment(first_inner, number, total, body.rest())


def build_header(header: Header, first: int, length: int) -> bytes:
    """The 28 octets of the IKE header."""
    version = MAJOR_VERSION << 4
    return build_fields(
        HeaderFields(header.spi_i, header.spi_r, first, version, header.exchange, header.flags, header.message_id, length)
    )


def build_message(message: Message) -> bytes:
    """A datagram (without non-ESP marker) from header and payloads."""
    writer = Writer()
    first = build_chain(writer, message.payloads)
    return build_header(message.header, first, IKE_HEADER + len(writer)) + writer.take()


def begins(datagram: bytes) -> bool:
    """Whether it says that it is an IKE_SA_INIT message, which nothing protects."""
    return datagram[_EXCHANGE : _EXCHANGE + 1] == bytes([ExchangeType.IKE_SA_INIT])


def is_response(datagram: bytes) -> bool:
    """Whether it says that it is an answer."""
    return len(datagram) > _FLAGS and bool(datagram[_FLAGS] & Flag.RESPONSE)


def receivers_spi(datagram: bytes) -> bytes:
    """The SPI by which whoever gets a message finds its IKE SA; octets of any kind, and fewer than 8, where it is none."""
    at = IKE_SPI if len(datagram) > _FLAGS and datagram[_FLAGS] & Flag.INITIATOR else 0
    return datagram[at : at + IKE_SPI]


def same_request(one: bytes, other: bytes) -> bool:
    """True when two IKE_SA_INIT requests, both parsed before, differ by nothing but a COOKIE in front (RFC 7296 §2.6)."""
    return one == other or (one[:IKE_SPI] == other[:IKE_SPI] and _after_cookie(one) == _after_cookie(other))


def _after_cookie(request: bytes) -> tuple[int, bytes]:
    """Type of the first payload that is no COOKIE, and all octets from there."""
    first = request[_FIRST_PAYLOAD]
    if first != PayloadType.NOTIFY or request[IKE_HEADER + 6 : IKE_HEADER + 8] != NotifyType.COOKIE.to_bytes(2, "big"):
        return first, request[IKE_HEADER:]
    octets = int.from_bytes(request[IKE_HEADER + 2 : IKE_HEADER + 4], "big")
    return request[IKE_HEADER], request[IKE_HEADER + octets :]
