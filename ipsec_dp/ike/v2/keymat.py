"""Key material: prf, prf+, SKEYSEED, SK_*, KEYMAT (RFC 7296 §2.13 to §2.18), for any number of key exchanges (RFC 9370).

Keys are bytearrays, so that `wipe` can overwrite them; copies made inside `cryptography` are out of our reach.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ipsec_dp.ike.octets import Buffer
from ipsec_dp.ike.prf import prf
from ipsec_dp.ike.suites import EspSuite, IkeSuite
from ipsec_dp.ipsec.transforms import Encryption, Integrity, Prf

_MAX_BLOCKS: Final = 255  # of prf+ (RFC 7296 §2.13)


class Secrets:
    """Base of key holders: a `repr` without content, and `wipe`."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def wipe(self) -> None:
        """Overwrite every key with zeros; whoever still holds the object holds nothing."""
        for name in self.__slots__:
            key: bytearray = getattr(self, name)
            key[:] = bytes(len(key))


@dataclass(slots=True, repr=False, eq=False)
class IkeKeys(Secrets):
    """The keys of an IKE SA (RFC 7296 §2.14). SK_ai and SK_ar are empty with an AEAD; SK_ei and SK_er then end in the salt."""

    sk_d: bytearray
    sk_ai: bytearray
    sk_ar: bytearray
    sk_ei: bytearray
    sk_er: bytearray
    sk_pi: bytearray
    sk_pr: bytearray


@dataclass(slots=True, repr=False, eq=False)
class ChildKeys(Secrets):
    """The keys of a CHILD_SA by direction (RFC 7296 §2.17); an AEAD's key ends in its salt and its integrity key is empty."""

    encr_i: bytearray
    integ_i: bytearray
    encr_r: bytearray
    integ_r: bytearray


def prf_plus(algorithm: Prf, key: Buffer, seed: Buffer, octets: int) -> bytearray:
    """prf+(key, seed) cut to `octets`; ValueError beyond the 255 blocks that RFC 7296 §2.13 defines."""
    if not 0 <= octets <= _MAX_BLOCKS * algorithm.octets:
        raise ValueError(f"prf+ gives no {octets} octets")
    stream = bytearray()
    block = b""
    while len(stream) < octets:
        block = prf(algorithm, key, block, seed, bytes([len(stream) // algorithm.octets + 1]))
        stream += block
    del stream[octets:]
    return stream


def mixed(algorithm: Prf, ppk: Buffer, sk: Buffer) -> bytearray:
    """prf+(PPK, SK), as long as SK: of SK_d, SK_pi, SK_pr (RFC 8784 §3), or SKEYSEED' of SK_d (RFC 9867 §3.1.2)."""
    return prf_plus(algorithm, ppk, sk, len(sk))


def skeyseed(algorithm: Prf, nonce_i: bytes, nonce_r: bytes, shared_secret: Buffer) -> bytearray:
    """SKEYSEED = prf(Ni | Nr, g^ir) of IKE_SA_INIT (RFC 7296 §2.14)."""
    return bytearray(prf(algorithm, nonce_i + nonce_r, shared_secret))


def next_skeyseed(algorithm: Prf, sk_d: Buffer, nonce_i: bytes, nonce_r: bytes, shared_secrets: Sequence[Buffer]) -> bytearray:
    """SKEYSEED = prf(SK_d, SK(0) | Ni | Nr | SK(1) | …), SK_d and `algorithm` being those of the SA so far.

    With one secret it is that of an IKE SA rekeyed (RFC 7296 §2.18) and that after one further exchange in IKE_INTERMEDIATE
    (RFC 9370 §2.2.2); with several, that of a rekeying with additional key exchanges (RFC 9370 §2.2.4).
    """
    return bytearray(prf(algorithm, sk_d, shared_secrets[0], nonce_i, nonce_r, *shared_secrets[1:]))


def ike_keys(suite: IkeSuite, seed: Buffer, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """{SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr) (RFC 7296 §2.14)."""
    length = suite.prf.octets
    integ, encr = _integrity_octets(suite.integrity), _encryption_octets(suite.encryption)
    sizes = (length, integ, integ, encr, encr, length, length)
    return IkeKeys(*_cut(prf_plus(suite.prf, seed, nonce_i + nonce_r + spi_i + spi_r, sum(sizes)), sizes))


def child_keys(
    algorithm: Prf, sk_d: Buffer, suite: EspSuite, nonce_i: bytes, nonce_r: bytes, shared_secrets: Sequence[Buffer] = ()
) -> ChildKeys:
    """KEYMAT = prf+(SK_d, [SK(0)] | Ni | Nr | [SK(1) | …]), initiator's keys first (RFC 7296 §2.17, RFC 9370 §2.2.4).

    `algorithm` and `sk_d` are the IKE SA's; `shared_secrets` is empty without PFS.
    """
    seed = b"".join([*shared_secrets[:1], nonce_i, nonce_r, *shared_secrets[1:]])
    encr, integ = _encryption_octets(suite.encryption), _integrity_octets(suite.integrity)
    sizes = (encr, integ, encr, integ)
    return ChildKeys(*_cut(prf_plus(algorithm, sk_d, seed, sum(sizes)), sizes))


def _encryption_octets(encryption: Encryption) -> int:
    return encryption.key + encryption.salt


def _integrity_octets(integrity: Integrity | None) -> int:
    return 0 if integrity is None else integrity.key


def _cut(stream: bytearray, sizes: Iterable[int]) -> list[bytearray]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    stream[:] = bytes(len(stream))
    return pieces
