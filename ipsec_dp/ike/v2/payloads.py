"""Payloads of RFC 7296 §3 (and SKF of RFC 7383) as frozen values.

A class per payload knows its body; `message` knows the generic header and the chain.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.identity import ID_OCTETS
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.payload import EncodedPayload, IkePayload, OctetsPayload
from ipsec_dp.ike.proposal import Proposal, ProtocolId
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2.sa_payload import build_proposals, parse_proposals
from ipsec_dp.ike.v2.ts import build_selectors, parse_selectors
from ipsec_dp.ike.v2.wire import (
    CA_HASH,
    ESP_SPI,
    FIRST_STATUS_NOTIFY,
    MAX_NONCE,
    MIN_NONCE,
    NotifyType,
    PayloadType,
)

CERT_X509_SIGNATURE: Final = 4  # RFC 7296 §3.6
EAP_REQUEST, EAP_RESPONSE, EAP_SUCCESS, EAP_FAILURE = 1, 2, 3, 4
_EAP_HEADER: Final = 4


class Payload(IkePayload):
    """Base of all payloads of IKEv2."""

    __slots__ = ()
    type: ClassVar[PayloadType]


@dataclass(frozen=True, slots=True)
class SecurityAssociation(Payload):
    """SA (§3.3)."""

    type: ClassVar = PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(parse_proposals(reader))

    def build(self, writer: Writer) -> None:
        build_proposals(writer, self.proposals)


@dataclass(frozen=True, slots=True)
class KeyExchangePayload(Payload):
    """KE (§3.4): the group and the public value, whose length `dh` checks against the group."""

    type: ClassVar = PayloadType.KE
    group: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        group = reader.u16()
        reader.u16()  # reserved, ignored
        return cls(group, _some(reader, "KE"))

    def build(self, writer: Writer) -> None:
        writer.u16(self.group)
        writer.u16(0)
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class _Identification(Payload):
    """ID (§3.5): `id_type`, and an identity whose length fits its type."""

    id_type: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        id_type = reader.u8()
        reader.octets(3)  # reserved, ignored
        data = _some(reader, "ID")
        if len(data) != ID_OCTETS.get(id_type, len(data)):
            raise IkeSyntaxError(f"ID of type {id_type} with {len(data)} octets")
        return cls(id_type, data)

    def build(self, writer: Writer) -> None:
        writer.u8(self.id_type)
        writer.octets(bytes(3))
        writer.octets(self.data)


class IdentificationInitiator(_Identification):
    """IDi."""

    __slots__ = ()
    type: ClassVar = PayloadType.ID_I


class IdentificationResponder(_Identification):
    """IDr."""

    __slots__ = ()
    type: ClassVar = PayloadType.ID_R


@dataclass(frozen=True, slots=True)
class Certificate(EncodedPayload, Payload):
    """CERT (§3.6). Encodings other than X.509 Signature are carried, never decoded and never fetched from a URL."""

    type: ClassVar = PayloadType.CERT

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.u8(), _some(reader, "CERT"))


@dataclass(frozen=True, slots=True)
class CertificateRequest(Payload):
    """CERTREQ (§3.7): a wish. For X.509, `authorities` should be a row of 20-octet SHA-1 hashes of CA keys, maybe none; whatever it
    is, the one who has it passes over what he cannot use."""

    type: ClassVar = PayloadType.CERTREQ
    encoding: int
    authorities: bytes

    @property
    def usable(self) -> bool:
        """Whether it names authorities in the way that is known here."""
        return self.encoding == CERT_X509_SIGNATURE and len(self.authorities) % CA_HASH == 0

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.u8(), reader.rest())

    def build(self, writer: Writer) -> None:
        writer.u8(self.encoding)
        writer.octets(self.authorities)


@dataclass(frozen=True, slots=True)
class Authentication(Payload):
    """AUTH (§3.8)."""

    type: ClassVar = PayloadType.AUTH
    method: int
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        method = reader.u8()
        reader.octets(3)  # reserved, ignored
        return cls(method, _some(reader, "AUTH"))

    def build(self, writer: Writer) -> None:
        writer.u8(self.method)
        writer.octets(bytes(3))
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class Nonce(OctetsPayload, Payload):
    """Ni, Nr (§3.9): 16..256 octets."""

    type: ClassVar = PayloadType.NONCE
    least: ClassVar = MIN_NONCE
    most: ClassVar = MAX_NONCE


@dataclass(frozen=True, slots=True)
class Notify(Payload):
    """N (§3.10). `protocol` is 0 unless there is an `spi`, which may be as long as the peer likes: of a type whose SPI nobody reads
    the shape of the SPI is no reason to refuse the message. REKEY_SA names an SA by it: AH or ESP, 4 octets."""

    type: ClassVar = PayloadType.NOTIFY
    notify_type: int
    data: bytes = b""
    protocol: int = ProtocolId.NONE
    spi: bytes = b""

    @property
    def is_error(self) -> bool:
        """True for an error, false for a status notify (§3.10.1)."""
        return self.notify_type < FIRST_STATUS_NOTIFY

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        protocol, spi_octets, notify_type = reader.u8(), reader.u8(), reader.u16()
        if spi_octets == 0:  # the protocol then means nothing
            return cls(notify_type, reader.rest())
        fits = protocol in (ProtocolId.AH, ProtocolId.ESP) and spi_octets == ESP_SPI
        if notify_type == NotifyType.REKEY_SA and not fits:
            raise IkeSyntaxError(f"REKEY_SA with an SPI of {spi_octets} octets for protocol {protocol}")
        spi = reader.octets(spi_octets)
        return cls(notify_type, reader.rest(), protocol, spi)

    def build(self, writer: Writer) -> None:
        writer.u8(self.protocol)
        writer.u8(len(self.spi))
        writer.u16(self.notify_type)
        writer.octets(self.spi)
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class Delete(Payload):
    """D (§3.11): no SPI for the IKE SA itself, else SPIs of 4 octets, each once however often the peer wrote it.

    Of a protocol that is not known here they may be of any length: it has no SA, so there is nothing to delete.
    """

    type: ClassVar = PayloadType.DELETE
    protocol: int
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        protocol, spi_octets, count = reader.u8(), reader.u8(), reader.u16()
        if protocol == ProtocolId.IKE:
            wanted = 0
            if count:
                raise IkeSyntaxError("DELETE of an IKE SA with SPIs")
        else:
            wanted = ESP_SPI if protocol in (ProtocolId.AH, ProtocolId.ESP) else spi_octets
        if count > LIMITS.deletes:
            raise IkeSyntaxError(f"DELETE of more than {LIMITS.deletes} SPIs")
        if spi_octets != wanted or reader.remaining != count * wanted:
            raise IkeSyntaxError(f"DELETE of {count} SPIs with {spi_octets} octets each, {reader.remaining} octets follow")
        return cls(protocol, tuple(dict.fromkeys(reader.octets(wanted) for _ in range(count))))

    def build(self, writer: Writer) -> None:
        writer.u8(self.protocol)
        writer.u8(len(self.spis[0]) if self.spis else 0 if self.protocol == ProtocolId.IKE else ESP_SPI)
        writer.u16(len(self.spis))
        for spi in self.spis:
            writer.octets(spi)


@dataclass(frozen=True, slots=True)
class VendorId(OctetsPayload, Payload):
    """V (§3.12)."""

    type: ClassVar = PayloadType.VENDOR_ID


@dataclass(frozen=True, slots=True)
class _TrafficSelectors(Payload):
    """TS (§3.13). Empty after parsing when the peer sent only types we do not know; such a one cannot be built. `unknown`: those
    types."""

    selectors: tuple[TrafficSelector, ...]
    unknown: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(*parse_selectors(reader))

    def build(self, writer: Writer) -> None:
        build_selectors(writer, self.selectors)


class TrafficSelectorsInitiator(_TrafficSelectors):
    """TSi."""

    __slots__ = ()
    type: ClassVar = PayloadType.TS_I


class TrafficSelectorsResponder(_TrafficSelectors):
    """TSr."""

    __slots__ = ()
    type: ClassVar = PayloadType.TS_R


@dataclass(frozen=True, slots=True)
class Encrypted(Payload):
    """SK (§3.14): IV, ciphertext and ICV in `data`, still closed; `first_inner` is the type of the first payload inside."""

    type: ClassVar = PayloadType.SK
    first_inner: int
    data: bytes = field(repr=False)

    def next_payload(self, _following: int, /) -> int:
        return self.first_inner

    def build(self, writer: Writer) -> None:
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class EncryptedFragment(Payload):
    """SKF (RFC 7383 §2.5): piece `number` of `total`, numbered from 1. Only the first names a payload inside."""

    type: ClassVar = PayloadType.SKF
    first_inner: int
    number: int
    total: int
    data: bytes = field(repr=False)

    def next_payload(self, _following: int, /) -> int:
        return self.first_inner

    def build(self, writer: Writer) -> None:
        writer.u16(self.number)
        writer.u16(self.total)
        writer.octets(self.data)


@dataclass(frozen=True, slots=True)
class Configuration(Payload):
    """CP (§3.15): `attributes` as (type, value)."""

    type: ClassVar = PayloadType.CP
    cfg_type: int
    attributes: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        cfg_type = reader.u8()
        reader.octets(3)  # reserved, ignored
        attributes: list[tuple[int, bytes]] = []
        while reader.remaining:
            if len(attributes) == LIMITS.config_attributes:
                raise IkeSyntaxError(f"more than {LIMITS.config_attributes} configuration attributes")
            attribute = reader.u16() & 0x7FFF  # the reserved bit is ignored
            attributes.append((attribute, reader.octets(reader.u16())))
        return cls(cfg_type, tuple(attributes))

    def build(self, writer: Writer) -> None:
        writer.u8(self.cfg_type)
        writer.octets(bytes(3))
        for attribute, value in self.attributes:
            writer.u16(attribute)
            writer.u16(len(value))
            writer.octets(value)


@dataclass(frozen=True, slots=True)
class Eap(Payload):
    """EAP (§3.16): one EAP packet; `data` is what follows its 4-octet header, empty for success and failure."""

    type: ClassVar = PayloadType.EAP
    code: int
    identifier: int
    data: bytes = b""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        code, identifier, length = reader.u8(), reader.u8(), reader.u16()
        data = reader.rest()
        if length != _EAP_HEADER + len(data):
            raise IkeSyntaxError("EAP length differs from the payload's")
        if not EAP_REQUEST <= code <= EAP_FAILURE or bool(data) != (code <= EAP_RESPONSE):
            raise IkeSyntaxError(f"EAP code {code} with {len(data)} octets of data")
        return cls(code, identifier, data)

    def build(self, writer: Writer) -> None:
        writer.u8(self.code)
        writer.u8(self.identifier)
        writer.u16(_EAP_HEADER + len(self.data))
        writer.octets(self.data)


def _some(reader: Reader, what: str) -> bytes:
    if not reader.remaining:
        raise IkeSyntaxError(f"{what} payload without content")
    return reader.rest()
