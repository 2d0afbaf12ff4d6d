"""ESP of one direction of a CHILD_SA with every field in the caller's hand (RFC 4303 §2): what a right sender never does too.

Slow, and for crafting alone: one packet at a time, no window, no counter. With ESN the high half of the sequence number is 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.prf import HASHES
from ipsec_dp.ipsec.suites import ESP_ALIGN, ESP_HEADER, ESP_TRAILER, Encr

if TYPE_CHECKING:
    from ipsec_dp.ike.octets import Buffer
    from ipsec_dp.ike.suites import EspSuite

IPV4_INSIDE: Final = 4  # next header of a tunnel mode packet
IPV6_INSIDE: Final = 41
DUMMY: Final = 59  # "no next header": a dummy packet (RFC 4303 §2.6)
_HIGH: Final = bytes(4)


class EspError(ValueError):
    """A packet that does not open; its text says why."""


@dataclass(frozen=True, slots=True)
class OpenedEsp:
    """What was in a packet. `padding` is without Pad Length; `payload` with TFC padding, when there is any."""

    sequence: int
    iv: bytes
    payload: bytes
    padding: bytes
    next_header: int


class EspDirection:
    """Seals or opens what goes one way: `spi` of 4 octets, keys as `ike.v2.keymat.child_keys` gives them (salt behind the key)."""

    def __init__(self, suite: EspSuite, spi: bytes, encryption_key: Buffer, integrity_key: Buffer) -> None:
        encryption = suite.encryption
        self.spi = spi
        self._suite = suite
        self._key, self._salt = bytes(encryption_key[: encryption.key]), bytes(encryption_key[encryption.key :])
        self._integrity_key = bytes(integrity_key)
        self._made = int.from_bytes(os.urandom(4), "big") << 32  # IVs of an AEAD only have to differ

    def __repr__(self) -> str:
        return f"<ESP {self.spi.hex()}>"

    def seal(self, inner: bytes, sequence: int, *, next_header: int | None = None, padding: bytes | None = None) -> bytes:
        """The ESP packet around `inner`. `padding`: as it is to be, else the shortest, 1, 2, 3 and so on (RFC 4303 §2.4)."""
        if next_header is None:
            next_header = IPV6_INSIDE if inner[:1] and inner[0] >> 4 == 6 else IPV4_INSIDE
        if padding is None:
            padding = monotonic(self.shortest_padding(len(inner)))
        header = self.spi + sequence.to_bytes(4, "big")
        return header + self._seal(header, inner + padding + bytes([len(padding), next_header]))

    def shortest_padding(self, octets: int) -> int:
        """Octets of padding that a payload of so many octets needs."""
        return -(octets + ESP_TRAILER) % max(self._suite.encryption.block, ESP_ALIGN)

    def open(self, packet: bytes) -> OpenedEsp:
        """What is in it. EspError: another SPI, too short, an ICV that does not hold, or more padding than there is."""
        if packet[:4] != self.spi:
            raise EspError("its SPI is another")
        octets = self._suite.encryption.iv
        iv, plain = packet[ESP_HEADER : ESP_HEADER + octets], self._open(packet)
        if len(plain) < ESP_TRAILER or plain[-2] > len(plain) - ESP_TRAILER:
            raise EspError("its padding is longer than the packet")
        end = len(plain) - ESP_TRAILER - plain[-2]
        return OpenedEsp(int.from_bytes(packet[4:8], "big"), iv, plain[:end], plain[end:-ESP_TRAILER], plain[-1])

    def _aead(self) -> AESGCM | ChaCha20Poly1305:
        return ChaCha20Poly1305(self._key) if self._suite.encryption.id == Encr.CHACHA20_POLY1305 else AESGCM(self._key)

    def _associated(self, header: bytes) -> bytes:
        """With ESN the high half stands between SPI and the low half (RFC 4106 §5)."""
        return header[:4] + _HIGH + header[4:8] if self._suite.esn else header

    def _icv(self, covered: bytes) -> bytes:
        integrity = self._suite.integrity
        if integrity is None:
            raise EspError("a suite without integrity")
        mac = hmac.HMAC(self._integrity_key, HASHES[integrity.hash])
        mac.update(covered + (_HIGH if self._suite.esn else b""))
        return mac.finalize()[: integrity.icv]

    def _seal(self, header: bytes, plain: bytes) -> bytes:
        encryption = self._suite.encryption
        if encryption.is_aead:
            self._made += 1
            iv = self._made.to_bytes(encryption.iv, "big")
            return iv + self._aead().encrypt(self._salt + iv, plain, self._associated(header))
        iv = os.urandom(encryption.iv)
        encryptor = Cipher(algorithms.AES(self._key), modes.CBC(iv)).encryptor()
        sealed = iv + encryptor.update(plain) + encryptor.finalize()
        return sealed + self._icv(header + sealed)

    def _open(self, packet: bytes) -> bytes:
        encryption, header, rest = self._suite.encryption, packet[:ESP_HEADER], packet[ESP_HEADER:]
        iv, sealed = rest[: encryption.iv], rest[encryption.iv :]
        if encryption.is_aead:
            try:
                return self._aead().decrypt(self._salt + iv, sealed, self._associated(header))
            except (InvalidTag, ValueError):
                raise EspError("its ICV does not hold") from None
        octets = 0 if self._suite.integrity is None else self._suite.integrity.icv
        covered, icv = sealed[:-octets], sealed[-octets:]
        if not covered or len(covered) % encryption.block or not bytes_eq(self._icv(header + iv + covered), icv):
            raise EspError("its ICV does not hold")
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(iv)).decryptor()
        return decryptor.update(covered) + decryptor.finalize()


def monotonic(octets: int) -> bytes:
    """Padding as a sender makes it: 1, 2, 3 and so on (RFC 4303 §2.4)."""
    return bytes(range(1, octets + 1))
