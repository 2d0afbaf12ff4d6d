"""The Encrypted payload: sealing and opening (RFC 7296 §3.14, AEADs by RFC 5282 and RFC 7634).

A `Protection` serves one direction of one IKE SA. An ICV is checked before anything inside is looked at.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.environment import Rng
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Buffer, Reader, Writer
from ipsec_dp.ike.payload import build_chain
from ipsec_dp.ike.prf import HASHES
from ipsec_dp.ike.suites import IkeSuite
from ipsec_dp.ike.v2.errors import IntegrityError
from ipsec_dp.ike.v2.keymat import IkeKeys
from ipsec_dp.ike.v2.message import Header, Message, build_header, parse_chain
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment, Payload
from ipsec_dp.ike.v2.sk_iv import SkIvs
from ipsec_dp.ike.v2.wire import IKE_HEADER, PAYLOAD_HEADER
from ipsec_dp.ipsec.transforms import Encryption, Integrity

_CHACHA20: Final = 28


class Protection(Protocol):
    """One direction's cipher. `data` in and out is IV | ciphertext | ICV, `associated` everything in front of it."""

    overhead: int
    """Octets of IV and ICV."""
    block: int
    """Plaintext with its Pad Length octet is a multiple of this."""
    ivs: SkIvs
    """Those that `seal` takes, where they count; and whether it may seal at all."""

    def seal(self, associated: bytes, plaintext: bytes, rng: Rng) -> bytes:
        """IV | ciphertext | ICV over padded `plaintext`."""

    def open(self, associated: Buffer, data: Buffer) -> bytes:
        """The padded plaintext; IntegrityError when the ICV does not hold."""


class _Aead:
    """Nonce: salt | IV. The IV counts, so it never repeats under a key (RFC 5282 §3); at its end the SA is used up."""

    def __init__(self, encryption: Encryption, key: Buffer) -> None:
        self.overhead = encryption.iv + encryption.icv
        self.block = encryption.block
        self._iv_octets = encryption.iv
        self._salt = bytes(key[encryption.key :])
        secret = key[: encryption.key]
        self._cipher = ChaCha20Poly1305(secret) if encryption.id == _CHACHA20 else AESGCM(secret)
        self.ivs = SkIvs()

    def seal(self, associated: bytes, plaintext: bytes, rng: Rng) -> bytes:  # noqa: ARG002 - a counter needs no randomness
        iv = self.ivs.take().to_bytes(self._iv_octets, "big")
        return iv + self._cipher.encrypt(self._salt + iv, plaintext, associated)

    def open(self, associated: Buffer, data: Buffer) -> bytes:
        if len(data) < self.overhead:
            raise IntegrityError("protected payload too short")
        iv, rest = data[: self._iv_octets], data[self._iv_octets :]
        try:
            return self._cipher.decrypt(self._salt + bytes(iv), rest, associated)
        except InvalidTag:
            raise IntegrityError("ICV of a protected message does not hold") from None


class _CbcHmac:
    """AES-CBC with an unpredictable IV, then HMAC over all of the message (RFC 7296 §3.14)."""

    def __init__(self, encryption: Encryption, integrity: Integrity, key: Buffer, integrity_key: Buffer) -> None:
        self.ivs = SkIvs()
        self.overhead = encryption.iv + integrity.icv
        self.block = encryption.block
        self._iv_octets = encryption.iv
        self._icv_octets = integrity.icv
        self._aes = algorithms.AES(bytes(key))  # a copy: `key` may be wiped while repeats are still checked
        self._mac = hmac.HMAC(integrity_key, HASHES[integrity.hash])

    def _icv(self, associated: Buffer, covered: Buffer) -> bytes:
        mac = self._mac.copy()
        mac.update(associated)
        mac.update(covered)
        return mac.finalize()[: self._icv_octets]

    def seal(self, associated: bytes, plaintext: bytes, rng: Rng) -> bytes:
        self.ivs.check()
        iv = rng(self._iv_octets)
        encryptor = Cipher(self._aes, modes.CBC(iv)).encryptor()
        covered = iv + encryptor.update(plaintext) + encryptor.finalize()
        return covered + self._icv(associated, covered)

    def open(self, associated: Buffer, data: Buffer) -> bytes:
        covered, icv = data[: -self._icv_octets], data[-self._icv_octets :]
        if len(data) < self.overhead + self.block or len(covered) % self.block:
            raise IntegrityError("protected payload is no whole number of blocks")
        if not bytes_eq(self._icv(associated, covered), bytes(icv)):
            raise IntegrityError("ICV of a protected message does not hold")
        decryptor = Cipher(self._aes, modes.CBC(bytes(covered[: self._iv_octets]))).decryptor()
        return decryptor.update(covered[self._iv_octets :]) + decryptor.finalize()


def protections(suite: IkeSuite, keys: IkeKeys) -> tuple[Protection, Protection]:
    """(initiator's, responder's) direction of an IKE SA: each side seals with its own and opens with the other."""
    return protection(suite, keys.sk_ei, keys.sk_ai), protection(suite, keys.sk_er, keys.sk_ar)


def protection(suite: IkeSuite, key: Buffer, integrity_key: Buffer) -> Protection:
    """One direction, by its SK_e and SK_a."""
    if suite.integrity is None:
        return _Aead(suite.encryption, key)
    return _CbcHmac(suite.encryption, suite.integrity, key, integrity_key)


# --- whole messages --------------------------------------------------------------------------------------------------


def seal_message(protection: Protection, header: Header, payloads: Iterable[Payload], rng: Rng) -> bytes:
    """A datagram whose one payload is SK around `payloads`."""
    writer = Writer()
    first = build_chain(writer, payloads)
    return seal_payload(protection, header, Encrypted(first, b""), writer.take(), rng)


def seal_payload(protection: Protection, header: Header, shell: Encrypted | EncryptedFragment, plaintext: bytes, rng: Rng) -> bytes:
    """A datagram whose one payload is `shell` with `plaintext` sealed into it; `shell.data` must be empty."""
    padding = -(len(plaintext) + 1) % protection.block
    padded = plaintext + bytes(padding) + bytes([padding])
    fields = Writer()
    shell.build(fields)
    sealed_octets = protection.overhead + len(padded)
    payload_octets = PAYLOAD_HEADER + len(fields) + sealed_octets
    front = Writer()
    front.octets(build_header(header, shell.type, IKE_HEADER + payload_octets))
    front.u8(shell.first_inner)
    front.u8(0)
    front.u16(payload_octets)
    front.octets(fields.take())
    associated = front.take()
    return associated + protection.seal(associated, padded, rng)


def open_payload(protection: Protection, datagram: Buffer, sealed: Encrypted | EncryptedFragment) -> bytes:
    """The plaintext of the protected payload that ends `datagram`, padding removed. IntegrityError when the ICV fails."""
    associated = memoryview(datagram)[: len(datagram) - len(sealed.data)]
    padded = protection.open(associated, sealed.data)
    content = len(padded) - 1 - (padded[-1] if padded else 0)
    if content < 0:
        raise IkeSyntaxError("padding longer than what it pads")
    return padded[:content]


def open_message(protection: Protection, datagram: Buffer, message: Message) -> Message:
    """`message`, parsed from `datagram` and ending in SK, with the payloads inside in place of all that came.

    IntegrityError: anybody may have sent it. IkeSyntaxError after that check: the peer did, and gets an answer. Payloads in front
    of SK are dropped; no exchange has any (RFC 7296 §3.14).
    """
    sealed = message.get(Encrypted)
    if sealed is None:
        raise IkeSyntaxError("message without an Encrypted payload")
    return opened(message, sealed.first_inner, open_payload(protection, datagram, sealed))


def opened(message: Message, first: int, plaintext: Buffer) -> Message:
    """`message` with what was inside its protected payload, or inside all fragments of one together."""
    unknown: list[int] = []
    return message.with_payloads(parse_inner(first, plaintext, unknown), unknown, (first, bytes(plaintext)))


def parse_inner(first: int, plaintext: Buffer, unknown: list[int] | None = None) -> tuple[Payload, ...]:
    """The chain inside a protected payload, or inside all fragments of one together. `unknown` gets types that are passed over."""
    return parse_chain(first, Reader(plaintext), inside=True, unknown=unknown)
