"""Proposals: what one holds, from strongSwan's keywords and as text again.

A configured proposal has the form of one on the wire: `Proposal` with no SPI, several transforms of a type in order of
preference. A chosen one has exactly one of each type (RFC 7296 §2.7, §3.3); `negotiation` leads from the one to the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

from ipsec_dp.ike import kem
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.transforms import (
    ESN,
    KEMS,
    NO_ESN,
    PRF_OF_INTEGRITY,
    AdditionalKeyExchange,
    Algorithm,
    Encryption,
    Group,
    Integrity,
    Prf,
    Transform,
    by_keyword,
    transform_text,
)
from ipsec_dp.util.text import named

CLASSIC_IKE: Final = (
    "aes256gcm16-aes128gcm16-prfsha384-prfsha256-x25519-ecp384-ecp256-modp3072-modp2048",
    "chacha20poly1305-prfsha256-x25519-ecp256",
    "aes256-aes128-sha384-sha256-prfsha384-prfsha256-x25519-ecp384-ecp256-modp3072-modp2048",
)
DEFAULT_IKE: Final = ("aes256gcm16-aes128gcm16-prfsha384-prfsha256-x25519-ke1_mlkem768", *CLASSIC_IKE)
DEFAULT_ESP: Final = ("aes256gcm16-aes128gcm16-esn-noesn", "chacha20poly1305-esn-noesn", "aes256-aes128-sha256-esn-noesn")


FIRST_SPI: Final = 256  # of AH and ESP (RFC 4303 §2.1): those below are reserved
_SHOWN: Final = 8  # proposals, and transforms of a type, that a text shows: a peer can send thousands


class ProposalError(IkeError):
    """A proposal text that cannot be used, or a peer's choice that we never offered."""


class ProtocolId(IntEnum):
    """Security protocol identifiers (RFC 7296 §3.3.1), the same in RFC 2407 §4.4.1."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal: `number` 1..255, `spi` of 0, 4 or 8 octets by protocol, transforms in order of preference."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[Transform, ...]

    @property
    def spi_holds(self) -> bool:
        """Whether its SPI is one that an SA of its protocol may have; IKE has none in IKE_SA_INIT (RFC 7296 §3.3.1)."""
        if self.protocol == ProtocolId.IKE:
            return not self.spi or (len(self.spi) == 8 and any(self.spi))
        return len(self.spi) == 4 and int.from_bytes(self.spi, "big") >= FIRST_SPI


def by_type(transforms: Iterable[Transform]) -> dict[int, list[Transform]]:
    """Of each type in the order in which they stand."""
    types: dict[int, list[Transform]] = {}
    for transform in transforms:
        types.setdefault(transform.type, []).append(transform)
    return types


# --- from text -------------------------------------------------------------------------------------------------------


def default_ike() -> tuple[str, ...]:
    """DEFAULT_IKE, as far as the library of this host has what they take."""
    return DEFAULT_IKE if kem.lack(KEMS[0]) is None else CLASSIC_IKE


def by_default(proposals: tuple[Proposal, ...]) -> bool:
    """Whether nobody has chosen them."""
    return proposals == _parsed(default_ike())


@cache
def _parsed(texts: tuple[str, ...]) -> tuple[Proposal, ...]:
    return parse_ike(texts)


def parse_ike(texts: Iterable[str], *, legacy: bool = False) -> tuple[Proposal, ...]:
    """Proposals for an IKE SA, numbered from 1. ProposalError says which word of which text is at fault."""
    return _parse(texts, ProtocolId.IKE, legacy)


def parse_esp(texts: Iterable[str], *, legacy: bool = False) -> tuple[Proposal, ...]:
    """Proposals for ESP, numbered from 1; without "esn" or "noesn": 32-bit sequence numbers, as strongSwan reads it."""
    return _parse(texts, ProtocolId.ESP, legacy)


def _parse(texts: Iterable[str], protocol: ProtocolId, legacy: bool) -> tuple[Proposal, ...]:
    found: list[tuple[Transform, ...]] = []
    for text in texts:
        algorithms, sequence_numbers = _parse_words(text, protocol, legacy)
        ciphers = [algorithm for algorithm in algorithms if isinstance(algorithm, Encryption)]
        if not ciphers:
            raise ProposalError(f"proposal {text!r} names no encryption")
        # AEADs take no INTEG and so stand in a proposal of their own (RFC 7296 §3.3).
        for aead in dict.fromkeys(cipher.is_aead for cipher in ciphers):
            usable = [a for a in algorithms if not isinstance(a, Encryption) or a.is_aead == aead]
            found.append(_complete(text, protocol, usable, sequence_numbers, aead=aead))
    if not found:
        raise ProposalError("no proposals")
    return tuple(Proposal(number, protocol, b"", transforms) for number, transforms in enumerate(dict.fromkeys(found), 1))


def _parse_words(text: str, protocol: ProtocolId, legacy: bool) -> tuple[list[Algorithm], list[Transform]]:
    algorithms: list[Algorithm] = []
    sequence_numbers: list[Transform] = []
    for word in text.strip().split("-"):
        if protocol == ProtocolId.ESP and word.lower() in ("esn", "noesn"):
            sequence_numbers.append(ESN if word.lower() == "esn" else NO_ESN)
            continue
        algorithm = by_keyword(word)
        if algorithm is None or (protocol == ProtocolId.ESP and isinstance(algorithm, Prf)):
            raise ProposalError(f"proposal {text!r}: {word!r} is not known here{_instead(word)}")
        method = algorithm.method if isinstance(algorithm, AdditionalKeyExchange) else algorithm
        if isinstance(method, Group) and method.legacy and not legacy:
            raise ProposalError(f"proposal {text!r}: {word!r} is too weak and only admitted with legacy = true (RFC 8247 §2.4)")
        if isinstance(method, Group) and (lack := kem.lack(method)) is not None:
            raise ProposalError(f"proposal {text!r}: {word!r} cannot be computed here: {lack}")
        algorithms.append(algorithm)
    return algorithms, sequence_numbers


def _instead(word: str) -> str:
    """What a key encapsulation that is not known is to be written as."""
    name = word.lower().rpartition("_")[2]
    return ": of ML-KEM there are mlkem768 and mlkem1024, which the library has" if name.startswith("mlkem") else ""


def _additions(text: str, algorithms: list[Algorithm]) -> list[AdditionalKeyExchange]:
    """Additional key exchanges by their number. What is chosen may not hold a method twice (RFC 9370 §2.2.1), so neither does what
    is written."""
    found = dict.fromkeys(a for a in algorithms if isinstance(a, AdditionalKeyExchange))
    numbers: dict[str, int] = {}
    for one in found:
        if one.method is not None and numbers.setdefault(one.method.keyword, one.number) != one.number:
            first = f"ke{numbers[one.method.keyword]}_{one.method.keyword}"
            raise ProposalError(f"proposal {text!r} has {first} and {one.keyword}: each method counts once (RFC 9370 §2.2.1)")
        if one.method is None and not any(each.number == one.number for each in found if each is not one):
            raise ProposalError(f"proposal {text!r} has {one.keyword} without a ke{one.number}_ that may be left out")
    return sorted(found, key=lambda one: one.number)


def _complete(
    text: str, protocol: ProtocolId, algorithms: list[Algorithm], sequence_numbers: list[Transform], *, aead: bool
) -> tuple[Transform, ...]:
    integrities = [a for a in algorithms if isinstance(a, Integrity)]
    groups = [a for a in algorithms if isinstance(a, Group)]
    if not aead and not integrities:
        raise ProposalError(f"proposal {text!r} has encryption without integrity")
    chosen: list[Algorithm] = [a for a in algorithms if isinstance(a, Encryption)]
    chosen += [] if aead else integrities
    if protocol == ProtocolId.IKE:
        prfs = [a for a in algorithms if isinstance(a, Prf)] or [PRF_OF_INTEGRITY[a] for a in integrities]
        if not prfs or not groups:
            raise ProposalError(f"proposal {text!r} names no {'key exchange' if prfs else 'prf'}")
        chosen += prfs
    additions = _additions(text, algorithms)
    if additions and not groups:
        raise ProposalError(f"proposal {text!r} has {additions[0].keyword} without a group that comes first, e.g. x25519")
    chosen += groups
    chosen += additions
    transforms = [algorithm.transform for algorithm in chosen]
    if protocol == ProtocolId.ESP:
        transforms += sequence_numbers or [NO_ESN]
    return tuple(dict.fromkeys(transforms))


# --- as text ---------------------------------------------------------------------------------------------------------


def text(proposals: Sequence[Proposal]) -> str:
    """Keywords of each proposal, those of one type separated by "/": "aes256gcm16-prfsha384-ecp384/x25519, …"."""
    return named(proposals, _SHOWN, text=_one_text) or "none"


def _one_text(proposal: Proposal) -> str:
    parts = (names(transforms) for _, transforms in sorted(by_type(proposal.transforms).items()))
    known = proposal.protocol in (ProtocolId.IKE, ProtocolId.ESP)
    prefix = "" if known else f"{iana.name(iana.PROTOCOLS, 'protocol', proposal.protocol)}: "
    return prefix + "-".join(parts)


def names(transforms: Sequence[Transform]) -> str:
    """Keywords of transforms of one type."""
    return named(transforms, _SHOWN, "/", text=transform_text) or "none"
