"""The AUTH payload: what is signed, shared keys, and digital signatures (RFC 7296 §2.15, RFC 4754, RFC 7427, RFC 8420).

Signatures are only ever verified by `cryptography`, against one exact scheme at a time; RSA decryption is used nowhere.
"""

import os
import stat
from base64 import b64decode
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.certificate_rules import MIN_RSA_BITS
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.octets import Buffer
from ipsec_dp.ike.prf import HASHES, prf
from ipsec_dp.ipsec.transforms import Prf
from ipsec_dp.util.opening import Ahead, open_to_read

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

STRONG_PSK: Final = 16  # octets; below it guessing the key from a recorded handshake is a real danger (RFC 7296 §2.15)
_MAX_SECRET_FILE: Final = 65_536  # octets
_KEY_PAD: Final = b"Key Pad for IKEv2"


class AuthMethod(IntEnum):
    """Authentication methods (RFC 7296 §3.8, RFC 4754 §4, RFC 7427 §3)."""

    RSA = 1
    SHARED_KEY = 2
    ECDSA_P256 = 9
    ECDSA_P384 = 10
    ECDSA_P521 = 11
    DIGITAL_SIGNATURE = 14


class HashAlgorithm(IntEnum):
    """Values of SIGNATURE_HASH_ALGORITHMS (RFC 7427 §7, RFC 8420 §2)."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5


class AuthenticationError(IkeError):
    """A peer that did not prove who it is, or a proof we cannot give; the text names candidates, never secrets."""


class SecretError(IkeError):
    """A secret that cannot be used: missing, unreadable, open to everybody, or malformed."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What an AUTH payload says: by which method, and the octets that prove it."""

    method: int
    data: bytes = field(repr=False)


def signed_octets(
    algorithm: Prf, message: Buffer, peer_nonce: Buffer, sk_p: Buffer, id_body: Buffer, int_auth: bytes = b""
) -> bytes:
    """What a side's AUTH covers: its first message | the other's nonce | prf(SK_p, its ID payload's body) (RFC 7296 §2.15).

    `message` is the IKE_SA_INIT message as sent, without non-ESP marker; `sk_p` is SK_pi for the initiator's side, else SK_pr.
    `int_auth`: of the IKE_INTERMEDIATE exchanges, where there were any (RFC 9242 §3.3.2).
    """
    return bytes(message) + bytes(peer_nonce) + prf(algorithm, sk_p, id_body) + int_auth


# --- shared keys -----------------------------------------------------------------------------------------------------


class PreSharedKey:
    """A shared secret. Neither `repr` nor any error shows it."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if not key:
            raise SecretError("the shared key is empty")
        self._key = bytearray(key)

    @classmethod
    def from_text(cls, text: str) -> "PreSharedKey":
        """ "0x" and hexadecimal digits, "0s" and base64, or any other text as UTF-8; white space around it is no part of it."""
        stripped = text.strip()
        try:
            if stripped.startswith("0x"):
                return cls(bytes.fromhex(stripped[2:]))
            if stripped.startswith("0s"):
                return cls(b64decode(stripped[2:] + "=" * (-len(stripped[2:]) % 4), validate=True))
        except ValueError:
            kind = "hexadecimal" if stripped.startswith("0x") else "base64"
            raise SecretError(f"the shared key starts with {stripped[:2]} but is not {kind}") from None
        return cls(stripped.encode())

    @classmethod
    def from_octets(cls, octets: Buffer) -> "PreSharedKey":
        """The key that a file of this content holds, as `from_text`. SecretError for what is no text."""
        try:
            text = bytes(octets).decode()
        except UnicodeDecodeError:
            raise SecretError("not UTF-8 text; write binary keys as 0x and hexadecimal digits") from None
        if text.startswith("\ufeff"):
            raise SecretError("begins with a byte order mark, which no peer has in its key; save it as UTF-8 without one")
        return cls.from_text(text)

    @classmethod
    def from_file(cls, path: str | Path) -> "PreSharedKey":
        """The key a file holds, as `from_octets`. SecretError when it is missing or not kept from others."""
        content = read_secret_file(path)
        try:
            return cls.from_octets(content)
        except SecretError as error:
            raise SecretError(f"{path}: {error}") from None

    def __repr__(self) -> str:
        return "<PreSharedKey>"

    def is_same(self, other: "PreSharedKey") -> bool:
        return bytes_eq(bytes(self._key), bytes(other._key))

    def __len__(self) -> int:
        """Octets."""
        return len(self._key)

    @property
    def warning(self) -> str | None:
        """A sentence for people when the key is short enough to be guessed."""
        if len(self._key) >= STRONG_PSK:
            return None
        return f"the shared key has {len(self._key)} octets; fewer than {STRONG_PSK} can be guessed from a recorded handshake"

    def octets(self) -> bytes:
        """The key itself, of which SKEYID is made (RFC 2409 §5.4)."""
        return bytes(self._key)

    def sign(self, algorithm: Prf, octets: Buffer) -> Proof:
        """AUTH = prf(prf(key, "Key Pad for IKEv2"), octets) (RFC 7296 §2.15)."""
        return Proof(AuthMethod.SHARED_KEY, prf(algorithm, prf(algorithm, self._key, _KEY_PAD), octets))

    def verify(self, algorithm: Prf, octets: Buffer, received: Proof) -> None:
        """AuthenticationError unless `received` is what `sign` gives; compared in constant time."""
        if received.method != AuthMethod.SHARED_KEY:
            raise AuthenticationError(f"the peer authenticates by {method_text(received.method)}, a shared key is configured")
        if not bytes_eq(self.sign(algorithm, octets).data, received.data):
            raise AuthenticationError(
                "the peer's AUTH does not fit: the shared keys differ (compare psk_file on both sides, octet by octet), "
                "or the peer is not who it says"
            )

    def same_as(self, other: "PreSharedKey") -> bool:
        """Compared in constant time."""
        return bytes_eq(bytes(self._key), bytes(other._key))

    def wipe(self) -> None:
        """Overwrite the key."""
        self._key[:] = bytes(len(self._key))


def read_secret_file(path: str | Path, ahead: Ahead | None = None) -> bytes:
    """Content of a regular file of at most 64 KiB which others can neither read nor write; else SecretError with the reason.
    `ahead` as of `open_to_read`."""
    try:
        descriptor, guarded = open_to_read(path, 0, ahead)
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror}") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"{path}: not a regular file")
        if not guarded and status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
            raise SecretError(f"{path}: open to every user; chmod 0600 it")
        content = file.read(_MAX_SECRET_FILE + 1)
    if len(content) > _MAX_SECRET_FILE:
        raise SecretError(f"{path}: longer than {_MAX_SECRET_FILE} octets")
    return content


def doubts(content: Buffer) -> list[tuple[str, str]]:
    """What of a shared key's notation may be meant otherwise, and what to do then. `content`: what `from_octets` takes."""
    text = bytes(content).decode().strip()
    found = []
    if text.startswith("0s"):
        found.append(
            (
                "begins with 0s, so what follows is base64, as strongSwan and Libreswan write it (it was text in former versions)",
                "if the text itself is the key, write its octets as 0x and hexadecimal digits",
            )
        )
    if text[:2] in ("0X", "0S"):
        found.append((f"begins with {text[:2]}, and is taken as text", f"write {text[:2].lower()} if it is a notation"))
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        found.append(("stands in quotes, which are a part of the key here", "take them out, unless the peer has them too"))
    if "\n" in text or "\r" in text:
        found.append(("holds several lines, and line ends are a part of the key", "write the key on one line"))
    return found


# --- digital signatures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to sign: key type, padding, hash, and the DER of its AlgorithmIdentifier, which must match octet for octet."""

    name: str
    key: type[PublicKey]
    hash: HashAlgorithm
    identifiers: tuple[bytes, ...]
    pss: bool = False


_HASH_NAMES: Final = {
    HashAlgorithm.SHA1: "sha1",
    HashAlgorithm.SHA2_256: "sha256",
    HashAlgorithm.SHA2_384: "sha384",
    HashAlgorithm.SHA2_512: "sha512",
}


def _pss_identifiers(oid_end: str, salt: str) -> tuple[bytes, ...]:
    """RSASSA-PSS with MGF1 of the same hash and a salt of its length; the hash's NULL present or absent (RFC 4055 §2.1)."""
    with_null, without = f"300d06096086480165030402{oid_end}0500", f"300b06096086480165030402{oid_end}"
    return (
        bytes.fromhex(f"304106092a864886f70d01010a3034a00f{with_null}a11c301a06092a864886f70d010108{with_null}a2030201{salt}"),
        bytes.fromhex(f"303d06092a864886f70d01010a3030a00d{without}a11a301806092a864886f70d010108{without}a2030201{salt}"),
    )


# RFC 7427 appendix A and RFC 8420 §A; in order of preference for each key type. SHA-1 is not among them (RFC 8247 §4).
SCHEMES: Final = (
    Scheme("RSA-PSS-SHA256", rsa.RSAPublicKey, HashAlgorithm.SHA2_256, _pss_identifiers("01", "20"), pss=True),
    Scheme("RSA-PSS-SHA384", rsa.RSAPublicKey, HashAlgorithm.SHA2_384, _pss_identifiers("02", "30"), pss=True),
    Scheme("RSA-PSS-SHA512", rsa.RSAPublicKey, HashAlgorithm.SHA2_512, _pss_identifiers("03", "40"), pss=True),
    Scheme("RSA-SHA256", rsa.RSAPublicKey, HashAlgorithm.SHA2_256, (bytes.fromhex("300d06092a864886f70d01010b0500"),)),
    Scheme("RSA-SHA384", rsa.RSAPublicKey, HashAlgorithm.SHA2_384, (bytes.fromhex("300d06092a864886f70d01010c0500"),)),
    Scheme("RSA-SHA512", rsa.RSAPublicKey, HashAlgorithm.SHA2_512, (bytes.fromhex("300d06092a864886f70d01010d0500"),)),
    Scheme("ECDSA-SHA256", ec.EllipticCurvePublicKey, HashAlgorithm.SHA2_256, (bytes.fromhex("300a06082a8648ce3d040302"),)),
    Scheme("ECDSA-SHA384", ec.EllipticCurvePublicKey, HashAlgorithm.SHA2_384, (bytes.fromhex("300a06082a8648ce3d040303"),)),
    Scheme("ECDSA-SHA512", ec.EllipticCurvePublicKey, HashAlgorithm.SHA2_512, (bytes.fromhex("300a06082a8648ce3d040304"),)),
    Scheme("Ed25519", ed25519.Ed25519PublicKey, HashAlgorithm.IDENTITY, (bytes.fromhex("300506032b6570"),)),
    Scheme("Ed448", ed448.Ed448PublicKey, HashAlgorithm.IDENTITY, (bytes.fromhex("300506032b6571"),)),
)
_BY_IDENTIFIER: Final = {identifier: scheme for scheme in SCHEMES for identifier in scheme.identifiers}
OUR_HASHES: Final = tuple(sorted({scheme.hash for scheme in SCHEMES}))
"""What our SIGNATURE_HASH_ALGORITHMS names; a signature with any other hash is refused."""

# RFC 4754: curve, hash and method belong together; r and s as numbers of fixed length side by side.
_ECDSA_METHODS: Final = {
    AuthMethod.ECDSA_P256: ("secp256r1", HashAlgorithm.SHA2_256, 32),
    AuthMethod.ECDSA_P384: ("secp384r1", HashAlgorithm.SHA2_384, 48),
    AuthMethod.ECDSA_P521: ("secp521r1", HashAlgorithm.SHA2_512, 66),
}
_METHOD_OF_CURVE: Final = {curve: method for method, (curve, _, _) in _ECDSA_METHODS.items()}
_METHOD_TEXTS: Final = {AuthMethod.SHARED_KEY: "a shared key", AuthMethod.DIGITAL_SIGNATURE: "a digital signature (RFC 7427)"}


def method_text(method: int) -> str:
    """An authentication method in words."""
    return _METHOD_TEXTS.get(AuthMethod(method), AuthMethod(method).name) if method in list(AuthMethod) else f"method {method}"


def hash_algorithms_data() -> bytes:
    """The data of our SIGNATURE_HASH_ALGORITHMS notify (RFC 7427 §4)."""
    return b"".join(value.to_bytes(2, "big") for value in OUR_HASHES)


def parse_hash_algorithms(data: bytes) -> frozenset[int]:
    """The hashes a peer names; octets that make no pair are dropped."""
    return frozenset(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))


def sign(key: PrivateKey, octets: Buffer, peer_hashes: frozenset[int] | None, *, pss: bool = True, sha1: bool = False) -> Proof:
    """AUTH over `octets`. `peer_hashes` is None when the peer knows no RFC 7427: then the classic method of the key's type.

    `pss` false prefers PKCS#1 v1.5 for an RSA key; `sha1` true makes method 1 with SHA-1, the only hash some older peers verify,
    instead of SHA-256. AuthenticationError when there is nothing both sides can do.
    """
    if peer_hashes is None:
        return _sign_classic(key, bytes(octets), HashAlgorithm.SHA1 if sha1 else HashAlgorithm.SHA2_256)
    public = key.public_key()
    usable = [scheme for scheme in SCHEMES if isinstance(public, scheme.key) and scheme.hash in peer_hashes]
    if not usable:
        raise AuthenticationError("the peer names no hash algorithm that our key can sign with")
    scheme = min(usable, key=lambda scheme: (scheme.pss != pss, _distance(public, scheme)))
    identifier = scheme.identifiers[0]
    signature = _raw_sign(key, bytes(octets), scheme.hash, pss=scheme.pss)
    return Proof(AuthMethod.DIGITAL_SIGNATURE, bytes([len(identifier)]) + identifier + signature)


def _distance(public: PublicKey, scheme: Scheme) -> int:
    """0 for the hash that fits an ECDSA key's curve."""
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return 0
    method = _METHOD_OF_CURVE.get(public.curve.name)
    return 1 if method is None else abs(_ECDSA_METHODS[method][1] - scheme.hash)


def _sign_classic(key: PrivateKey, octets: bytes, rsa_hash: HashAlgorithm) -> Proof:
    if isinstance(key, rsa.RSAPrivateKey):
        return Proof(AuthMethod.RSA, _raw_sign(key, octets, rsa_hash, pss=False))
    method = _METHOD_OF_CURVE.get(key.curve.name) if isinstance(key, ec.EllipticCurvePrivateKey) else None
    if method is None:
        raise AuthenticationError("the peer knows no RFC 7427 signatures, and our key has no other method")
    _, hash_algorithm, size = _ECDSA_METHODS[method]
    r, s = decode_dss_signature(_raw_sign(key, octets, hash_algorithm, pss=False))
    return Proof(method, r.to_bytes(size, "big") + s.to_bytes(size, "big"))


def verify(key: PublicKey, octets: Buffer, received: Proof, *, sha1: bool = False) -> str:
    """The name of the scheme by which `received` proves possession of `key`'s private half; else AuthenticationError.

    `key` comes from a verified certificate. SHA-1 in the classic RSA method is only taken with `sha1`.
    """
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise AuthenticationError(f"the peer's RSA key has {key.key_size} bits, {MIN_RSA_BITS} are the least (RFC 8247)")
    if received.method == AuthMethod.DIGITAL_SIGNATURE:
        return _verify_rfc7427(key, bytes(octets), received.data)
    if received.method == AuthMethod.RSA and isinstance(key, rsa.RSAPublicKey):
        return _verify_classic_rsa(key, bytes(octets), received.data, sha1=sha1)
    if received.method in _ECDSA_METHODS and isinstance(key, ec.EllipticCurvePublicKey):
        return _verify_classic_ecdsa(key, bytes(octets), received)
    raise AuthenticationError(f"the peer authenticates by {method_text(received.method)}, which does not fit its certificate")


def _verify_rfc7427(key: PublicKey, octets: bytes, data: bytes) -> str:
    end = 1 + data[0]
    identifier, signature = data[1:end], data[end:]
    scheme = _BY_IDENTIFIER.get(identifier)
    if scheme is None or not isinstance(key, scheme.key):
        raise AuthenticationError(f"signature algorithm {identifier.hex() or '(none)'} is not admitted for the peer's key")
    _raw_verify(key, octets, signature, scheme.hash, pss=scheme.pss)
    return scheme.name


def _verify_classic_rsa(key: rsa.RSAPublicKey, octets: bytes, signature: bytes, *, sha1: bool) -> str:
    """RFC 7296 §3.8 leaves the hash to the sender; the encoded signature names it, and each is tried as a whole."""
    for hash_algorithm, name in _HASH_NAMES.items():
        if hash_algorithm == HashAlgorithm.SHA1 and not sha1:
            continue
        try:
            _raw_verify(key, octets, signature, hash_algorithm, pss=False)
        except AuthenticationError:
            continue
        return f"RSA-{name.upper()} (method 1)"
    raise AuthenticationError("the peer's RSA signature does not fit" + ("" if sha1 else ", or is made with SHA-1, which is off"))


def _verify_classic_ecdsa(key: ec.EllipticCurvePublicKey, octets: bytes, received: Proof) -> str:
    curve, hash_algorithm, size = _ECDSA_METHODS[AuthMethod(received.method)]
    if key.curve.name != curve or len(received.data) != 2 * size:
        raise AuthenticationError("the peer's ECDSA method does not fit its key")
    r, s = (int.from_bytes(part, "big") for part in (received.data[:size], received.data[size:]))
    _raw_verify(key, octets, encode_dss_signature(r, s), hash_algorithm, pss=False)
    return AuthMethod(received.method).name


def _rsa_padding(hash_algorithm: HashAlgorithm, *, pss: bool) -> padding.PSS | padding.PKCS1v15:
    digest = HASHES[_HASH_NAMES[hash_algorithm]]
    return padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else padding.PKCS1v15()


def _raw_sign(key: PrivateKey, octets: bytes, hash_algorithm: HashAlgorithm, *, pss: bool) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return key.sign(octets)
    digest = HASHES[_HASH_NAMES[hash_algorithm]]
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(octets, _rsa_padding(hash_algorithm, pss=pss), digest)
    return key.sign(octets, ec.ECDSA(digest))


def _raw_verify(key: PublicKey, octets: bytes, signature: bytes, hash_algorithm: HashAlgorithm, *, pss: bool) -> None:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, octets)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, octets, _rsa_padding(hash_algorithm, pss=pss), HASHES[_HASH_NAMES[hash_algorithm]])
        else:
            key.verify(signature, octets, ec.ECDSA(HASHES[_HASH_NAMES[hash_algorithm]]))
    except InvalidSignature:
        raise AuthenticationError("the peer's signature does not fit its certificate") from None
