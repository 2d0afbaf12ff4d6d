"""Distinguished names: from text, to text that reads back as the same name, and when two are the same (RFC 4514, RFC 5280 §7.1)."""

import re
from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import NameOID, ObjectIdentifier

from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.util.text import shown


class DistinguishedNameError(IkeError):
    """A text that is no name, or octets that are none."""


_ATTRIBUTES: Final = {  # keywords, strongSwan's among them
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


Value = str | bytes
"""Of an attribute: a string, or the DER of what is none."""
Rdn = frozenset[tuple[str, Value]]
"""(dotted OID, value) of each of its attributes."""


# --- DER --------------------------------------------------------------------------------------------------------------


def canonical(der: bytes) -> tuple[Rdn, ...]:
    """For comparing: attributes of each RDN with values in one case and single spaces, whatever their string types."""
    return tuple(
        frozenset((oid, value if isinstance(value, bytes) else " ".join(value.casefold().split())) for oid, value in rdn)
        for rdn in _decoded(der)
    )


def _decoded(der: bytes) -> list[list[tuple[str, Value]]]:
    try:
        rdns = asn1.decode_der(_NameHolder, tlv(b"\x30", der)).rdns
        named = [rdn.as_list() for rdn in rdns]
        if sum(map(len, named)) > LIMITS.name_attributes:
            raise DistinguishedNameError(f"a distinguished name of more than {LIMITS.name_attributes} attributes")
        return [[(a.type.dotted_string, _value(a.value.tag_bytes, bytes(a.value.data))) for a in rdn] for rdn in named]
    except ValueError:
        raise DistinguishedNameError("identity is no distinguished name") from None


def tlv(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big") if size > 0xFF else bytes([0x81, size])
    return tag + length + content


def _value(tag: bytes, content: bytes) -> Value:
    codec = _STRING_CODECS.get(tag[0])
    return content.decode(codec) if codec else tlv(bytes(tag), content)


# --- text -------------------------------------------------------------------------------------------------------------

_KEYWORD: Final = rf"(?:{'|'.join(sorted((*_ATTRIBUTES, *_SYNONYMS), key=len, reverse=True))}|(?:OID\.)?[0-9]+(?:\.[0-9]+)+)"
_BEGIN: Final = re.compile(rf"\s*({_KEYWORD})\s*=\s*", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_PLAIN: Final = re.compile(r"(?:[^\\,;+]|\\.)*", re.DOTALL)
_SLASHED: Final = re.compile(rf"(?:\\.|(?![/+]\s*{_KEYWORD}\s*=)[^\\])*", re.DOTALL | re.IGNORECASE)  # a slash may stand in a value
_HEX: Final = re.compile(r"#((?:[0-9A-Fa-f]{2})+)\s*")
_UNIT: Final = re.compile(r"\\([0-9A-Fa-f]{2})|\\(.)|(.)", re.DOTALL)
_SPECIAL: Final = frozenset(',+"\\<>;')
_PATTERN: Final = "*"


def encode(text: str) -> bytes:
    """DER of "C=DE, O=Org, CN=x", RDNs from left to right as they stand in a certificate, or of "/C=DE/O=Org/CN=x".

    Escapes as in RFC 4514; a value may stand in quotes, or as "#" with the DER of a string in hexadecimal; an attribute may be
    named by its dotted OID; "+" joins the attributes of one RDN.
    """
    slashed = text.startswith("/")
    rdns: list[list[x509.NameAttribute[str]]] = []
    for joined, oid, value in _attributes(text, slashed=slashed):
        try:
            attribute = x509.NameAttribute(ObjectIdentifier(oid), value)
        except ValueError as error:
            raise DistinguishedNameError(f"{value!r} in {text!r} is no value there: {error}") from None
        if joined:
            rdns[-1].append(attribute)
        else:
            rdns.append([attribute])
    try:
        return x509.Name([x509.RelativeDistinguishedName(rdn) for rdn in rdns]).public_bytes()
    except ValueError as error:
        raise DistinguishedNameError(f"{text!r} is no distinguished name: {error}") from None


def _attributes(text: str, *, slashed: bool) -> Iterator[tuple[bool, str, str]]:
    """Each as (it belongs to the RDN of the one before, OID, value)."""
    at, joined = (1, False) if slashed else (0, False)
    while True:
        begin = _BEGIN.match(text, at)
        if begin is None:
            raise DistinguishedNameError(f"{text[at:].strip()!r} in {text!r} is no part of a distinguished name")
        keyword = begin[1].upper()
        end, value = _read_value(text, begin.end(), slashed=slashed)
        yield joined, _oid(keyword), value
        if end == len(text):
            return
        separator = text[end]
        if separator not in ("/+" if slashed else ",;+"):
            raise DistinguishedNameError(f"{text[end:]!r} in {text!r} is no part of a distinguished name")
        at, joined = end + 1, separator == "+"


def _oid(keyword: str) -> str:
    known = _ATTRIBUTES.get(_SYNONYMS.get(keyword, keyword))
    return keyword.removeprefix("OID.") if known is None else known.dotted_string


def _read_value(text: str, at: int, *, slashed: bool) -> tuple[int, str]:
    """Where it ends, and what it is."""
    quoted, hexadecimal = _QUOTED.match(text, at), _HEX.match(text, at)
    if quoted is not None:
        return quoted.end(), _plain(quoted[1], strip=False)
    if hexadecimal is not None:
        return hexadecimal.end(), _of_der(bytes.fromhex(hexadecimal[1]))
    found = (_SLASHED if slashed else _PLAIN).match(text, at)
    if found is None:  # it may be empty, so it is always found
        return at, ""
    if found[0].strip() == _PATTERN:
        raise DistinguishedNameError(f"{text!r} is a pattern, which no name fits; an asterisk is written \\2a")
    return found.end(), _plain(found[0], strip=True)


def _plain(raw: str, *, strip: bool) -> str:
    """Without its escapes, and without spaces at its end that are not escaped."""
    units = [(bytes.fromhex(m[1]), True) if m[1] else ((m[2] or m[3]).encode(), m[3] is None) for m in _UNIT.finditer(raw)]
    while strip and units and not units[-1][1] and units[-1][0].isspace():
        units.pop()
    try:
        return b"".join(octets for octets, _ in units).decode()
    except ValueError:
        raise DistinguishedNameError(f"{raw!r} is no UTF-8") from None


def _of_der(der: bytes) -> str:
    try:
        value = _decoded(tlv(b"\x30", tlv(b"\x31", tlv(b"\x30", b"\x06\x03\x55\x04\x03" + der))))[0][0][1]
    except DistinguishedNameError:
        value = b""
    if isinstance(value, bytes):
        raise DistinguishedNameError(f'"#{der.hex()}" is the DER of no string: write the whole name as "dn:0x…"')
    return value


def text_of(der: bytes) -> str:
    """What `encode` reads, as far as there is a text for it."""
    return ", ".join("+".join(f"{_keyword(oid)}={_escaped(value)}" for oid, value in rdn) for rdn in _decoded(der))


def _keyword(oid: str) -> str:
    return _KEYWORD_OF.get(ObjectIdentifier(oid), oid)


def _escaped(value: Value) -> str:
    """What cannot be seen, as the hexadecimal of its UTF-8 (RFC 4514 §2.4)."""
    if isinstance(value, bytes):
        return "#" + value.hex()
    if value == _PATTERN:
        return r"\2a"
    last = len(value) - 1

    def unit(at: int, character: str) -> str:
        if character in _SPECIAL or (at == 0 and character in "# ") or (at == last and character == " "):
            return "\\" + character
        return character if shown(character) == character else "".join(f"\\{octet:02x}" for octet in character.encode())

    return "".join(unit(at, character) for at, character in enumerate(value))
