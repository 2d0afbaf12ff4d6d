"""Keys and signatures of OpenPGP (RFC 4880), no more than an archive's signature needs: RSA, version 4, SHA-256."""

from __future__ import annotations

import base64
import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

MADE = 1_700_000_000
BINARY, CERTIFICATION = 0x00, 0x13  # what a signature is of (§5.2.1)
SIGNATURE, PUBLIC_KEY, USER_ID = 2, 6, 13  # tags of packets (§4.3)
RSA, SHA_256 = 1, 8


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def _mpi(number: int) -> bytes:
    return struct.pack(">H", number.bit_length()) + number.to_bytes((number.bit_length() + 7) // 8, "big")


class Signer:
    """A key and its user."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        numbers = self._key.public_key().public_numbers()
        self._public = struct.pack(">BIB", 4, MADE, RSA) + _mpi(numbers.n) + _mpi(numbers.e)
        self._hashed_key = b"\x99" + struct.pack(">H", len(self._public)) + self._public
        self._id = hashlib.sha1(self._hashed_key, usedforsecurity=False).digest()[-8:]

    @property
    def keyring(self) -> bytes:
        """What gpgv takes as a keyring."""
        user = b"An Archive <archive@example.org>"
        certified = self._hashed_key + b"\xb4" + struct.pack(">I", len(user)) + user
        return _packet(PUBLIC_KEY, self._public) + _packet(USER_ID, user) + self._signature(CERTIFICATION, certified)

    def sign(self, data: bytes) -> bytes:
        """A detached signature, in ASCII armour, as apt wants it."""
        text = base64.encodebytes(self._signature(BINARY, data))
        return b"-----BEGIN PGP SIGNATURE-----\n\n" + text + b"-----END PGP SIGNATURE-----\n"

    def _signature(self, kind: int, data: bytes) -> bytes:
        created, issuer = b"\x05\x02" + struct.pack(">I", MADE), b"\x09\x10" + self._id
        head = bytes([4, kind, RSA, SHA_256]) + struct.pack(">H", len(created)) + created
        digest = hashlib.sha256(data + head + b"\x04\xff" + struct.pack(">I", len(head))).digest()
        signed = self._key.sign(digest, padding.PKCS1v15(), Prehashed(SHA256()))
        body = head + struct.pack(">H", len(issuer)) + issuer + digest[:2] + _mpi(int.from_bytes(signed, "big"))
        return _packet(SIGNATURE, body)
