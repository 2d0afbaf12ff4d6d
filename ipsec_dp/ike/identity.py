"""Identities (RFC 7296 §3.5): from configuration text, from the wire, for people, and when two are the same."""

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Self

from ipsec_dp.ike import distinguished_names
from ipsec_dp.ike.distinguished_names import DistinguishedNameError, Rdn
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
FORMS: Final = 'write an address, an FQDN, an e-mail, a DN, or "fqdn:…", "email:…" or "keyid:…" with any text or 0x and hexadecimal'


class IdentityError(IkeError):
    """A text that is no identity, or octets that are none of their type: what is `wrong`, and what would be `right`."""

    def __init__(self, wrong: str, right: str = "") -> None:
        super().__init__(f"{wrong}: {right}" if right else wrong)
        self.wrong, self.right = wrong, right


_FQDN: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_ADDRESS: Final = re.compile(r"[0-9.]+|.*:.*", re.DOTALL)  # what may be one: most texts are names, and an error takes its time
_EMAIL: Final = re.compile(r"[!-)+-<>?A-~]+@[A-Za-z0-9_.-]+")
_OTHER: Final = re.compile(r"type ([0-9]{1,3}):0x([0-9A-Fa-f]*)")
_HEX: Final = "0x"
_PREFIXES: Final = {  # the first of each type is what is printed; the others are strongSwan's
    "fqdn": IdType.FQDN,
    "dns": IdType.FQDN,
    "email": IdType.RFC822_ADDR,
    "rfc822": IdType.RFC822_ADDR,
    "userfqdn": IdType.RFC822_ADDR,
    "keyid": IdType.KEY_ID,
    "dn": IdType.DER_ASN1_DN,
    "asn1dn": IdType.DER_ASN1_DN,
}
_PRINTED: Final = {kind: name for name, kind in reversed(_PREFIXES.items())}
_ANYBODY: Final = frozenset({"any", "%any", "%any4", "%any6", "*", "%defaultroute", "%fromcert"})
_ELSEWHERE: Final = {"@#": "keyid:0x…", "@[": "keyid:…", "@@": "email:…", "@~": "dn:0x…"}  # what others mean by it
_CUT: Final = re.compile(r".*… \([0-9]+ octets\)", re.DOTALL)  # a long one as people are shown it
SHORT: Final = 64  # octets of an identity of which the texts of many are remembered, whoever sent it
_CONTROLS: Final = frozenset({*range(0x20), 0x7F})


@dataclass(frozen=True, slots=True)
class Identity:
    """An ID type and its octets, as both stand in IDi and IDr. Equality is that of octets; `matches` is that of meaning."""

    type: int
    data: bytes

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Configuration text: an address, an FQDN ("gw.example", "@gw"), an e-mail address, a DN (`distinguished_names.encode`),
        or, for any octets, a prefix of the type with text or 0x-hex ("fqdn:", "email:", "keyid:", "dn:"). IdentityError, which says
        what to write, when it is none of these.
        """
        if text.strip().lower() in _ANYBODY:
            right = f"{FORMS}; without local_id it is the address here, without remote_id the address in `remote`"
            raise IdentityError(f'"{text}" is nobody', right)
        if _CUT.fullmatch(text):
            raise IdentityError(f"{text!r} is a part of an identity", "write the whole")
        prefix, colon, rest = text.partition(":")
        kind = _PREFIXES.get(prefix.lower()) if colon else None
        if kind is not None:
            return cls._of_prefix(kind, rest)
        other = _OTHER.fullmatch(text)
        if other is not None:
            return cls.from_wire(int(other[1]), _hexadecimal(other[2]))
        if "=" in text:
            return cls._of_name(text)
        if _ADDRESS.fullmatch(text):
            with suppress(ValueError):
                address = ip_address(text)
                return cls(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)
        return cls._of_words(text)

    @classmethod
    def _of_prefix(cls, kind: IdType, rest: str) -> Self:
        if rest.startswith(_HEX):
            return cls.from_wire(kind, _hexadecimal(rest.removeprefix(_HEX)))
        if kind is IdType.DER_ASN1_DN:
            return cls._of_name(rest)
        try:
            return cls.from_wire(kind, rest.encode())
        except UnicodeEncodeError:
            raise IdentityError(f"{rest!r} is no text", FORMS) from None

    @classmethod
    def _of_name(cls, text: str) -> Self:
        try:
            return cls(IdType.DER_ASN1_DN, distinguished_names.encode(text))
        except DistinguishedNameError as error:
            raise IdentityError(str(error), FORMS) from None

    @classmethod
    def _of_words(cls, text: str) -> Self:
        elsewhere = _ELSEWHERE.get(text[:2])
        if elsewhere is not None:
            raise IdentityError(f"{text!r} is no identity", f"write {elsewhere}")
        if text.startswith("@"):
            return cls._of_prefix(IdType.FQDN, text.removeprefix("@")) if len(text) > 1 else cls._none(text)
        for kind, form in ((IdType.FQDN, _FQDN), (IdType.RFC822_ADDR, _EMAIL)):
            if form.fullmatch(text):
                return cls.from_wire(kind, text.encode("ascii"))
        return cls._none(text)

    @classmethod
    def _none(cls, text: str) -> Self:
        pattern = "*" in text
        raise IdentityError(f"{text!r} is {'a pattern, which nobody fits' if pattern else 'no identity'}", FORMS)

    @classmethod
    def from_wire(cls, id_type: int, data: bytes) -> Self:
        """What a peer sent. IdentityError for octets that its type forbids; a type we do not know is kept and matches nothing."""
        if not 0 < len(data) <= LIMITS.identity_octets or len(data) != ID_OCTETS.get(id_type, len(data)):
            raise IdentityError(f"identity of type {id_type} with {len(data)} octets")
        if id_type in (IdType.FQDN, IdType.RFC822_ADDR) and not _CONTROLS.isdisjoint(data):
            name = "domain name" if id_type == IdType.FQDN else "e-mail address"
            raise IdentityError(f"identity is no {name}, it has controls (0x{data[:64].hex()})")
        if id_type == IdType.DER_ASN1_DN:
            try:
                canonical_name(data)
            except IdentityError as error:
                raise IdentityError(f"{error} (0x{data[:64].hex()})") from None
        return cls(id_type, data)

    def matches(self, other: "Identity") -> bool:
        """True when both name the same: octet by octet, DNs by attribute and value whatever their string types (RFC 5280 §7.1)."""
        return self.meaning() == other.meaning()

    def meaning(self) -> tuple[int, object]:
        """What `matches` compares: hashable, equal for two that name the same."""
        return self.type, canonical_name(self.data) if self.type == IdType.DER_ASN1_DN else self.data

    def certified(self) -> tuple[int, object]:
        """What is compared with the names in a certificate: domain names in any case, of an e-mail address the domain (RFC 5280
        §7.2, §7.5), DNs as ever."""
        if self.type == IdType.FQDN:
            return self.type, self.data.lower().rstrip(b".")
        if self.type == IdType.RFC822_ADDR:
            local, _, domain = self.data.rpartition(b"@")
            return self.type, (local, domain.lower())
        return self.meaning()

    def text(self) -> str:
        """One printable line that `from_text` reads as the same identity; for one that no peer may have, the octets."""
        return (_text_of if len(self.data) > SHORT else _short_text_of)(self.type, self.data)

    def __str__(self) -> str:
        """As `text`; what is long is cut, and then says how long it is."""
        text = self.text()
        if len(text) <= LIMITS.identity_shown:
            return text
        cut = f"… ({len(self.data)} octets)"
        return text[: LIMITS.identity_shown - len(cut)] + cut


@lru_cache(8192)  # those of thousands of tunnels, each time that they are looked at
def _short_text_of(id_type: int, data: bytes) -> str:
    return _text_of.__wrapped__(id_type, data)


@lru_cache(256)
def _text_of(id_type: int, data: bytes) -> str:
    """The plainest of its texts that reads back."""
    identity = Identity(id_type, data)
    return next((text for text in _plain_texts(id_type, data) if _reads_as(text, identity)), _octets(id_type, data))


def _plain_texts(id_type: int, data: bytes) -> tuple[str, ...]:
    if id_type in ID_OCTETS and len(data) == ID_OCTETS[id_type]:
        return (str(ip_address(data)),)
    try:
        if id_type == IdType.DER_ASN1_DN:
            return (distinguished_names.text_of(data),)
        text = data.decode()
    except (ValueError, DistinguishedNameError):
        return ()
    prefixed = f"{_PRINTED[IdType(id_type)]}:{text}" if id_type in _PRINTED else ""
    return (text, prefixed) if id_type in (IdType.FQDN, IdType.RFC822_ADDR) else (prefixed,)


def _reads_as(text: str, identity: Identity) -> bool:
    if shown(text, len(text)) != text:
        return False
    try:
        read = Identity.from_text(text)
        return read == identity or (read.type == IdType.DER_ASN1_DN and read.matches(identity))
    except IdentityError:
        return False


def _octets(id_type: int, data: bytes) -> str:
    prefix = _PRINTED[IdType(id_type)] if id_type in _PRINTED else f"type {id_type}"
    return f"{prefix}:0x{data.hex()}"


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise IdentityError(f'"0x{text}" is no hexadecimal', "write an even number of digits") from None


def canonical_name(der: bytes) -> tuple[Rdn, ...]:
    """A DN for comparing (RFC 5280 §7.1). IdentityError when `der` is no DER of a Name."""
    try:
        return distinguished_names.canonical(der)
    except DistinguishedNameError as error:
        raise IdentityError(str(error)) from None


def explain_mismatch(expected: Identity, received: Identity) -> str:
    """Both identities, and what differs; one line for an event."""
    kinds = [IdType(i.type).name if i.type in list(IdType) else f"type {i.type}" for i in (expected, received)]
    if kinds[0] != kinds[1]:
        differs = f"they differ in type ({kinds[0]} and {kinds[1]})"
    elif expected.certified() == received.certified():
        differs = "they differ in upper and lower case, or in a dot at the end, alone: write it as the peer does"
    else:
        differs = "they differ in value"
    return f"expected {expected}; the peer says it is {received}; {differs}"
