"""ESP by the `cryptography` package alone: what a SecurityAssociation is compared with."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from ipsec_dp.ipsec.suites import Encr, Integ

if TYPE_CHECKING:
    from ipsec_dp.ipsec.suites import Suite

HASHES: dict[Integ, type[hashes.HashAlgorithm]] = {
    Integ.HMAC_SHA1_96: hashes.SHA1,
    Integ.HMAC_SHA2_256_128: hashes.SHA256,
    Integ.HMAC_SHA2_384_192: hashes.SHA384,
    Integ.HMAC_SHA2_512_256: hashes.SHA512,
}
AEADS: dict[Encr, type[AESGCM | ChaCha20Poly1305]] = {
    Encr.AES_GCM_16: AESGCM,
    Encr.CHACHA20_POLY1305: ChaCha20Poly1305,
}
SUITES = [
    *("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"),
    *(f"aes{bits}-{hash_}" for bits in (128, 192, 256) for hash_ in ("sha1", "sha256", "sha384", "sha512")),
]
SUITES += [f"{suite}-esn" for suite in SUITES]


class LonePeer:
    """The same SA, made of nothing of ours. Plaintext is with padding and trailer."""

    def __init__(self, suite: Suite, keymat: bytes, spi: int) -> None:
        self.suite, self.spi = suite, spi
        key, rest = keymat[: suite.key_octets], keymat[suite.key_octets :]
        self.salt, self.integ_key, self.key = rest[: suite.salt_octets], rest[suite.salt_octets :], key
        self.aead = AEADS.get(suite.encr)

    def _aad(self, sequence: int) -> bytes:
        """RFC 4106 §5."""
        return struct.pack("!IQ" if self.suite.esn else "!II", self.spi, sequence)

    def _icv(self, packet: bytes, sequence: int) -> bytes:
        """RFC 4303 §2.8, and §2.2.1 of the high half."""
        mac = hmac.HMAC(self.integ_key, HASHES[self.suite.integ]())
        mac.update(packet + (struct.pack("!I", sequence >> 32) if self.suite.esn else b""))
        return mac.finalize()[: self.suite.icv_octets]

    def seal(self, plain: bytes, sequence: int) -> bytes:
        header = struct.pack("!II", self.spi, sequence & 0xFFFFFFFF)
        iv = os.urandom(self.suite.iv_octets)
        if self.aead is not None:
            return header + iv + self.aead(self.key).encrypt(self.salt + iv, plain, self._aad(sequence))
        encryptor = Cipher(AES(self.key), CBC(iv)).encryptor()
        packet = header + iv + encryptor.update(plain) + encryptor.finalize()
        return packet + self._icv(packet, sequence)

    def open(self, packet: bytes, sequence: int) -> bytes:
        """Raises InvalidTag, AssertionError."""
        assert packet[:8] == struct.pack("!II", self.spi, sequence & 0xFFFFFFFF)
        iv, rest = packet[8 : 8 + self.suite.iv_octets], packet[8 + self.suite.iv_octets :]
        if self.aead is not None:
            return self.aead(self.key).decrypt(self.salt + iv, rest, self._aad(sequence))
        assert packet[-self.suite.icv_octets :] == self._icv(packet[: -self.suite.icv_octets], sequence)
        decryptor = Cipher(AES(self.key), CBC(iv)).decryptor()
        return decryptor.update(rest[: -self.suite.icv_octets]) + decryptor.finalize()


def trailer_off(plain: bytes) -> tuple[bytes, int]:
    """What was sealed, and its next header; the padding is 1, 2, 3, … (RFC 4303 §2.4)."""
    length = plain[-2]
    assert plain[len(plain) - 2 - length : -2] == bytes(range(1, length + 1))
    return plain[: len(plain) - 2 - length], plain[-1]
