"""Key material of IKEv1: SKEYID*, the key of phase 1, IVs, HASH_I to HASH(3), KEYMAT (RFC 2409 §5, §5.5, appendix B).

Keys are bytearrays, so that `wipe` can overwrite them; copies made inside `cryptography` are out of our reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.prf import HASHES, prf

if TYPE_CHECKING:
    from ipsec_dp.ike.octets import Buffer
    from ipsec_dp.ike.suites import EspSuite, IkeSuite
    from ipsec_dp.ipsec.transforms import Prf

BLOCK: Final = 16  # octets of AES


@dataclass(slots=True, eq=False)
class Skeyids:
    """SKEYID and what follows from it (RFC 2409 §5), and the key of phase 1's cipher (appendix B)."""

    skeyid: bytearray
    d: bytearray
    a: bytearray
    e: bytearray
    cipher: bytearray

    def __repr__(self) -> str:
        return "<Skeyids>"

    def wipe(self) -> None:
        """Overwrite every key with zeros."""
        for key in (self.skeyid, self.d, self.a, self.e, self.cipher):
            key[:] = bytes(len(key))


def skeyid_of_secret(algorithm: Prf, secret: Buffer, nonces: tuple[bytes, bytes]) -> bytearray:
    """SKEYID = prf(pre-shared key, Ni_b | Nr_b)."""
    return bytearray(prf(algorithm, secret, *nonces))


def skeyid_of_signatures(algorithm: Prf, shared: Buffer, nonces: tuple[bytes, bytes]) -> bytearray:
    """SKEYID = prf(Ni_b | Nr_b, g^xy)."""
    return bytearray(prf(algorithm, b"".join(nonces), shared))


def skeyids(suite: IkeSuite, skeyid: bytearray, shared: Buffer, cookies: bytes) -> Skeyids:
    """SKEYID_d, _a, _e and the cipher's key; `cookies`: CKY-I | CKY-R."""
    d = prf(suite.prf, skeyid, shared, cookies, b"\0")
    a = prf(suite.prf, skeyid, d, shared, cookies, b"\1")
    e = prf(suite.prf, skeyid, a, shared, cookies, b"\2")
    return Skeyids(skeyid, bytearray(d), bytearray(a), bytearray(e), _cipher_key(suite, e))


def _cipher_key(suite: IkeSuite, skeyid_e: bytes) -> bytearray:
    """SKEYID_e, or where that is too short K1 | K2 | …, K1 = prf(SKEYID_e, 0), K2 = prf(SKEYID_e, K1) (appendix B)."""
    wanted = suite.encryption.key
    if len(skeyid_e) >= wanted:
        return bytearray(skeyid_e[:wanted])
    stream, block = bytearray(), b"\0"
    while len(stream) < wanted:
        block = prf(suite.prf, skeyid_e, block)
        stream += block
    return stream[:wanted]


def side_hash(algorithm: Prf, skeyid: Buffer, publics: tuple[bytes, bytes], cookies: tuple[bytes, bytes], *bodies: bytes) -> bytes:
    """HASH_I or HASH_R: public values and cookies of whose hash it is first, then SAi_b and the ID's body (RFC 2409 §5)."""
    return prf(algorithm, skeyid, *publics, *cookies, *bodies)


def phase2_hash(algorithm: Prf, skeyid_a: Buffer, *covered: bytes) -> bytes:
    """HASH(1), HASH(2), HASH(3) and that of an informational exchange (RFC 2409 §5.5, §5.7)."""
    return prf(algorithm, skeyid_a, *covered)


def _digest(algorithm: Prf, *parts: Buffer) -> bytes:
    digest = hashes.Hash(HASHES[algorithm.hash])
    for part in parts:
        digest.update(part)
    return digest.finalize()


def first_iv(algorithm: Prf, public_i: bytes, public_r: bytes) -> bytes:
    """Of phase 1: H(g^xi | g^xr), cut to a block (appendix B)."""
    return _digest(algorithm, public_i, public_r)[:BLOCK]


def exchange_iv(algorithm: Prf, last_block: bytes, message_id: int) -> bytes:
    """Of an exchange under phase 1: H(last block of phase 1 | M-ID), cut to a block."""
    return _digest(algorithm, last_block, message_id.to_bytes(4, "big"))[:BLOCK]


def encrypt(key: Buffer, iv: bytes, plaintext: bytes) -> bytes:
    """AES-CBC over `plaintext`, with zeros up to a whole block; its last block is the IV of the next message."""
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plaintext + bytes(-len(plaintext) % BLOCK)) + encryptor.finalize()


def decrypt(key: Buffer, iv: bytes, ciphertext: bytes) -> bytes:
    """The octets with their padding. IkeSyntaxError where they are no whole blocks. They prove nothing: a hash does."""
    if not ciphertext or len(ciphertext) % BLOCK:
        raise IkeSyntaxError(f"{len(ciphertext)} encrypted octets")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def sa_keymat(
    algorithm: Prf, skeyid_d: Buffer, suite: EspSuite, spi: bytes, nonces: tuple[bytes, bytes], shared: Buffer = b""
) -> bytearray:
    """KEYMAT of the SA that `spi` names, which is its receiver's: encryption key, salt, integrity key.

    K1 = prf(SKEYID_d, [g^xy |] protocol | SPI | Ni_b | Nr_b), K2 = prf(SKEYID_d, K1 | the same), … (RFC 2409 §5.5)
    """
    wanted = suite.encryption.key + suite.encryption.salt + (0 if suite.integrity is None else suite.integrity.key)
    stream, block = bytearray(), b""
    while len(stream) < wanted:
        block = prf(algorithm, skeyid_d, block, shared, b"\3", spi, *nonces)
        stream += block
    stream[wanted:] = b""
    return stream
