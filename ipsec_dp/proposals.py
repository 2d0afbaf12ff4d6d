"""Proposals in strongSwan's keywords: what IKE offers for itself and for its CHILD_SAs.

Numbers: IANA "Internet Key Exchange Version 2 (IKEv2) Parameters", transform types 2 and 4. What RFC 8247 calls SHOULD NOT is
admitted only under `legacy`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ipsec_dp.errors import BadValueError
from ipsec_dp.suites import (
    CIPHERS,
    ENCR_KEYWORDS,
    ESN_KEYWORDS,
    INTEG_KEYWORDS,
    Encr,
    Integ,
    Suite,
    split_keywords,
    suite_of_keywords,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Prf(IntEnum):
    """Transform type 2."""

    HMAC_SHA1 = 2
    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7


class Group(IntEnum):
    """Transform type 4, key exchange methods."""

    MODP_1024 = 2
    MODP_1536 = 5
    MODP_2048 = 14
    MODP_3072 = 15
    MODP_4096 = 16
    ECP_256 = 19
    ECP_384 = 20
    ECP_521 = 21
    CURVE25519 = 31


PRF_KEYWORDS: dict[str, Prf] = {
    "prfsha256": Prf.HMAC_SHA2_256,
    "prfsha384": Prf.HMAC_SHA2_384,
    "prfsha512": Prf.HMAC_SHA2_512,
    "prfsha1": Prf.HMAC_SHA1,
}

GROUP_KEYWORDS: dict[str, Group] = {
    "x25519": Group.CURVE25519,
    "curve25519": Group.CURVE25519,
    "ecp256": Group.ECP_256,
    "ecp384": Group.ECP_384,
    "ecp521": Group.ECP_521,
    "modp2048": Group.MODP_2048,
    "modp3072": Group.MODP_3072,
    "modp4096": Group.MODP_4096,
    "modp1536": Group.MODP_1536,
    "modp1024": Group.MODP_1024,
}

# RFC 8247 §2.4: groups 2 and 5 SHOULD NOT be used.
LEGACY_GROUPS = frozenset({Group.MODP_1024, Group.MODP_1536})

# strongSwan's rule: the integrity keyword of a proposal without a PRF keyword names the PRF too.
PRF_OF_INTEG: dict[Integ, Prf] = {
    Integ.HMAC_SHA1_96: Prf.HMAC_SHA1,
    Integ.HMAC_SHA2_256_128: Prf.HMAC_SHA2_256,
    Integ.HMAC_SHA2_384_192: Prf.HMAC_SHA2_384,
    Integ.HMAC_SHA2_512_256: Prf.HMAC_SHA2_512,
}


@dataclass(frozen=True, slots=True)
class IkeProposal:
    """One IKE SA proposal; `integ` is NONE with an AEAD, `key_octets` is the encryption key without salt."""

    encr: Encr
    key_octets: int
    integ: Integ
    prf: Prf
    group: Group
    keywords: str


@dataclass(frozen=True, slots=True)
class EspProposal:
    """One CHILD_SA proposal; `group` is the key exchange of a rekey with forward secrecy, None without."""

    suite: Suite
    group: Group | None
    keywords: str


def _group(text: str, chosen: Mapping[str, str], legacy: bool) -> Group | None:
    if "group" not in chosen:
        return None
    group = GROUP_KEYWORDS[chosen["group"]]
    if group in LEGACY_GROUPS and not legacy:
        raise BadValueError(
            f'"{text}" names group {chosen["group"]}, which RFC 8247 calls SHOULD NOT',
            "name modp2048, ecp256 or x25519, or set legacy = true in the tunnel",
        )
    return group


@functools.lru_cache
def parse_ike_proposal(text: str, legacy: bool) -> IkeProposal:
    """An IKE proposal such as "aes256gcm16-prfsha384-ecp384" or "aes128-sha256-modp2048". Raises BadValueError."""
    kinds: dict[str, Collection[str]] = {
        "encryption": ENCR_KEYWORDS,
        "integrity": INTEG_KEYWORDS,
        "PRF": PRF_KEYWORDS,
        "group": GROUP_KEYWORDS,
    }
    chosen = split_keywords(text, kinds)
    suite = suite_of_keywords(text, chosen)
    group = _group(text, chosen, legacy)
    if group is None:
        raise BadValueError(f'"{text}" names no group', f"append one of {', '.join(GROUP_KEYWORDS)}")
    if "PRF" in chosen:
        prf = PRF_KEYWORDS[chosen["PRF"]]
    elif CIPHERS[suite.encr].aead:
        raise BadValueError(f'"{text}" names no PRF', f"an AEAD needs one of {', '.join(PRF_KEYWORDS)}")
    else:
        prf = PRF_OF_INTEG[suite.integ]
    return IkeProposal(suite.encr, suite.key_octets, suite.integ, prf, group, text)


@functools.lru_cache
def parse_esp_proposal(text: str, legacy: bool) -> EspProposal:
    """A CHILD_SA proposal such as "aes256gcm16-esn" or "aes128-sha256-x25519". Raises BadValueError."""
    kinds: dict[str, Collection[str]] = {
        "encryption": ENCR_KEYWORDS,
        "integrity": INTEG_KEYWORDS,
        "group": GROUP_KEYWORDS,
        "sequence numbers": ESN_KEYWORDS,
    }
    chosen = split_keywords(text, kinds)
    return EspProposal(suite_of_keywords(text, chosen), _group(text, chosen, legacy), text)
