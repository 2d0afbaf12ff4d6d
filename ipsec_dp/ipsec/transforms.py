"""The algorithms this project negotiates: IANA numbers, sizes, and strongSwan's keywords for them, as tables.

An algorithm that is not here cannot be configured, chosen, or agreed to; so no key length ever comes from a peer.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from ipsec_dp.ipsec import iana


class TransformType(IntEnum):
    """RFC 7296 §3.3.2, names as in RFC 9370 §2.2.1; ADDKE1..ADDKE7 are 6..12."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    KE = 4
    ESN = 5


ADDITIONAL_KEY_EXCHANGES: Final = range(6, 13)
NONE: Final = 0  # the ID of "no transform" for INTEG, KE and additional key exchanges


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm offered: type, IANA number, key length in bits where the algorithm has several.

    `unknown` holds attributes other than Key Length, as (type with its format bit, value): a transform that has any equals
    none of ours.
    """

    type: int
    id: int
    key_length: int | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Encryption:
    """A cipher of SK and ESP. Sizes in octets; `icv` is 0 unless it is an AEAD, then `salt` octets of key precede the IV."""

    keyword: str
    id: int
    key_length: int | None  # the Key Length attribute, bits; None where the RFC has none
    key: int
    salt: int
    iv: int
    block: int
    icv: int

    @property
    def is_aead(self) -> bool:
        """True when it brings its own integrity: INTEG is then absent or NONE (RFC 7296 §3.3, RFC 5282 §8)."""
        return self.icv > 0

    @property
    def transform(self) -> Transform:
        """Its form on the wire."""
        return Transform(TransformType.ENCR, self.id, self.key_length)


@dataclass(frozen=True, slots=True)
class Prf:
    """A pseudo-random function: HMAC with `hash`; preferred key length and output are both `octets` (RFC 4868 §2.1.2)."""

    keyword: str
    id: int
    hash: str
    octets: int

    @property
    def transform(self) -> Transform:
        """Its form on the wire."""
        return Transform(TransformType.PRF, self.id)


@dataclass(frozen=True, slots=True)
class Integrity:
    """HMAC with `hash`, a key of `key` octets, truncated to `icv` octets (RFC 4868; RFC 2404 for SHA-1)."""

    keyword: str
    id: int
    hash: str
    key: int
    icv: int

    @property
    def transform(self) -> Transform:
        """Its form on the wire."""
        return Transform(TransformType.INTEG, self.id)


@dataclass(frozen=True, slots=True)
class Group:
    """A key exchange method; `public` octets in KE. `legacy`: SHOULD NOT of RFC 8247 §2.4, only where asked for.

    `ciphertext`: octets in the responder's KE of a key encapsulation, whose initiator sends a key; 0: a group.
    """

    keyword: str
    id: int
    public: int
    legacy: bool = False
    ciphertext: int = 0

    @property
    def transform(self) -> Transform:
        """Its form on the wire."""
        return Transform(TransformType.KE, self.id)


@dataclass(frozen=True, slots=True)
class AdditionalKeyExchange:
    """One that follows the first, in IKE_INTERMEDIATE or IKE_FOLLOWUP_KE (RFC 9370): `number` 1..7. `method` None: it may be left
    out."""

    number: int
    method: Group | None

    @property
    def keyword(self) -> str:
        """As strongSwan writes it: "ke1_mlkem768", "ke1_none"."""
        return f"ke{self.number}_{'none' if self.method is None else self.method.keyword}"

    @property
    def transform(self) -> Transform:
        """Its form on the wire."""
        return Transform(ADDITIONAL_KEY_EXCHANGES[self.number - 1], NONE if self.method is None else self.method.id)


ENCRYPTIONS: Final = (
    #          keyword             id  bits  key salt iv block icv
    Encryption("aes128gcm16", 20, 128, 16, 4, 8, 1, 16),  # RFC 5282, RFC 4106
    Encryption("aes192gcm16", 20, 192, 24, 4, 8, 1, 16),
    Encryption("aes256gcm16", 20, 256, 32, 4, 8, 1, 16),
    Encryption("chacha20poly1305", 28, None, 32, 4, 8, 1, 16),  # RFC 7634
    Encryption("aes128", 12, 128, 16, 0, 16, 16, 0),  # RFC 3602
    Encryption("aes192", 12, 192, 24, 0, 16, 16, 0),
    Encryption("aes256", 12, 256, 32, 0, 16, 16, 0),
)
PRFS: Final = (
    Prf("prfsha256", 5, "sha256", 32),
    Prf("prfsha384", 6, "sha384", 48),
    Prf("prfsha512", 7, "sha512", 64),
    Prf("prfsha1", 2, "sha1", 20),
)
INTEGRITIES: Final = (
    Integrity("sha256", 12, "sha256", 32, 16),
    Integrity("sha384", 13, "sha384", 48, 24),
    Integrity("sha512", 14, "sha512", 64, 32),
    Integrity("sha1", 2, "sha1", 20, 12),
)
GROUPS: Final = (
    Group("modp1024", 2, 128, legacy=True),
    Group("modp1536", 5, 192, legacy=True),
    Group("modp2048", 14, 256),
    Group("modp3072", 15, 384),
    Group("modp4096", 16, 512),
    Group("ecp256", 19, 64),
    Group("ecp384", 20, 96),
    Group("ecp521", 21, 132),
    Group("x25519", 31, 32),
)
KEMS: Final = (  # FIPS 203: the first key exchange or an additional one
    Group("mlkem768", 36, 1184, ciphertext=1088),
    Group("mlkem1024", 37, 1568, ciphertext=1568),
)
ADDITIONS: Final = tuple(
    AdditionalKeyExchange(number, method)
    for number in range(1, len(ADDITIONAL_KEY_EXCHANGES) + 1)
    for method in (*KEMS, *GROUPS, None)
)
NO_ESN: Final = Transform(TransformType.ESN, 0)
ESN: Final = Transform(TransformType.ESN, 1)

Algorithm = Encryption | Prf | Integrity | Group | AdditionalKeyExchange
_ALL: Final[tuple[Algorithm, ...]] = (*ENCRYPTIONS, *PRFS, *INTEGRITIES, *GROUPS, *KEMS, *ADDITIONS)
_SYNONYMS: Final = {
    "aes128gcm128": "aes128gcm16",
    "aes192gcm128": "aes192gcm16",
    "aes256gcm128": "aes256gcm16",
    "sha": "sha1",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "curve25519": "x25519",
}
_BY_KEYWORD: Final = {algorithm.keyword: algorithm for algorithm in _ALL}
BY_TRANSFORM: Final = {algorithm.transform: algorithm for algorithm in _ALL}
PRF_OF_INTEGRITY: Final = {integrity: prf for integrity in INTEGRITIES for prf in PRFS if prf.hash == integrity.hash}
GROUP_OF_ID: Final = {group.id: group for group in (*GROUPS, *KEMS)}


def by_keyword(keyword: str) -> Algorithm | None:
    """The algorithm a keyword names ("aes256gcm16", "modp2048"), in any case; None when there is no such."""
    lowered = keyword.lower()
    return _BY_KEYWORD.get(_SYNONYMS.get(lowered, lowered))


def transform_text(transform: Transform) -> str:
    """A transform's keyword, or as it is called elsewhere, or its numbers: "aes256gcm16", "aes256ctr", "ke1_mlkem768", "encr99"."""
    known = BY_TRANSFORM.get(transform)
    if known is not None:
        return known.keyword
    if transform.unknown:
        return f"{transform_text(replace(transform, unknown=()))}+attribute"
    name = iana.TRANSFORMS.get(transform.type, {}).get(transform.id)
    if name is None and transform.type in ADDITIONAL_KEY_EXCHANGES:
        name = f"ke{transform.type - ADDITIONAL_KEY_EXCHANGES.start + 1}_{transform.id}"
    elif name is None:
        kind = TransformType(transform.type).name.lower() if transform.type in list(TransformType) else f"type{transform.type}-"
        name = f"{kind}{transform.id}"
    elif transform.type in ADDITIONAL_KEY_EXCHANGES and transform.id != NONE:
        name = f"ke{transform.type - ADDITIONAL_KEY_EXCHANGES.start + 1}_{name}"
    elif "{}" in name:
        return name.format(transform.key_length or "")
    return name + (f"/{transform.key_length}" if transform.key_length else "")


def type_text(transform_type: int) -> str:
    """A transform type in words."""
    return iana.name(iana.TRANSFORM_TYPES, "transform type", transform_type)
