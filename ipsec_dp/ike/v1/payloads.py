"""Payloads of RFC 2408 §3 and RFC 3947 §3.2 as frozen values; the SA payload is in `sa_payload`.

A class for each payload knows its body; `message` knows the generic header and the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.payload import EncodedPayload, IkePayload, OctetsPayload
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.wire import DOI_IPSEC, ESP_SPI, FIRST_STATUS, MAX_NONCE, MIN_NONCE, PayloadKind

_LAST_FRAGMENT: Final = 1  # flag

_MOST_HASH: Final = 64  # octets


class IsakmpPayload(IkePayload):
    """Base of all payloads of ISAKMP."""

    __slots__ = ()
    type: ClassVar[PayloadKind]


@dataclass(frozen=True, slots=True)
class _Octets(OctetsPayload, IsakmpPayload):
    """A body that is octets and nothing else."""


@dataclass(frozen=True, slots=True)
class KePayload(_Octets):
    """KE (§3.7): g^x; which group the SA payload says."""

    type: ClassVar = PayloadKind.KE


@dataclass(frozen=True, slots=True)
class NoncePayload(_Octets):
    """NONCE (§3.13), 8 to 256 octets (RFC 2409 §5)."""

    type: ClassVar = PayloadKind.NONCE
    least: ClassVar = MIN_NONCE
    most: ClassVar = MAX_NONCE


@dataclass(frozen=True, slots=True)
class HashPayload(_Octets):
    """HASH (§3.11)."""

    type: ClassVar = PayloadKind.HASH
    least: ClassVar = 1
    most: ClassVar = _MOST_HASH


@dataclass(frozen=True, slots=True)
class SignaturePayload(_Octets):
    """SIG (§3.12)."""

    type: ClassVar = PayloadKind.SIG


@dataclass(frozen=True, slots=True)
class VendorIdPayload(_Octets):
    """VID (§3.16)."""

    type: ClassVar = PayloadKind.VENDOR_ID


@dataclass(frozen=True, slots=True)
class NatDPayload(_Octets):
    """NAT-D (RFC 3947 §3.2): a hash of cookies, address and port."""

    type: ClassVar = PayloadKind.NAT_D


@dataclass(frozen=True, slots=True)
class NatDDraftPayload(_Octets):
    """The same by the number of draft-02 and draft-03."""

    type: ClassVar = PayloadKind.NAT_D_DRAFT


@dataclass(frozen=True, slots=True)
class ConfigPayload(_Octets):
    """ATTR: XAUTH and mode config. `data`: type, a reserved octet, identifier, attributes."""

    type: ClassVar = PayloadKind.CONFIG


@dataclass(frozen=True, slots=True)
class FragmentPayload(IsakmpPayload):
    """A part of a message, from 1 on; the only payload of its datagram, by no standard. Nothing protects it."""

    type: ClassVar = PayloadKind.FRAGMENT
    id: int
    number: int
    last: bool
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        identifier, number, flags = reader.u16(), reader.u8(), reader.u8()
        if not 1 <= number <= LIMITS.fragments or not reader.remaining:
            raise IkeSyntaxError(f"fragment {number} of {reader.remaining} octets")
        return cls(identifier, number, bool(flags & _LAST_FRAGMENT), reader.rest())

    def build(self, writer: Writer) -> None:
        writer.u16(self.id)
        writer.u8(self.number)
        writer.u8(_LAST_FRAGMENT if self.last else 0)
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class IdPayload(IsakmpPayload):
    """ID (§3.8, RFC 2407 §4.6.2): who is at an end, or what networks are behind it."""

    type: ClassVar = PayloadKind.ID
    id_type: int
    protocol: int
    port: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        if reader.remaining > LIMITS.identity_octets + 4:
            raise IkeSyntaxError(f"identity of {reader.remaining} octets")
        return cls(reader.u8(), reader.u8(), reader.u16(), reader.rest())

    def build(self, writer: Writer) -> None:
        writer.u8(self.id_type)
        writer.u8(self.protocol)
        writer.u16(self.port)
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class CertPayload(EncodedPayload, IsakmpPayload):
    """CERT (§3.9)."""

    type: ClassVar = PayloadKind.CERT


@dataclass(frozen=True, slots=True)
class CertRequestPayload(EncodedPayload, IsakmpPayload):
    """CR (§3.10): the DER of an authority's name, or nothing."""

    type: ClassVar = PayloadKind.CR


@dataclass(frozen=True, slots=True)
class NotificationPayload(IsakmpPayload):
    """N (§3.14)."""

    type: ClassVar = PayloadKind.NOTIFICATION
    protocol: int
    code: int
    spi: bytes = b""
    data: bytes = b""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        doi, protocol, spi_octets, code = reader.u32(), reader.u8(), reader.u8(), reader.u16()
        if doi not in (0, DOI_IPSEC):
            raise IkeSyntaxError(f"notification of DOI {doi}")
        return cls(protocol, code, reader.octets(spi_octets), reader.rest())

    def build(self, writer: Writer) -> None:
        writer.u32(DOI_IPSEC)
        writer.u8(self.protocol)
        writer.u8(len(self.spi))
        writer.u16(self.code)
        writer.octets(self.spi)
        writer.octets(self.data)

    @property
    def is_error(self) -> bool:
        return self.code < FIRST_STATUS


@dataclass(frozen=True, slots=True)
class DeletePayload(IsakmpPayload):
    """D (§3.15): SPIs of one protocol, of one length: none is shorter than ESP's."""

    type: ClassVar = PayloadKind.DELETE
    protocol: int
    spis: tuple[bytes, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        doi, protocol, spi_octets, count = reader.u32(), reader.u8(), reader.u8(), reader.u16()
        if doi != DOI_IPSEC or count > LIMITS.deletes or spi_octets * count != reader.remaining or (count and spi_octets < ESP_SPI):
            raise IkeSyntaxError(f"DELETE of {count} SPIs of {spi_octets} octets, DOI {doi}")
        spis = reader.rest()
        return cls(protocol, tuple(spis[at : at + spi_octets] for at in range(0, len(spis), max(spi_octets, 1))))

    def build(self, writer: Writer) -> None:
        writer.u32(DOI_IPSEC)
        writer.u8(self.protocol)
        writer.u8(len(self.spis[0]) if self.spis else 0)
        writer.u16(len(self.spis))
        for spi in self.spis:
            writer.octets(spi)
