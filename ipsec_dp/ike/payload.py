"""Header, payloads and their chain as every version of IKE has them on the wire: what IKEv2 took over from ISAKMP.

Which payloads there are, and which rules a chain keeps, is each version's own (RFC 2408 §3.1, §3.2; RFC 7296 §3.1, §3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Self, TypeVar

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import IntEnum

SPI_OCTETS: Final = 8  # of an IKE SA's two SPIs, which ISAKMP calls cookies
HEADER_OCTETS: Final = 28
GENERIC_OCTETS: Final = 4  # of a payload's generic header
UDP_MOST: Final = 65_535 - 8  # octets: the payload of one UDP datagram; also of a reassembled message


class IkePayload:
    """Base of all payloads: `type` on the wire, `parse` and `build` of the body without the generic header."""

    __slots__ = ()
    type: ClassVar[IntEnum]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        raise NotImplementedError

    def build(self, writer: Writer) -> None:
        raise NotImplementedError

    def body(self) -> bytes:
        """The payload without its generic header; of an ID it is what proofs cover (RFC 2409 §5, RFC 7296 §2.15)."""
        writer = Writer()
        self.build(writer)
        return writer.take()

    def next_payload(self, following: int, /) -> int:
        """What its generic header says comes next, where `following` does."""
        return following


@dataclass(frozen=True, slots=True)
class OctetsPayload(IkePayload):
    """A body that is octets and nothing else, from `least` to `most` of them."""

    least: ClassVar[int] = 0
    most: ClassVar[int] = UDP_MOST
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        if not cls.least <= reader.remaining <= cls.most:
            raise IkeSyntaxError(f"{cls.type.name.lower()} of {reader.remaining} octets")
        return cls(reader.rest())

    def build(self, writer: Writer) -> None:
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class EncodedPayload(IkePayload):
    """A certificate, or a wish for one: how it is encoded, and the octets."""

    encoding: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.u8(), reader.rest())

    def build(self, writer: Writer) -> None:
        writer.u8(self.encoding)
        writer.octets(self.data)


P = TypeVar("P", bound=IkePayload)


class HasPayloads:
    """A message, asked for its payloads by their class."""

    __slots__ = ()
    payloads: tuple[IkePayload, ...]

    def get(self, wanted: type[P]) -> P | None:
        """The first payload of that class, or None."""
        return next((payload for payload in self.payloads if type(payload) is wanted), None)

    def all(self, wanted: type[P]) -> tuple[P, ...]:
        """Every payload of that class, in order."""
        return tuple(payload for payload in self.payloads if type(payload) is wanted)


def build_chain(writer: Writer, payloads: Iterable[IkePayload]) -> int:
    """Append `payloads` with their generic headers; returns the type of the first (0 when there is none)."""
    chain = tuple(payloads)
    types = (*(int(payload.type) for payload in chain), 0)
    for payload, following in zip(chain, types[1:], strict=True):
        writer.u8(payload.next_payload(following))
        writer.u8(0)
        length_at = writer.reserve_u16()
        payload.build(writer)
        writer.fill_u16(length_at, len(writer) - length_at + 2)
    return types[0]


class HeaderFields(NamedTuple):
    """The header field by field (RFC 2408 §3.1, RFC 7296 §3.1), in the order of the wire."""

    spi_i: bytes
    spi_r: bytes
    first: int
    version: int
    exchange: int
    flags: int
    message_id: int
    length: int


def read_header(reader: Reader) -> HeaderFields:
    """The fields, none of them judged."""
    spi_i, spi_r = reader.octets(SPI_OCTETS), reader.octets(SPI_OCTETS)
    first, version, exchange, flags = reader.u8(), reader.u8(), reader.u8(), reader.u8()
    return HeaderFields(spi_i, spi_r, first, version, exchange, flags, reader.u32(), reader.u32())


def check_length(length: int, datagram_octets: int) -> None:
    """The length field must be the datagram's: nothing may trail."""
    if length != datagram_octets or length > UDP_MOST:
        raise IkeSyntaxError(f"length field {length} in a datagram of {datagram_octets} octets")


def build_fields(fields: HeaderFields) -> bytes:
    """The 28 octets of the header."""
    writer = Writer()
    writer.octets(fields.spi_i)
    writer.octets(fields.spi_r)
    for value in (fields.first, fields.version, fields.exchange, fields.flags):
        writer.u8(value)
    writer.u32(fields.message_id)
    writer.u32(fields.length)
    return writer.take()
