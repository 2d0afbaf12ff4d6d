"""ESP cipher suites: strongSwan's keywords, IANA's transform numbers, and the octets each suite adds to a packet.

Sources: RFC 4303 (ESP), RFC 4106 (AES-GCM), RFC 7634 (ChaCha20-Poly1305), RFC 3602 (AES-CBC), RFC 4868 (HMAC-SHA2),
RFC 2404 (HMAC-SHA1-96); numbers: IANA "Internet Key Exchange Version 2 (IKEv2) Parameters", transform types 1 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from ipsec_dp.errors import BadValueError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Encr(IntEnum):
    """Transform type 1."""

    AES_CBC = 12
    AES_GCM_16 = 20
    CHACHA20_POLY1305 = 28


class Integ(IntEnum):
    """Transform type 3."""

    NONE = 0
    HMAC_SHA1_96 = 2
    HMAC_SHA2_256_128 = 12
    HMAC_SHA2_384_192 = 13
    HMAC_SHA2_512_256 = 14


@dataclass(frozen=True, slots=True)
class CipherShape:
    """Octets that an encryption transform asks for, whatever its key's length."""

    aead: bool
    salt: int  # from KEYMAT behind the key
    iv: int  # explicit, in each packet
    block: int  # what the ciphertext's length is a multiple of
    icv: int  # 0: the integrity transform makes it


@dataclass(frozen=True, slots=True)
class IntegShape:
    key: int
    icv: int


CIPHERS: dict[Encr, CipherShape] = {
    Encr.AES_CBC: CipherShape(aead=False, salt=0, iv=16, block=16, icv=0),
    Encr.AES_GCM_16: CipherShape(aead=True, salt=4, iv=8, block=1, icv=16),
    Encr.CHACHA20_POLY1305: CipherShape(aead=True, salt=4, iv=8, block=1, icv=16),
}

INTEGRITY: dict[Integ, IntegShape] = {
    Integ.NONE: IntegShape(key=0, icv=0),
    Integ.HMAC_SHA1_96: IntegShape(key=20, icv=12),
    Integ.HMAC_SHA2_256_128: IntegShape(key=32, icv=16),
    Integ.HMAC_SHA2_384_192: IntegShape(key=48, icv=24),
    Integ.HMAC_SHA2_512_256: IntegShape(key=64, icv=32),
}

ENCR_KEYWORDS: dict[str, tuple[Encr, int]] = {
    "aes128gcm16": (Encr.AES_GCM_16, 16),
    "aes192gcm16": (Encr.AES_GCM_16, 24),
    "aes256gcm16": (Encr.AES_GCM_16, 32),
    "chacha20poly1305": (Encr.CHACHA20_POLY1305, 32),
    "aes128": (Encr.AES_CBC, 16),
    "aes192": (Encr.AES_CBC, 24),
    "aes256": (Encr.AES_CBC, 32),
}

INTEG_KEYWORDS: dict[str, Integ] = {
    "sha256": Integ.HMAC_SHA2_256_128,
    "sha384": Integ.HMAC_SHA2_384_192,
    "sha512": Integ.HMAC_SHA2_512_256,
    "sha1": Integ.HMAC_SHA1_96,
}

ESN_KEYWORDS: dict[str, bool] = {"esn": True, "noesn": False}

ESP_HEADER = 8  # SPI and sequence number, RFC 4303 §2
ESP_TRAILER = 2  # pad length and next header
ESP_ALIGN = 4  # of the trailer's end where the cipher asks for less, RFC 4303 §2.4
UDP_HEADER = 8
IP_HEADER: dict[int, int] = {4: 20, 6: 40}

Encapsulated = Literal["udp", "esp"]


@dataclass(frozen=True, slots=True)
class Suite:
    """One ESP suite: encryption with its key's octets (without salt), integrity (NONE with an AEAD), sequence numbers."""

    encr: Encr
    key_octets: int
    integ: Integ
    esn: bool

    @property
    def aead(self) -> bool:
        return CIPHERS[self.encr].aead

    @property
    def salt_octets(self) -> int:
        return CIPHERS[self.encr].salt

    @property
    def iv_octets(self) -> int:
        return CIPHERS[self.encr].iv

    @property
    def block_octets(self) -> int:
        return CIPHERS[self.encr].block

    @property
    def icv_octets(self) -> int:
        return CIPHERS[self.encr].icv + INTEGRITY[self.integ].icv

    @property
    def integ_key_octets(self) -> int:
        return INTEGRITY[self.integ].key

    @property
    def keymat_octets(self) -> int:
        """Encryption key, salt, integrity key, in this order (RFC 7296 §2.17, RFC 4106 §8.1)."""
        return self.key_octets + self.salt_octets + self.integ_key_octets

    @property
    def keyword(self) -> str:
        """strongSwan's keyword without the sequence numbers' word, as `status` shows it."""
        encr = next(word for word, value in ENCR_KEYWORDS.items() if value == (self.encr, self.key_octets))
        if self.integ is Integ.NONE:
            return encr
        return f"{encr}-{next(word for word, value in INTEG_KEYWORDS.items() if value is self.integ)}"

    def __str__(self) -> str:
        return f"{self.keyword}-esn" if self.esn else self.keyword


def split_keywords(text: str, kinds: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Sorts a proposal's words by kind, at most one of each. Raises BadValueError, naming the words there are."""
    chosen: dict[str, str] = {}
    for word in text.split("-"):
        kind = next((kind for kind, words in kinds.items() if word in words), None)
        if kind is None:
            known = ", ".join(known for words in kinds.values() for known in words)
            raise BadValueError(f'unknown keyword "{word}" in "{text}"', f"known ones: {known}")
        if kind in chosen:
            raise BadValueError(
                f'"{text}" names two of one kind ({kind}): {chosen[kind]} and {word}', "write one proposal for each"
            )
        chosen[kind] = word
    return chosen


def suite_of_keywords(text: str, chosen: Mapping[str, str]) -> Suite:
    """The suite that sorted keywords of `text` make. Raises BadValueError where encryption or integrity is missing or too much."""
    if "encryption" not in chosen:
        raise BadValueError(f'"{text}" names no encryption', f"begin with one of {', '.join(ENCR_KEYWORDS)}")
    encr, key_octets = ENCR_KEYWORDS[chosen["encryption"]]
    integ = INTEG_KEYWORDS[chosen["integrity"]] if "integrity" in chosen else Integ.NONE
    if CIPHERS[encr].aead and integ is not Integ.NONE:
        raise BadValueError(f'"{text}" adds integrity to an AEAD', f'write "{chosen["encryption"]}" alone (RFC 4106 §8)')
    if not CIPHERS[encr].aead and integ is Integ.NONE:
        raise BadValueError(f'"{text}" encrypts without integrity', f'write e.g. "{chosen["encryption"]}-sha256"')
    return Suite(encr, key_octets, integ, ESN_KEYWORDS[chosen.get("sequence numbers", "noesn")])


def parse_suite(text: str) -> Suite:
    """The suite that keywords such as "aes256gcm16-esn" or "aes128-sha256" name. Raises BadValueError."""
    kinds: dict[str, Collection[str]] = {"encryption": ENCR_KEYWORDS, "integrity": INTEG_KEYWORDS, "sequence numbers": ESN_KEYWORDS}
    return suite_of_keywords(text, split_keywords(text, kinds))


def esp_overhead(suite: Suite, encapsulation: Encapsulated, outer_version: int) -> int:
    """Octets that tunnel mode adds to every inner packet: outer IP, UDP, ESP header, IV, trailer, ICV; padding is not in it."""
    udp = UDP_HEADER if encapsulation == "udp" else 0
    return IP_HEADER[outer_version] + udp + ESP_HEADER + suite.iv_octets + ESP_TRAILER + suite.icv_octets


def datagram_octets(inner: int, suite: Suite, encapsulation: Encapsulated, outer_version: int) -> int:
    """Octets of the outer IP packet that carries an inner packet of `inner` octets, padding included (RFC 4303 §2.4)."""
    align = max(ESP_ALIGN, suite.block_octets)
    padding = -(inner + ESP_TRAILER) % align
    return inner + padding + esp_overhead(suite, encapsulation, outer_version)


def inner_mtu(outer_mtu: int, suite: Suite, encapsulation: Encapsulated, outer_version: int) -> int:
    """The largest inner packet, in octets, whose sealed outer packet fits `outer_mtu`. Raises ValueError when none fits."""
    align = max(ESP_ALIGN, suite.block_octets)
    around = esp_overhead(suite, encapsulation, outer_version) - ESP_TRAILER
    inner = (outer_mtu - around) // align * align - ESP_TRAILER
    if inner <= 0:
        raise ValueError(f"an outer MTU of {outer_mtu} octets leaves no room for a packet")
    return inner
