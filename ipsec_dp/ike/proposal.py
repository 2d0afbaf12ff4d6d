"""Proposals: from strongSwan's keywords, chosen as responder, checked as initiator, explained when nothing fits.

A configured proposal has the form of one on the wire: `Proposal` with no SPI, several transforms of a type in order of
preference. A chosen one has exactly one of each type (RFC 7296 §2.7, §3.3).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from typing import Final

from ipsec_dp.ike import kem, oddities
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.suites import Encr, Integ, Suite
from ipsec_dp.ipsec.transforms import (
    ADDITIONAL_KEY_EXCHANGES,
    BY_TRANSFORM,
    ESN,
    KEMS,
    NO_ESN,
    NONE,
    PRF_OF_INTEGRITY,
    AdditionalKeyExchange,
    Algorithm,
    Encryption,
    Group,
    Integrity,
    Prf,
    Transform,
    TransformType,
    by_keyword,
    transform_text,
    type_text,
)
from ipsec_dp.util.text import named

CLASSIC_IKE: Final = (
    "aes256gcm16-aes128gcm16-prfsha384-prfsha256-x25519-ecp384-ecp256-modp3072-modp2048",
    "chacha20poly1305-prfsha256-x25519-ecp256",
    "aes256-aes128-sha384-sha256-prfsha384-prfsha256-x25519-ecp384-ecp256-modp3072-modp2048",
)
DEFAULT_IKE: Final = ("aes256gcm16-aes128gcm16-prfsha384-prfsha256-x25519-ke1_mlkem768", *CLASSIC_IKE)
DEFAULT_ESP: Final = ("aes256gcm16-aes128gcm16-esn-noesn", "chacha20poly1305-esn-noesn", "aes256-aes128-sha256-esn-noesn")

_MAY_BE_NONE: Final = frozenset({TransformType.INTEG, TransformType.KE, *ADDITIONAL_KEY_EXCHANGES})
_MAY_BE_LEFT_OUT: Final = frozenset({NO_ESN, *(Transform(kind, NONE) for kind in ADDITIONAL_KEY_EXCHANGES)})
_CIPHERS: Final = frozenset(map(int, Encr))  # of the data plane
_INTEGRITIES: Final = frozenset(map(int, Integ))
FIRST_SPI: Final = 256  # of AH and ESP (RFC 4303 §2.1): those below are reserved


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


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """What protects an IKE SA. `integrity` is None exactly when `encryption` is an AEAD. `additional`: by number; those that are
    left out are not there."""

    encryption: Encryption
    prf: Prf
    integrity: Integrity | None
    group: Group
    additional: tuple[AdditionalKeyExchange, ...] = ()

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """As a proposal names it: every algorithm there is, each additional key exchange among them."""
        return _transforms(self.encryption, self.prf, self.integrity, self.group, *self.additional)

    def __str__(self) -> str:
        return _joined(self.encryption, self.integrity, self.prf, self.group, *self.additional)


@dataclass(frozen=True, slots=True)
class EspSuite:
    """What protects a CHILD_SA; `group` is None without PFS. `additional`: by number; those that are left out are not there."""

    encryption: Encryption
    integrity: Integrity | None
    group: Group | None
    esn: bool
    additional: tuple[AdditionalKeyExchange, ...] = ()

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What protects packets: without the key exchange by which the keys were made."""
        return (*_transforms(self.encryption, self.integrity), ESN if self.esn else NO_ESN)

    def __str__(self) -> str:
        return _joined(self.encryption, self.integrity, self.group, *self.additional) + ("-esn" if self.esn else "")


def _transforms(*algorithms: Algorithm | None) -> tuple[Transform, ...]:
    return tuple(algorithm.transform for algorithm in algorithms if algorithm is not None)


def _joined(*algorithms: Algorithm | None) -> str:
    return "-".join(algorithm.keyword for algorithm in algorithms if algorithm is not None)


# --- text ------------------------------------------------------------------------------------------------------------


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


# --- negotiation -----------------------------------------------------------------------------------------------------


def with_spi(proposals: Sequence[Proposal], spi: bytes) -> tuple[Proposal, ...]:
    """The same proposals, each carrying our `spi`: 4 octets for ESP, 8 for an IKE SA that rekeys."""
    return tuple(replace(proposal, spi=spi) for proposal in proposals)


def _no_key_exchange(proposal: Proposal) -> tuple[Transform, ...]:
    return tuple(t for t in proposal.transforms if t.type not in (TransformType.KE, *ADDITIONAL_KEY_EXCHANGES))


def without_key_exchange(proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """The same proposals as IKE_AUTH carries them: its CHILD_SA never has a key exchange of its own (RFC 7296 §1.2)."""
    kept = dict.fromkeys(_no_key_exchange(proposal) for proposal in proposals)
    return tuple(Proposal(number, proposals[0].protocol, proposals[0].spi, ts) for number, ts in enumerate(kept, 1))


def with_additional(proposals: Sequence[Proposal]) -> bool:
    """Whether any of them has an additional key exchange, be it one that may be left out."""
    return any(t.type in ADDITIONAL_KEY_EXCHANGES and t.id != NONE for proposal in proposals for t in proposal.transforms)


def without_additional(proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """Those of ours that admit that each additional key exchange is left out, without them, numbered anew; empty: there is none."""
    kept: dict[tuple[Transform, ...], Proposal] = {}
    for proposal in proposals:
        types = {t.type for t in proposal.transforms if t.type in ADDITIONAL_KEY_EXCHANGES}
        if all(Transform(kind, NONE) in proposal.transforms for kind in types):
            left = tuple(t for t in proposal.transforms if t.type not in types)
            kept.setdefault(left, replace(proposal, number=len(kept) + 1, transforms=left))
    return tuple(kept.values())


def demanding(ours: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """Those of ours that have additional key exchanges, of which none may be left out now, numbered anew; empty: there is none."""
    kept: dict[tuple[Transform, ...], Proposal] = {}
    for proposal in ours:
        left = tuple(t for t in proposal.transforms if t.type not in ADDITIONAL_KEY_EXCHANGES or t.id != NONE)
        if any(t.type in ADDITIONAL_KEY_EXCHANGES for t in left):
            kept.setdefault(left, replace(proposal, number=len(kept) + 1, transforms=left))
    return tuple(kept.values())


def no_weaker(suite: IkeSuite | EspSuite | None, ours: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """What of ours may take the place of a suite in use: where that has additional key exchanges, and there still are such, one
    that has them. A rekey does not lose what the first exchange had."""
    return (demanding(ours) if suite is not None and suite.additional else ()) or tuple(ours)


def keeping(suite: IkeSuite | EspSuite, ours: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """What of ours keeps a suite in use (RFC 7296 §2.8); empty where the configuration no longer admits it.

    Key exchanges of a CHILD_SA are those configured: one of IKE_AUTH had none, its rekey has. Of an IKE SA they are those that it
    has; one that was left out, as it may be, is not offered again.
    """
    kept = _by_type(suite.transforms)
    free = {TransformType.KE, *ADDITIONAL_KEY_EXCHANGES} if isinstance(suite, EspSuite) else set()
    found: dict[tuple[Transform, ...], Proposal] = {}
    for mine in no_weaker(suite, ours):
        types = _by_type(mine.transforms)
        left_out = {kind for kind in types.keys() - kept.keys() - free if Transform(kind, NONE) in types[kind]}
        if types.keys() - free - left_out == kept.keys() and all(transforms[0] in types[t] for t, transforms in kept.items()):
            transforms = tuple(t for t in mine.transforms if t.type in free or t in kept.get(t.type, ()))
            found.setdefault(transforms, replace(mine, number=len(found) + 1, transforms=transforms))
    return tuple(found.values())


def select_keeping(suite: IkeSuite | EspSuite | None, ours: Sequence[Proposal], offered: Sequence[Proposal]) -> Proposal | None:
    """`select` where an SA is rekeyed: its suite before all others, if both sides still admit it."""
    kept = None if suite is None else select(keeping(suite, ours), offered)
    return select(no_weaker(suite, ours), offered) if kept is None else kept


def select(ours: Sequence[Proposal], offered: Sequence[Proposal]) -> Proposal | None:
    """The responder's choice, our order of preference first; None means NO_PROPOSAL_CHOSEN.

    The result has the number and the SPI of the peer's proposal and one transform of each type that it offered.
    """
    for mine in ours:
        for theirs in offered:
            transforms = _match(mine, theirs) if mine.protocol == theirs.protocol and theirs.spi_holds else None
            if transforms is not None:
                return replace(theirs, transforms=transforms)
    return None


def select_child(ours: Sequence[Proposal], offered: Sequence[Proposal]) -> Proposal | None:
    """`select` for the CHILD_SA of IKE_AUTH: key exchange transforms of either side count for nothing there."""
    stripped = [replace(p, transforms=_no_key_exchange(p)) for p in offered]
    return select(without_key_exchange(ours), stripped)


def _match(mine: Proposal, theirs: Proposal) -> tuple[Transform, ...] | None:
    our_types, their_types = _by_type(mine.transforms), _by_type(theirs.transforms)
    chosen: list[Transform] = []
    for transform_type in sorted(our_types.keys() | their_types.keys()):
        pick = _pick(transform_type, our_types.get(transform_type, ()), their_types.get(transform_type, ()))
        if pick is None:
            return None
        chosen += pick
    return tuple(chosen)


def _pick(transform_type: int, ours: Sequence[Transform], theirs: Sequence[Transform]) -> tuple[Transform, ...] | None:
    """The transforms (one or none) both sides can use of a type, or None."""
    for transform in ours:
        if transform in theirs:
            return (transform,)
    none = Transform(transform_type, NONE)
    if not ours and transform_type in _MAY_BE_NONE and none in theirs:
        return (none,)
    if not theirs and not _MAY_BE_LEFT_OUT.isdisjoint(ours):  # NO_ESN: by some peers where §3.3.3 wants it
        return ()
    return None


def _by_type(transforms: Iterable[Transform]) -> dict[int, list[Transform]]:
    types: dict[int, list[Transform]] = {}
    for transform in transforms:
        types.setdefault(transform.type, []).append(transform)
    return types


def accept(offered: Sequence[Proposal], answer: Sequence[Proposal]) -> Proposal:
    """As initiator: the peer's one choice, which must be from what we offered; else ProposalError (RFC 7296 §3.3.6)."""
    if len(answer) != 1:
        raise ProposalError(f"the peer chose {len(answer)} proposals")
    chosen = answer[0]
    mine = next((p for p in offered if (p.number, p.protocol) == (chosen.number, chosen.protocol)), None)
    if mine is None or len(chosen.spi) != len(mine.spi) or (chosen.spi and not chosen.spi_holds):
        raise ProposalError(f"the peer chose a proposal that was not offered: {text(answer)}{_odd(answer)}")
    ours, theirs = _by_type(mine.transforms), _by_type(chosen.transforms)
    for transform_type in ours.keys() | theirs.keys():
        picked = theirs.get(transform_type, [])
        if not _is_choice(transform_type, picked, ours.get(transform_type, [])):
            raise ProposalError(
                f"the peer chose no {type_text(transform_type)} of ours; we offered {text([mine])}, "
                f"it chose {text(answer)}{_odd(answer)}"
            )
    return chosen


def _is_choice(transform_type: int, picked: list[Transform], ours: list[Transform]) -> bool:
    if not ours:  # a NONE said aloud is no algorithm
        return transform_type in _MAY_BE_NONE and picked == [Transform(transform_type, NONE)]
    return (len(picked) == 1 and picked[0] in ours) or (not picked and not _MAY_BE_LEFT_OUT.isdisjoint(ours))


def ike_suite(chosen: Proposal) -> IkeSuite:
    """The algorithms of a chosen IKE proposal. ProposalError when it is not one `select` or `accept` would give."""
    found = _algorithms(chosen)
    encryption, prf, integrity, group = (
        found.get(t) for t in (TransformType.ENCR, TransformType.PRF, TransformType.INTEG, TransformType.KE)
    )
    if not isinstance(encryption, Encryption) or not isinstance(prf, Prf) or not isinstance(group, Group):
        raise ProposalError(f"incomplete IKE proposal {text([chosen])}")
    return IkeSuite(encryption, prf, _integrity_of(encryption, integrity, chosen), group, _additional(found, chosen))


def _additional(found: dict[int, Algorithm], chosen: Proposal) -> tuple[AdditionalKeyExchange, ...]:
    additional = tuple(one for _, one in sorted(found.items()) if isinstance(one, AdditionalKeyExchange))
    if len({one.method for one in additional}) != len(additional):
        raise ProposalError(f"an additional key exchange twice (RFC 9370 §2.2.1) in {text([chosen])}")
    return additional


def esp_suite(chosen: Proposal) -> EspSuite:
    """The algorithms of a chosen ESP proposal. ProposalError as for `ike_suite`."""
    found = _algorithms(chosen)
    encryption, integrity, group = (found.get(t) for t in (TransformType.ENCR, TransformType.INTEG, TransformType.KE))
    if not isinstance(encryption, Encryption) or not isinstance(group, Group | None):
        raise ProposalError(f"incomplete ESP proposal {text([chosen])}")
    additional = _additional(found, chosen)
    if additional and group is None:
        raise ProposalError(f"additional key exchanges without a first one in {text([chosen])}")
    return EspSuite(encryption, _integrity_of(encryption, integrity, chosen), group, ESN in chosen.transforms, additional)


def _algorithms(chosen: Proposal) -> dict[int, Algorithm]:
    """By type; a transform outside our tables, or two of one type, never become key material."""
    found: dict[int, Algorithm] = {}
    for transform in chosen.transforms:
        if transform in (ESN, NO_ESN) or (transform.type in _MAY_BE_NONE and transform == Transform(transform.type, NONE)):
            continue
        algorithm = BY_TRANSFORM.get(transform)
        if algorithm is None or transform.type in found:
            raise ProposalError(f"unusable transform {transform_text(transform)} in {text([chosen])}")
        found[transform.type] = algorithm
    return found


def _integrity_of(encryption: Encryption, integrity: Algorithm | None, chosen: Proposal) -> Integrity | None:
    if encryption.is_aead and integrity is None:
        return None
    if encryption.is_aead or not isinstance(integrity, Integrity):
        raise ProposalError(f"integrity does not fit the encryption in {text([chosen])}")
    return integrity


# --- for people ------------------------------------------------------------------------------------------------------

_SHOWN: Final = 8  # proposals, and transforms of a type, that a text shows: a peer can send thousands
_ODDITIES: Final = 2  # that it explains


def text(proposals: Sequence[Proposal]) -> str:
    """Keywords of each proposal, those of one type separated by "/": "aes256gcm16-prfsha384-ecp384/x25519, …"."""
    return named(proposals, _SHOWN, text=_one_text) or "none"


def _one_text(proposal: Proposal) -> str:
    parts = (_names(transforms) for _, transforms in sorted(_by_type(proposal.transforms).items()))
    known = proposal.protocol in (ProtocolId.IKE, ProtocolId.ESP)
    prefix = "" if known else f"{iana.name(iana.PROTOCOLS, 'protocol', proposal.protocol)}: "
    return prefix + "-".join(parts)


def _names(transforms: Sequence[Transform]) -> str:
    return named(transforms, _SHOWN, "/", text=transform_text) or "none"


def explain_mismatch(ours: Sequence[Proposal], theirs: Sequence[Proposal]) -> str:
    """Both sides' proposals, each type in which the closest pair differs, what is odd about the peer's; one line for an event."""
    return _compared(ours, theirs) + _odd(theirs)


def _odd(theirs: Sequence[Proposal]) -> str:
    found = oddities.of((proposal.protocol, proposal.transforms) for proposal in theirs)
    return f"; {named(found, _ODDITIES, '; ')}" if found else ""


def _compared(ours: Sequence[Proposal], theirs: Sequence[Proposal]) -> str:
    both = f"ours: {text(ours)}; peer's: {text(theirs)}"
    pairs = [_differences(mine, other) for mine in ours for other in theirs if mine.protocol == other.protocol]
    if not pairs:
        return f"{both}; no proposals for the same protocol"
    closest = min(pairs, key=len)
    if not closest and any(other.spi for other in theirs) and not any(other.spi_holds for other in theirs):
        return f"{both}; no SPI of the peer's is one that an SA may have"
    return f"{both}; " + ("they have a proposal in common" if not closest else "differs: " + "; ".join(closest))


def _differences(mine: Proposal, theirs: Proposal) -> list[str]:
    our_types, their_types = _by_type(mine.transforms), _by_type(theirs.transforms)
    return [
        f"{type_text(t)} (ours {_names(our_types.get(t, ()))}, peer's {_names(their_types.get(t, ()))})"
        for t in sorted(our_types.keys() | their_types.keys())
        if _pick(t, our_types.get(t, ()), their_types.get(t, ())) is None
    ]


def suites_of(proposals: Iterable[Proposal]) -> list[Suite]:
    """Every suite that ESP proposals may end in and the data plane has; sequence numbers do not matter here."""
    found: dict[Suite, None] = {}
    for proposal in proposals:
        ciphers = [t for t in proposal.transforms if t.type == TransformType.ENCR and t.id in _CIPHERS]
        integrities = [Integ(t.id) for t in proposal.transforms if t.type == TransformType.INTEG and t.id in _INTEGRITIES]
        for cipher in ciphers:
            for integrity in integrities or [Integ.NONE]:
                encr = Encr(cipher.id)
                found[Suite(encr, (cipher.key_length or 256) // 8, integrity, esn=False)] = None
    return list(found)


def suite_of(suite: EspSuite) -> Suite:
    """A negotiated suite as the data plane names it."""
    integrity = Integ.NONE if suite.integrity is None else Integ(suite.integrity.id)
    return Suite(Encr(suite.encryption.id), suite.encryption.key, integrity, suite.esn)
