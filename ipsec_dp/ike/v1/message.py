"""ISAKMP messages: header, payload chain, and the rules a chain keeps whatever the exchange (RFC 2408 §3.1, §3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Buffer, Reader, Writer
from ipsec_dp.ike.payload import HasPayloads, HeaderFields, build_chain, build_fields, check_length, read_header
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.payloads import IsakmpPayload
from ipsec_dp.ike.v1.sa_payload import SaPayload
from ipsec_dp.ike.v1.wire import (
    GENERIC_HEADER,
    HEADER,
    MOST_PADDING,
    VERSION,
    HeaderFlag,
    PayloadKind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLASSES: Final[tuple[type[IsakmpPayload], ...]] = (
    SaPayload,
    p.KePayload,
    p.IdPayload,
    p.CertPayload,
    p.CertRequestPayload,
    p.HashPayload,
    p.SignaturePayload,
    p.NoncePayload,
    p.NotificationPayload,
    p.DeletePayload,
    p.VendorIdPayload,
    p.NatDPayload,
    p.NatDDraftPayload,
    p.ConfigPayload,
)
PARSERS: Final[dict[int, type[IsakmpPayload]]] = {each.type: each for each in _CLASSES}
OFTEN: Final = frozenset(
    {
        PayloadKind.CERT,
        PayloadKind.CR,
        PayloadKind.NOTIFICATION,
        PayloadKind.DELETE,
        PayloadKind.VENDOR_ID,
        PayloadKind.NAT_D,
        PayloadKind.NAT_D_DRAFT,
    }
)
"""Payloads that may stand in a message any number of times; ID twice at the most, every other once."""


@dataclass(frozen=True, slots=True)
class IsakmpHeader:
    """The header without next payload and length: cookies of 8 octets, exchange type, flag octet, message ID."""

    cookie_i: bytes
    cookie_r: bytes
    exchange: int
    flags: int
    message_id: int

    @property
    def encrypted(self) -> bool:
        return bool(self.flags & HeaderFlag.ENCRYPTED)


@dataclass(frozen=True, slots=True)
class IsakmpMessage(HasPayloads):
    """A header and its payloads. `behind_hash`: the octets from behind the first payload to the end of the last, which the hash of
    a message of phase 2 covers."""

    header: IsakmpHeader
    payloads: tuple[IsakmpPayload, ...]
    behind_hash: bytes = b""

    def has_code(self, code: int) -> bool:
        """Whether it notifies of that."""
        return any(one.code == code for one in self.all(p.NotificationPayload))


def parse_isakmp_header(datagram: Buffer) -> tuple[IsakmpHeader, int]:
    """Header and first payload's type. The length field must be the datagram's: nothing may trail."""
    fields = read_header(Reader(datagram))
    if fields.version != VERSION:
        raise IkeSyntaxError(f"version {fields.version >> 4}.{fields.version & 15}")
    check_length(fields.length, len(datagram))
    if not any(fields.spi_i):
        raise IkeSyntaxError("initiator's cookie is zero")
    return IsakmpHeader(fields.spi_i, fields.spi_r, fields.exchange, fields.flags, fields.message_id), fields.first


def parse_payloads(header: IsakmpHeader, first: int, body: Buffer, *, padded: bool = False) -> IsakmpMessage:
    """All payloads until the chain ends, which must be where the octets end; `padded`: up to MOST_PADDING may follow.

    Kinds that are not known here are passed over, as is whatever stands in a kind of RFC 3947's that means nothing in tunnels.
    """
    reader = Reader(body)
    found: list[IsakmpPayload] = []
    kind, behind_first = first, 0
    for count in range(LIMITS.payloads + 1):
        if kind == PayloadKind.NONE:
            end = reader.position
            if reader.remaining > (MOST_PADDING if padded else 0):
                raise IkeSyntaxError(f"{reader.remaining} octets behind the last payload")
            return IsakmpMessage(header, tuple(found), bytes(memoryview(body)[behind_first:end]))
        following, reserved, length = reader.u8(), reader.u8(), reader.u16()
        if reserved:
            raise IkeSyntaxError("a reserved octet is not zero")
        payload = _parse_one(kind, reader.sub(length - GENERIC_HEADER))
        if payload is not None:
            found.append(payload)
            _check_number(payload, found)
        if count == 0:
            behind_first = reader.position
        kind = following
    raise IkeSyntaxError(f"more than {LIMITS.payloads} payloads")


def parse_fragment(body: Buffer) -> p.FragmentPayload:
    """What follows the header of a fragment: one payload, up to the end of the datagram."""
    reader = Reader(body)
    following, reserved, length = reader.u8(), reader.u8(), reader.u16()
    if following or reserved or length != len(body):
        raise IkeSyntaxError(f"a fragment of {length} octets in {len(body)}, with {following} behind it")
    return p.FragmentPayload.parse(reader)


def _parse_one(kind: int, body: Reader) -> IsakmpPayload | None:
    parser = PARSERS.get(kind)
    if parser is None:
        return None
    payload = parser.parse(body)
    body.end(f"payload {kind}")
    return payload


def _check_number(payload: IsakmpPayload, found: list[IsakmpPayload]) -> None:
    if payload.type not in OFTEN:
        most = 2 if payload.type == PayloadKind.ID else 1
        if sum(one.type == payload.type for one in found) > most:
            raise IkeSyntaxError(f"{payload.type.name} more than {most} times")


def build_payloads(payloads: Iterable[IsakmpPayload]) -> tuple[int, bytes]:
    """The type of the first payload, 0 when there is none, and all of them with their generic headers."""
    writer = Writer()
    return build_chain(writer, payloads), writer.take()


def build_isakmp(header: IsakmpHeader, first: int, body: bytes) -> bytes:
    """A datagram (without non-ESP marker) from a header and what follows it."""
    flags, length = header.flags, HEADER + len(body)
    one = HeaderFields(header.cookie_i, header.cookie_r, first, VERSION, header.exchange, flags, header.message_id, length)
    return build_fields(one) + body


def build_clear(header: IsakmpHeader, payloads: Iterable[IsakmpPayload]) -> bytes:
    """A datagram that anybody may read."""
    return build_isakmp(header, *build_payloads(payloads))
