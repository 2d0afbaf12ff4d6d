"""ML-KEM (FIPS 203) through `cryptography`: the initiator's KE is an encapsulation key, the responder's a ciphertext.

Lengths are checked by `dh`. A ciphertext that was altered gives another secret, and no error: it shows in the next ICV. The random
octets of an encapsulation are the library's own, which takes none from us.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mlkem

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ipsec.transforms import Group

_SEED: Final = 64  # octets (FIPS 203 §7.1)
_Private = type[mlkem.MLKEM768PrivateKey] | type[mlkem.MLKEM1024PrivateKey]
_Public = type[mlkem.MLKEM768PublicKey] | type[mlkem.MLKEM1024PublicKey]
_PRIVATE: Final[dict[int, _Private]] = {36: mlkem.MLKEM768PrivateKey, 37: mlkem.MLKEM1024PrivateKey}
_PUBLIC: Final[dict[int, _Public]] = {36: mlkem.MLKEM768PublicKey, 37: mlkem.MLKEM1024PublicKey}


def lack(method: Group) -> str | None:
    """Why `method` cannot be computed on this host; None: it can."""
    return _lack(method.id) if method.ciphertext else None


@cache
def _lack(number: int) -> str | None:
    try:
        _PRIVATE[number].from_seed_bytes(bytes(_SEED))
    except UnsupportedAlgorithm:
        return "this build of cryptography has no ML-KEM, its OpenSSL being older than 3.5; its wheels have it"
    return None


class Decapsulation:
    """The initiator's half."""

    def __init__(self, method: Group, rng: Rng) -> None:
        self._key = _PRIVATE[method.id].from_seed_bytes(rng(_SEED))

    def public(self) -> bytes:
        """The encapsulation key."""
        return self._key.public_key().public_bytes_raw()

    def exchange(self, peer_public: bytes) -> bytes:
        """The secret in a ciphertext, or another one where it was altered."""
        return self._key.decapsulate(peer_public)

    def octets(self) -> bytes:
        """The seed."""
        return self._key.private_bytes_raw()


def encapsulate(method: Group, key: bytes) -> tuple[bytes, bytes]:
    """Ciphertext and secret for an encapsulation key. ValueError for one whose coefficients are out of range."""
    secret, ciphertext = _PUBLIC[method.id].from_public_bytes(key).encapsulate()
    return ciphertext, secret
