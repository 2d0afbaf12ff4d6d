"""Which algorithms IKEv1 has, by its own numbers, and what of a proposal it cannot say (RFC 2409 appendix A, RFC 2407 §4.4.4).

The words of a proposal are the same for both versions; this is where they become IKEv1's attributes, and attributes words.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Final, TypeVar

from ipsec_dp.ike.negotiation import without_additional
from ipsec_dp.ike.suites import EspSuite, IkeSuite
from ipsec_dp.ipsec.transforms import (
    BY_TRANSFORM,
    ENCRYPTIONS,
    ESN,
    GROUPS,
    INTEGRITIES,
    PRF_OF_INTEGRITY,
    AdditionalKeyExchange,
    Algorithm,
    Encryption,
    Group,
    Integrity,
    Prf,
    TransformType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.proposal import Proposal

DEFAULT_PHASE1: Final = ("aes256-aes128-sha384-sha256-ecp384-ecp256-modp3072-modp2048",)
DEFAULT_PHASE2: Final = ("aes256gcm16-aes128gcm16-noesn", "aes256-aes128-sha256-noesn")

AES_CBC_PHASE1: Final = 7
AES_CBC, AES_GCM_16 = 12, 20  # of ESP, the numbers of IKEv2
HASHES_PHASE1: Final = {"sha1": 2, "sha256": 4, "sha384": 5, "sha512": 6}
AUTHENTICATION_PHASE2: Final = {"sha1": 2, "sha256": 5, "sha384": 6, "sha512": 7}
_GROUPS: Final = frozenset({2, 5, 14, 15, 16, 19, 20, 21})  # by the same numbers in both versions

CIPHERS: Final = {(one.id, one.key_length): one for one in ENCRYPTIONS if one.id in (AES_CBC, AES_GCM_16)}
GROUP_OF: Final = {one.id: one for one in GROUPS if one.id in _GROUPS}
INTEGRITY_PHASE1: Final = {HASHES_PHASE1[one.hash]: one for one in INTEGRITIES}
INTEGRITY_PHASE2: Final = {AUTHENTICATION_PHASE2[one.hash]: one for one in INTEGRITIES}

# Names, for people only.
CIPHER_NAMES_PHASE1: Final = {1: "des", 2: "idea", 3: "blowfish", 4: "rc5", 5: "3des", 6: "cast", 7: "aes", 8: "camellia"}
HASH_NAMES_PHASE1: Final = {1: "md5", 3: "tiger", **{number: name for name, number in HASHES_PHASE1.items()}}
METHOD_NAMES: Final = {
    1: "psk",
    2: "dss",
    3: "rsa",
    4: "rsa-encryption",
    5: "rsa-encryption",
    9: "ecdsa256",
    10: "ecdsa384",
    11: "ecdsa521",
    64221: "hybrid with XAUTH",
    64222: "hybrid with XAUTH",
    64223: "hybrid with XAUTH",
    64224: "hybrid with XAUTH",
    65001: "psk with XAUTH",
    65002: "psk with XAUTH",
    65003: "dss with XAUTH",
    65004: "dss with XAUTH",
    65005: "rsa with XAUTH",
    65006: "rsa with XAUTH",
    65007: "rsa-encryption with XAUTH",
    65008: "rsa-encryption with XAUTH",
    65009: "rsa-encryption with XAUTH",
    65010: "rsa-encryption with XAUTH",
}
XAUTH_METHODS: Final = frozenset(number for number, name in METHOD_NAMES.items() if name.endswith("XAUTH"))
CIPHER_NAMES_PHASE2: Final = {
    2: "des",
    3: "3des",
    11: "null",
    12: "aes",
    13: "aesctr",
    18: "gcm8",
    19: "gcm12",
    20: "gcm16",
    23: "gmac",
}
AUTHENTICATION_NAMES_PHASE2: Final = {1: "md5", **{number: name for name, number in AUTHENTICATION_PHASE2.items()}}

A = TypeVar("A", Encryption, Integrity, Group, Prf, AdditionalKeyExchange)


def _of(proposal: Proposal, kind: type[A]) -> tuple[A, ...]:
    found = (BY_TRANSFORM.get(transform) for transform in proposal.transforms)
    return tuple(one for one in found if isinstance(one, kind))


def refusals_phase1(proposals: Iterable[Proposal]) -> tuple[str, ...]:
    """What of IKE proposals IKEv1 has no number for, a sentence each."""
    found: dict[str, None] = {}
    for proposal in proposals:
        for one in _of(proposal, Encryption):
            if one.id != AES_CBC:
                found[f'IKEv1 has no "{one.keyword}" in phase 1: no AEAD, AES-CBC with a hash alone'] = None
        hashes = {one.hash for one in _of(proposal, Integrity)}
        for prf in _of(proposal, Prf):
            if hashes and prf.hash not in hashes:
                found[f'IKEv1 has one hash for all of phase 1, and "{prf.keyword}" is another than that of the integrity'] = None
        found |= dict.fromkeys(_group_refusals(proposal))
        found |= dict.fromkeys(_addition_refusals(proposal))
    return tuple(found)


def refusals_phase2(proposals: Iterable[Proposal]) -> tuple[str, ...]:
    """The same of ESP proposals."""
    found: dict[str, None] = {}
    for proposal in proposals:
        for one in _of(proposal, Encryption):
            if (one.id, one.key_length) not in CIPHERS:
                found[f'IKEv1 has no number for "{one.keyword}"'] = None
        found |= dict.fromkeys(_group_refusals(proposal))
        found |= dict.fromkeys(_addition_refusals(proposal))
    return tuple(found)


def _group_refusals(proposal: Proposal) -> list[str]:
    return [f'IKEv1 has no number for "{one.keyword}"' for one in _of(proposal, Group) if one.id not in _GROUPS]


def _addition_refusals(proposal: Proposal) -> list[str]:
    additions = _of(proposal, AdditionalKeyExchange)
    return [f'IKEv1 has no additional key exchange, "{one.keyword}" being one' for one in additions]


@lru_cache(maxsize=64)
def suites_phase1(proposals: tuple[Proposal, ...]) -> tuple[IkeSuite, ...]:
    """Each set of algorithms that they admit, in order of preference."""
    found: dict[IkeSuite, None] = {}
    for proposal in without_additional(proposals):
        ciphers = [one for one in _of(proposal, Encryption) if one.id == AES_CBC]
        for cipher, integrity, group in product(ciphers, _of(proposal, Integrity), _of(proposal, Group)):
            if group.id in _GROUPS:
                found[IkeSuite(cipher, PRF_OF_INTEGRITY[integrity], integrity, group)] = None
    return tuple(found)


@lru_cache(maxsize=64)
def suites_phase2(proposals: tuple[Proposal, ...]) -> tuple[EspSuite, ...]:
    """The same for ESP; `group` None: without PFS."""
    found: dict[EspSuite, None] = {}
    for proposal in without_additional(proposals):
        ciphers = [one for one in _of(proposal, Encryption) if (one.id, one.key_length) in CIPHERS]
        groups: tuple[Group | None, ...] = tuple(one for one in _of(proposal, Group) if one.id in _GROUPS) or (None,)
        numbers = [one == ESN for one in proposal.transforms if one.type == TransformType.ESN] or [False]
        integrities: tuple[Integrity | None, ...] = _of(proposal, Integrity) or (None,)
        for cipher, integrity, group, esn in product(ciphers, integrities, groups, numbers):
            if cipher.is_aead == (integrity is None):
                found[EspSuite(cipher, integrity, group, esn)] = None
    return tuple(found)


def words(*algorithms: Algorithm | None) -> tuple[str, ...]:
    """Their keywords, for people."""
    return tuple("none" if one is None else one.keyword for one in algorithms)
