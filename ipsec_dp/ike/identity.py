"""Identities (RFC 7296 §3.5): from configuration text, from the wire, for people, and when two are the same."""

import re
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import NameOID, ObjectIdentifier

from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.text import shown


class IdType(IntEnum):
    """Identification types (RFC 7296 §3.5)."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    KEY_ID = 11


ID_OCTETS: Final[dict[int, int]] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}  # types of fixed length


class IdentityError(IkeError):
    """A text that is no identity, or octets that are none of their type."""


_FQDN: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_EMAIL: Final = re.compile(r"[!-?A-~]+@[A-Za-z0-9_.-]+")

_ATTRIBUTES: Final = {  # keywords of distinguished names, strongSwan's among them
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "E": NameOID.EMAIL_ADDRESS,
    "SN": NameOID.SERIAL_NUMBER,
    "S": NameOID.SURNAME,
    "G": NameOID.GIVEN_NAME,
    "T": NameOID.TITLE,
}
_SYNONYMS: Final = {
    "EMAIL": "E",
    "EMAILADDRESS": "E",
    "SERIALNUMBER": "SN",
    "SURNAME": "S",
    "GIVENNAME": "G",
    "GN": "G",
    "TITLE": "T",
}
_KEYWORD_OF: Final = {oid: keyword for keyword, oid in _ATTRIBUTES.items()}
_STRING_CODECS: Final = {  # by tag: UTF8, Numeric, Printable, Teletex, IA5, Universal, BMP
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


@asn1.sequence
class _Attribute:
    type: ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _NameHolder:
    rdns: list[asn1.SetOf[_Attribute]]


Rdn = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Identity:
    """An ID type and its octets, as both stand in IDi and IDr. Equality is that of octets; `matches` is that of meaning."""

    type: int
    data: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Configuration text: an address, an FQDN ("gw.example", "@gw"), an e-mail address, a DN ("C=DE, O=Org, CN=x", in the
        order of the certificate), or "keyid:" with text or 0x-hex. IdentityError when it is none of these.
        """
        if text.startswith("keyid:"):
            return cls(IdType.KEY_ID, _key_id(text.removeprefix("keyid:")))
        if "=" in text:
            return cls(IdType.DER_ASN1_DN, _encode_name(text))
        try:
            address = ip_address(text)
        except ValueError:
            return cls(*_name_or_mail(text))
        return cls(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)

    @classmethod
    def from_wire(cls, id_type: int, data: bytes) -> Self:
        """What a peer sent. IdentityError for octets that its type forbids; a type we do not know is kept and matches nothing."""
        if not 0 < len(data) <= LIMITS.identity_octets or len(data) != ID_OCTETS.get(id_type, len(data)):
            raise IdentityError(f"identity of type {id_type} with {len(data)} octets")
        if id_type == IdType.FQDN and not _FQDN.fullmatch(data.decode("latin-1")):
            raise IdentityError("identity is no domain name")
        if id_type == IdType.RFC822_ADDR and not _EMAIL.fullmatch(data.decode("latin-1")):
            raise IdentityError("identity is no e-mail address")
        if id_type == IdType.DER_ASN1_DN:
            canonical_name(data)
        return cls(id_type, data)

    def matches(self, other: "Identity") -> bool:
        """True when both name the same: domain names in any case, DNs by attribute and value whatever their string types."""
        return self.meaning() == other.meaning()

    def meaning(self) -> tuple[int, object]:
        """What `matches` compares: hashable, equal for two that name the same."""
        if self.type == IdType.FQDN:
            return self.type, self.data.lower().rstrip(b".")
        if self.type == IdType.RFC822_ADDR:
            local, _, domain = self.data.rpartition(b"@")
            return self.type, (local, domain.lower())
        if self.type == IdType.DER_ASN1_DN:
            return self.type, canonical_name(self.data)
        return self.type, self.data

    def __str__(self) -> str:
        """The text `from_text` would read; what is not printable is escaped and what is long is cut, so that it can be shown."""
        return shown(self._text(), LIMITS.identity_shown)

    def _text(self) -> str:
        if self.type in (IdType.IPV4_ADDR, IdType.IPV6_ADDR) and len(self.data) in (4, 16):
            return str(ip_address(self.data))
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR):
            return self.data.decode("latin-1")
        if self.type == IdType.DER_ASN1_DN:
            return _name_text(self.data)
        if self.type == IdType.KEY_ID:
            text = self.data.decode("latin-1")
            return f"keyid:{text}" if text.isascii() and text.isprintable() else f"keyid:0x{self.data.hex()}"
        return f"type {self.type}:0x{self.data.hex()}"


def explain_mismatch(expected: Identity, received: Identity) -> str:
    """Both identities, and what differs; one line for an event."""
    kinds = [IdType(i.type).name if i.type in list(IdType) else f"type {i.type}" for i in (expected, received)]
    differs = "they differ in value" if kinds[0] == kinds[1] else f"they differ in type ({kinds[0]} and {kinds[1]})"
    return f"expected {expected}; the peer says it is {received}; {differs}"


def _key_id(text: str) -> bytes:
    try:
        data = bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
    except ValueError:
        raise IdentityError(f"keyid {text!r} is no hexadecimal") from None
    if not 0 < len(data) <= LIMITS.identity_octets:
        raise IdentityError(f"keyid of {len(data)} octets")
    return data


def _name_or_mail(text: str) -> tuple[IdType, bytes]:
    for kind, form, candidate in ((IdType.FQDN, _FQDN, text.removeprefix("@")), (IdType.RFC822_ADDR, _EMAIL, text)):
        if len(candidate) <= LIMITS.identity_octets and form.fullmatch(candidate):
            return kind, candidate.encode("ascii")
    raise IdentityError(f"{text!r} is no address, domain name, e-mail address, DN or keyid")


# --- distinguished names ---------------------------------------------------------------------------------------------


def _encode_name(text: str) -> bytes:
    """DER of "C=DE, O=Org, CN=x": RDNs from left to right as they stand in a certificate; escapes as in RFC 4514."""
    rdns: list[x509.RelativeDistinguishedName] = []
    for part in re.findall(r"(?:\\.|[^,\\])+", text):
        pairs = [_keyword_first(pair) for pair in re.findall(r"(?:\\.|[^+\\])+", part)]
        try:
            rdns += x509.Name.from_rfc4514_string("+".join(pairs), _ATTRIBUTES).rdns
        except ValueError:
            raise IdentityError(f"{part.strip()!r} in {text!r} is no part of a distinguished name") from None
    return x509.Name(rdns).public_bytes()


def _keyword_first(pair: str) -> str:
    keyword, equals, value = pair.partition("=")
    keyword = keyword.strip().upper()
    return f"{_SYNONYMS.get(keyword, keyword)}{equals}{value.strip()}"


def canonical_name(der: bytes) -> tuple[Rdn, ...]:
    """A DN for comparing: attributes of each RDN with values in one case and single spaces (RFC 5280 §7.1).

    IdentityError when `der` is no DER of a Name.
    """
    return tuple(frozenset((oid, " ".join(value.casefold().split())) for oid, value in rdn) for rdn in _decode_name(der))


def _decode_name(der: bytes) -> list[list[tuple[str, str]]]:
    """(dotted OID, value) of each attribute of each RDN; a value that is no string as "#hex" (RFC 4514 §2.4)."""
    try:
        rdns = asn1.decode_der(_NameHolder, der_sequence(der)).rdns
        named = [rdn.as_list() for rdn in rdns]
        if sum(map(len, named)) > LIMITS.name_attributes:
            raise IdentityError(f"a distinguished name of more than {LIMITS.name_attributes} attributes")
        return [[(a.type.dotted_string, _value(a.value)) for a in rdn] for rdn in named]
    except ValueError:
        raise IdentityError("identity is no distinguished name") from None


def der_sequence(content: bytes) -> bytes:
    """DER of a SEQUENCE of this content, of 65,535 octets at the most."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big") if size > 0xFF else bytes([0x81, size])
    return b"\x30" + length + content


def _value(value: asn1.TLV) -> str:
    codec = _STRING_CODECS.get(value.tag_bytes[0])
    return bytes(value.data).decode(codec) if codec else "#" + bytes(value.data).hex()


def _name_text(der: bytes) -> str:
    return ", ".join("+".join(f"{_keyword(oid)}={_escaped(value)}" for oid, value in rdn) for rdn in _decode_name(der))


def _keyword(oid: str) -> str:
    return _KEYWORD_OF.get(ObjectIdentifier(oid), oid)


def _escaped(value: str) -> str:
    return shown(re.sub(r'([,+"\\<>;])', r"\\\1", value))
