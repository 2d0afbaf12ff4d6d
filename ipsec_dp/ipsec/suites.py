"""ESP cipher suites: which algorithms together, and the octets they add to a packet.

The algorithms themselves (numbers, keywords, sizes) are the tables of `ipsec.transforms`; here they are put together after RFC 4303
(ESP), RFC 4106 (AES-GCM), RFC 7634 (ChaCha20-Poly1305) and RFC 3602 (AES-CBC).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.transforms import ENCRYPTIONS, INTEGRITIES, Encryption, Integrity, by_keyword


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


_CIPHERS: dict[tuple[int, int], Encryption] = {(row.id, row.key): row for row in ENCRYPTIONS}
_INTEGRITIES: dict[int, Integrity] = {row.id: row for row in INTEGRITIES}

ESN_KEYWORDS = {"esn": True, "noesn": False}
SUITE_KEYWORDS = (*(row.keyword for row in ENCRYPTIONS), *(row.keyword for row in INTEGRITIES), *ESN_KEYWORDS)

ESP_HEADER = 8  # SPI and sequence number, RFC 4303 §2
ESP_TRAILER = 2  # pad length and next header
ESP_ALIGN = 4  # of the trailer's end where the cipher asks for less, RFC 4303 §2.4
UDP_HEADER = 8
IP_HEADER: dict[int, int] = {4: 20, 6: 40}

Encapsulated = Literal["udp", "esp"]


@dataclass(frozen=True, slots=True)
class Suite:
    """One ESP suite: encryption with its key's octets (without salt), integrity (NONE with an AEAD), sequence numbers.

    Raises KeyError in its properties when no such algorithm exists; `parse_suite` makes none of those.
    """

    encr: Encr
    key_octets: int
    integ: Integ
    esn: bool

    @property
    def _cipher(self) -> Encryption:
        return _CIPHERS[self.encr, self.key_octets]

    @property
    def _integrity(self) -> Integrity | None:
        return None if self.integ is Integ.NONE else _INTEGRITIES[self.integ]

    @property
    def aead(self) -> bool:
        return self._cipher.is_aead

    @property
    def salt_octets(self) -> int:
        return self._cipher.salt

    @property
    def iv_octets(self) -> int:
        return self._cipher.iv

    @property
    def block_octets(self) -> int:
        return self._cipher.block

    @property
    def icv_octets(self) -> int:
        return self._cipher.icv if self._integrity is None else self._integrity.icv

    @property
    def integ_key_octets(self) -> int:
        return 0 if self._integrity is None else self._integrity.key

    @property
    def keymat_octets(self) -> int:
        """Encryption key, salt, integrity key, in this order (RFC 7296 §2.17, RFC 4106 §8.1)."""
        return self.key_octets + self.salt_octets + self.integ_key_octets

    @property
    def keyword(self) -> str:
        """strongSwan's keyword without the sequence numbers' word, as `status` shows it."""
        return self._cipher.keyword if self._integrity is None else f"{self._cipher.keyword}-{self._integrity.keyword}"

    def __str__(self) -> str:
        return f"{self.keyword}-esn" if self.esn else self.keyword


def parse_suite(text: str) -> Suite:
    """The one suite that keywords such as "aes256gcm16-esn" or "aes128-sha256" name. Raises BadValueError."""
    ciphers: list[Encryption] = []
    integrities: list[Integrity] = []
    sequence_numbers: list[bool] = []
    for word in text.split("-"):
        algorithm = by_keyword(word)
        if isinstance(algorithm, Encryption):
            ciphers.append(algorithm)
        elif isinstance(algorithm, Integrity):
            integrities.append(algorithm)
        elif word in ESN_KEYWORDS:
            sequence_numbers.append(ESN_KEYWORDS[word])
        else:
            raise BadValueError(f'unknown keyword "{word}" in suite "{text}"', f"known ones: {', '.join(SUITE_KEYWORDS)}")
    if len(ciphers) != 1 or len(integrities) > 1 or len(sequence_numbers) > 1:
        raise BadValueError(f'"{text}" is not one suite', 'write one encryption and what it needs, e.g. "aes128gcm16-esn"')
    (cipher,) = ciphers
    if cipher.is_aead and integrities:
        raise BadValueError(f'"{text}" adds integrity to an AEAD', f'write "{cipher.keyword}" alone (RFC 4106 §8)')
    if not cipher.is_aead and not integrities:
        raise BadValueError(f'"{text}" encrypts without integrity', f'write e.g. "{cipher.keyword}-sha256"')
    integ = Integ(integrities[0].id) if integrities else Integ.NONE
    return Suite(Encr(cipher.id), cipher.key, integ, any(sequence_numbers))


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
