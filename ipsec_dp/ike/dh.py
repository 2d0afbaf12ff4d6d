"""Key exchange: MODP (RFC 3526), ECP (RFC 5903) and Curve25519 (RFC 8031) behind two functions, through `cryptography`.

`initiate` and `respond` are shaped so that a key encapsulation, whose responder's value depends on the initiator's, fits beside
these groups: `kem`, for additional key exchanges (RFC 9370). Public values are checked as RFC 6989 wants; a secret never shows in a
`repr`.
"""

import warnings
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from cryptography.hazmat.primitives.asymmetric import dh, ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.utils import CryptographyDeprecationWarning

from ipsec_dp.ike import kem
from ipsec_dp.ike.environment import Rng
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.modp import GENERATOR, PRIMES
from ipsec_dp.ike.octets import Buffer
from ipsec_dp.ipsec.transforms import Group

# Groups 14 to 16 are what older peers have; the version of `cryptography` is bounded until they are gone from the field.
warnings.filterwarnings("ignore", message="Diffie-Hellman over finite fields", category=CryptographyDeprecationWarning)

_MODP_EXPONENT: Final = 64  # octets: twice the strength of the largest group and more (RFC 3526 §8)
_X25519: Final = 31
_CURVES: Final[dict[int, ec.EllipticCurve]] = {19: ec.SECP256R1(), 20: ec.SECP384R1(), 21: ec.SECP521R1()}
_UNCOMPRESSED: Final = b"\x04"
_SPARE: Final = 8  # octets drawn beyond a curve's order, so that reducing them leaves no bias


class KeyExchangeError(IkeError):
    """A peer's public value that must not be used (RFC 6989, RFC 7748 §6.1)."""


class _Private(Protocol):
    def public(self) -> bytes: ...

    def exchange(self, peer_public: bytes) -> bytes: ...

    def octets(self) -> bytes:
        """Of which the same one is made again."""


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """Our half of an exchange in `group`; `public` goes into KE."""

    group: Group
    public: bytes
    _private: _Private = field(repr=False, compare=False)

    def shared_secret(self, peer_public: bytes) -> bytearray:
        """g^ir in the octets RFC 7296 §2.14 wants. KeyExchangeError when the peer's value fails its checks."""
        _check_octets(self.group, peer_public, self.group.ciphertext or self.group.public)
        return _shared_secret(self.group, self._private, peer_public)

    def private_octets(self) -> bytearray:
        """What `again` makes the same half of; whoever has them has the secret of the exchange."""
        return bytearray(self._private.octets())


def _check_octets(group: Group, peer_public: bytes, wanted: int) -> None:
    if len(peer_public) != wanted:
        raise KeyExchangeError(f"public value of {len(peer_public)} octets for {group.keyword}, {wanted} wanted")


def _shared_secret(group: Group, private: _Private, peer_public: bytes) -> bytearray:
    try:
        return bytearray(private.exchange(peer_public))
    except ValueError:
        raise KeyExchangeError(f"public value unfit for {group.keyword}") from None


def _private(group: Group, rng: Rng) -> _Private:
    if group.ciphertext:
        return kem.Decapsulation(group, rng)
    if group.id == _X25519:
        return Curve25519(rng)
    return Ecp.drawn(_CURVES[group.id], rng) if group.id in _CURVES else Modp.drawn(PRIMES[group.id], group.public, rng)


def again(group: Group, octets: Buffer) -> KeyExchange:
    """The half of which `KeyExchange.private_octets` said so. ValueError for octets that are none of this group's."""
    private: _Private
    if group.ciphertext:
        private = kem.Decapsulation(group, lambda _: bytes(octets))
    elif group.id == _X25519:
        private = Curve25519(lambda _: bytes(octets))
    elif group.id in _CURVES:
        private = Ecp(_CURVES[group.id], int.from_bytes(octets, "big"))
    else:
        private = Modp(PRIMES[group.id], group.public, int.from_bytes(octets, "big"))
    return KeyExchange(group, private.public(), private)


def initiate(group: Group, rng: Rng) -> KeyExchange:
    """A fresh half of an exchange in `group`; 32..74 octets are drawn from `rng`. The initiator's, where it makes a difference."""
    private = _private(group, rng)
    return KeyExchange(group, private.public(), private)


def respond(group: Group, peer_public: bytes, rng: Rng) -> tuple[bytes, bytearray]:
    """The responder's public value and the shared secret. KeyExchangeError as for `shared_secret`, before our own is computed."""
    _check_octets(group, peer_public, group.public)
    if group.ciphertext:
        try:
            ciphertext, secret_of_key = kem.encapsulate(group, peer_public)
        except ValueError:
            raise KeyExchangeError(f"public value unfit for {group.keyword}") from None
        return ciphertext, bytearray(secret_of_key)
    private = _private(group, rng)
    secret = _shared_secret(group, private, peer_public)
    return private.public(), secret


class Curve25519:
    def __init__(self, rng: Rng) -> None:
        self._key = X25519PrivateKey.from_private_bytes(rng(32))

    def public(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def exchange(self, peer_public: bytes) -> bytes:
        return self._key.exchange(X25519PublicKey.from_public_bytes(peer_public))  # refuses an all-zero result

    def octets(self) -> bytes:
        return self._key.private_bytes_raw()


class Ecp:
    """Public values are x | y without the octet that says "uncompressed" (RFC 5903 §7), the secret is x alone (§7)."""

    def __init__(self, curve: ec.EllipticCurve, private: int) -> None:
        self._curve = curve
        self._key = ec.derive_private_key(private, curve)

    @classmethod
    def drawn(cls, curve: ec.EllipticCurve, rng: Rng) -> Self:
        drawn = int.from_bytes(rng((curve.key_size + 7) // 8 + _SPARE), "big")
        return cls(curve, drawn % (curve.group_order - 1) + 1)

    def public(self) -> bytes:
        numbers = self._key.public_key().public_numbers()
        size = (self._curve.key_size + 7) // 8
        return numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")

    def exchange(self, peer_public: bytes) -> bytes:
        peer = ec.EllipticCurvePublicKey.from_encoded_point(
            self._curve, _UNCOMPRESSED + peer_public
        )  # refuses a point off the curve
        return self._key.exchange(ec.ECDH(), peer)

    def octets(self) -> bytes:
        return self._key.private_numbers().private_value.to_bytes((self._curve.key_size + 7) // 8, "big")


class Modp:
    """The secret is as long as the prime, zeros in front (RFC 7296 §2.14)."""

    def __init__(self, prime: int, octets: int, exponent: int) -> None:
        self._octets = octets
        self._prime = prime
        self._parameters = dh.DHParameterNumbers(prime, GENERATOR)
        placeholder = dh.DHPublicNumbers(GENERATOR, self._parameters)  # `exchange` uses the exponent alone
        self._key = dh.DHPrivateNumbers(exponent, placeholder).private_key()

    @classmethod
    def drawn(cls, prime: int, octets: int, rng: Rng) -> Self:
        return cls(prime, octets, int.from_bytes(rng(_MODP_EXPONENT), "big") | 1 << (8 * _MODP_EXPONENT - 1))

    def octets(self) -> bytes:
        return self._key.private_numbers().x.to_bytes(_MODP_EXPONENT, "big")

    def public(self) -> bytes:
        """g^x, as an exchange with the generator: so OpenSSL computes it in constant time, which `pow` does not."""
        return self._raise(GENERATOR)

    def exchange(self, peer_public: bytes) -> bytes:
        value = int.from_bytes(peer_public, "big")
        if not 1 < value < self._prime - 1:
            raise KeyExchangeError("public value outside 2..p-2 (RFC 6989 §2.1)")
        return self._raise(value)

    def _raise(self, value: int) -> bytes:
        return self._key.exchange(dh.DHPublicNumbers(value, self._parameters).public_key()).rjust(self._octets, b"\0")
