"""What is offered, chosen and accepted in both phases, and why nothing was (RFC 2408 §4.2, RFC 2409 §5, RFC 2407 §4.5).

A choice is the peer's transform as it came; its meaning is a suite of ours, a method or a mode, and a life.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ike.proposal import ProposalError
from ipsec_dp.ike.suites import EspSuite, IkeSuite
from ipsec_dp.ike.v1 import registry as r
from ipsec_dp.ike.v1.sa_payload import SaAttribute, SaPayload, SaProposal, SaTransform
from ipsec_dp.ike.v1.wire import KEY_IKE, EncapsulationMode, LifeType, Phase1, Phase2, Protocol
from ipsec_dp.ipsec.transforms import PRF_OF_INTEGRITY
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.peer import Life

MOST_TRANSFORMS: Final = 255  # their numbers have an octet
DEFAULT_LIFE: Final = 28_800  # seconds, where nothing is said (RFC 2407 §4.5)
KILOBYTE: Final = 1024  # octets
WANTS_XAUTH: Final = (
    "the peer wants XAUTH, a user's name and password after phase 1, which is not spoken here: set it to authenticate by shared "
    "key or certificate alone"
)
_SHOWN: Final = 8
_COMPARED: Final = 24  # transforms of a side that the closest are looked for among: a peer can send hundreds

Numbers = dict[int, tuple[int | None, ...]]


class SaLife(NamedTuple):
    """What a transform says of time and amount; None: nothing."""

    seconds: int | None = None
    kilobytes: int | None = None


@dataclass(frozen=True, slots=True)
class Phase1Choice:
    """What protects an ISAKMP SA, how both sides prove who they are, and the transform that says so."""

    suite: IkeSuite
    method: int
    life: SaLife
    proposal: SaProposal


@dataclass(frozen=True, slots=True)
class Phase2Choice:
    """What protects an IPsec SA. `proposal`: with its one transform and its sender's SPI."""

    suite: EspSuite
    mode: int
    life: SaLife
    proposal: SaProposal


# ---- the life ------------------------------------------------------------------------------------------------------------------


def life_attributes(kind: int, duration: int, life: Life, *, amount: bool) -> list[SaAttribute]:
    """Seconds, and with `amount` kilobytes where there is a limit."""
    found = [SaAttribute.of(kind, LifeType.SECONDS), SaAttribute.of(duration, max(1, round(life.hard_s)))]
    if amount and life.octets >= KILOBYTE:
        kilobytes = min(life.octets // KILOBYTE, 0xFFFF_FFFF)
        found += [SaAttribute.of(kind, LifeType.KILOBYTES), SaAttribute.of(duration, kilobytes)]
    return found


def _life(numbers: Numbers, kind: int, duration: int) -> SaLife | None:
    """None for a life that cannot be: 0, a number beyond eight octets, a kind without its duration."""
    kinds, durations = numbers.get(kind, ()), numbers.get(duration, ())
    if len(kinds) != len(durations) or len(set(kinds)) != len(kinds):
        return None
    found = dict(zip(kinds, durations, strict=True))
    if any(not value for value in found.values()) or not found.keys() <= {LifeType.SECONDS, LifeType.KILOBYTES}:
        return None
    return SaLife(found.get(LifeType.SECONDS), found.get(LifeType.KILOBYTES))


def life_of(attributes: Iterable[SaAttribute]) -> SaLife | None:
    """Of a RESPONDER-LIFETIME (RFC 2407 §4.6.3.1)."""
    return _life(SaTransform(0, 0, tuple(attributes)).numbers(), Phase2.LIFE_TYPE, Phase2.LIFE_DURATION)


def _one(numbers: Numbers, attribute: int) -> int | None:
    """The value of an attribute that stands there once; None: none, or several."""
    values = numbers.get(attribute, ())
    return values[0] if len(values) == 1 else None


# ---- phase 1 -------------------------------------------------------------------------------------------------------------------


def phase1_offer(suites: Sequence[IkeSuite], method: int, life: Life) -> SaPayload:
    """All of them in one proposal."""
    transforms = tuple(
        SaTransform(number, KEY_IKE, (*_phase1_attributes(suite, method), *_phase1_life(life)))
        for number, suite in enumerate(suites[:MOST_TRANSFORMS], 1)
    )
    return SaPayload((SaProposal(1, Protocol.ISAKMP, b"", transforms),))


def _phase1_life(life: Life) -> list[SaAttribute]:
    return life_attributes(Phase1.LIFE_TYPE, Phase1.LIFE_DURATION, life, amount=False)


def _phase1_attributes(suite: IkeSuite, method: int) -> list[SaAttribute]:
    return [
        SaAttribute.of(Phase1.ENCRYPTION, r.AES_CBC_PHASE1),
        SaAttribute.of(Phase1.KEY_LENGTH, 8 * suite.encryption.key),
        SaAttribute.of(Phase1.HASH, r.HASHES_PHASE1[suite.prf.hash]),
        SaAttribute.of(Phase1.AUTHENTICATION, method),
        SaAttribute.of(Phase1.GROUP, suite.group.id),
    ]


_PHASE1: Final = frozenset(Phase1)


def _read_phase1(proposal: SaProposal, transform: SaTransform) -> Phase1Choice | None:
    """What a transform means; None: nothing that we have."""
    numbers = transform.numbers()
    life = _life(numbers, Phase1.LIFE_TYPE, Phase1.LIFE_DURATION)
    cipher = r.CIPHERS.get((r.AES_CBC, _one(numbers, Phase1.KEY_LENGTH)))
    integrity = r.INTEGRITY_PHASE1.get(_one(numbers, Phase1.HASH) or 0)
    group, method = r.GROUP_OF.get(_one(numbers, Phase1.GROUP) or 0), _one(numbers, Phase1.AUTHENTICATION)
    known = transform.id == KEY_IKE and _one(numbers, Phase1.ENCRYPTION) == r.AES_CBC_PHASE1 and numbers.keys() <= _PHASE1
    if not known or life is None or cipher is None or integrity is None or group is None or method is None:
        return None
    suite = IkeSuite(cipher, PRF_OF_INTEGRITY[integrity], integrity, group)
    return Phase1Choice(suite, method, life, SaProposal(proposal.number, proposal.protocol, proposal.spi, (transform,)))


def _choices_phase1(sa: SaPayload) -> list[Phase1Choice]:
    read = (_read_phase1(one, each) for one in sa.proposals if one.protocol == Protocol.ISAKMP for each in one.transforms)
    return [choice for choice in read if choice is not None]


def phase1_select(suites: Sequence[IkeSuite], method: int, offered: SaPayload) -> Phase1Choice | None:
    """The responder's choice, our order of preference first."""
    choices = _choices_phase1(offered)
    return next((one for suite in suites for one in choices if (one.suite, one.method) == (suite, method)), None)


def phase1_accept(suites: Sequence[IkeSuite], method: int, answer: SaPayload) -> Phase1Choice:
    """As initiator: the peer's one choice, which must be among what we offered; else ProposalError."""
    _require_one(answer)
    choices = _choices_phase1(answer)
    if not choices:
        raise ProposalError(f"the peer chose no transform that can be: {_list(_texts_phase1(answer))}{_insists(answer)}")
    if choices[0].suite not in suites or choices[0].method != method:
        raise ProposalError(f"the peer chose what was not offered: {_list(_texts_phase1(answer))}{_insists(answer)}")
    return choices[0]


def _require_one(answer: SaPayload) -> None:
    """An answer is one transform (RFC 2408 §4.2). What a longer one holds is not looked at: anybody may have made it."""
    transforms = sum(len(one.transforms) for one in answer.proposals)
    if (len(answer.proposals), transforms) != (1, 1):
        raise ProposalError(f"the peer chose {transforms} transforms in {len(answer.proposals)} proposals, where an answer has one")


def _insists(sa: SaPayload) -> str:
    """What a peer wants all of whose transforms are with XAUTH; nothing of any other."""
    methods = {_one(each.numbers(), Phase1.AUTHENTICATION) for one in sa.proposals for each in one.transforms}
    return f"; {WANTS_XAUTH}" if methods and methods <= r.XAUTH_METHODS else ""


Words = tuple[str, ...]
_PARTS_PHASE1: Final = ("encryption", "hash", "key exchange", "authentication")


def _texts_phase1(sa: SaPayload) -> list[Words]:
    found: list[Words] = []
    for one in sa.proposals:
        for transform in one.transforms:
            numbers = transform.numbers()
            length = _one(numbers, Phase1.KEY_LENGTH)
            cipher, digest, group, method = (
                _one(numbers, kind) for kind in (Phase1.ENCRYPTION, Phase1.HASH, Phase1.GROUP, Phase1.AUTHENTICATION)
            )
            found.append(
                (
                    r.CIPHER_NAMES_PHASE1.get(cipher or 0, f"cipher {cipher}") + (str(length) if length else ""),
                    r.HASH_NAMES_PHASE1.get(digest or 0, f"hash {digest}"),
                    _group_name(group),
                    r.METHOD_NAMES.get(method or 0, f"method {method}"),
                )
            )
    return found


def _group_name(group: int | None) -> str:
    return "none" if group is None else r.GROUP_OF[group].keyword if group in r.GROUP_OF else f"group {group}"


def phase1_mismatch(suites: Sequence[IkeSuite], method: int, offered: SaPayload) -> str:
    """Both sides' transforms, and what differs in those that come closest."""
    return _mismatch(_words_phase1(suites, method), _texts_phase1(offered), _PARTS_PHASE1) + _insists(offered)


def texts_phase1(suites: Sequence[IkeSuite], method: int) -> str:
    """What we offer, for people."""
    return _list(_words_phase1(suites, method))


def _words_phase1(suites: Sequence[IkeSuite], method: int) -> list[Words]:
    name = r.METHOD_NAMES.get(method, str(method))
    return [(*r.words(one.encryption), one.prf.hash, one.group.keyword, name) for one in suites]


def _mismatch(ours: Sequence[Words], theirs: Sequence[Words], parts: Words) -> str:
    both = f"ours: {_list(ours)}; peer's: {_list(theirs)}"
    distinct = list(dict.fromkeys(theirs))[:_COMPARED]
    pairs = [(mine, other) for mine in ours[:_COMPARED] for other in distinct]
    if not pairs:
        return both
    mine, other = min(pairs, key=lambda pair: sum(one != two for one, two in zip(*pair, strict=True)))
    differs = [f"{part} (ours {one}, peer's {two})" for part, one, two in zip(parts, mine, other, strict=True) if one != two]
    return f"{both}; " + (f"differs: {'; '.join(differs)}" if differs else "differs in a life, or in an attribute not known here")


def _list(found: Sequence[Words]) -> str:
    return named(list(dict.fromkeys("-".join(word for word in one if word != "none") for one in found)), _SHOWN) or "none"


# ---- phase 2 -------------------------------------------------------------------------------------------------------------------


def phase2_offer(suites: Sequence[EspSuite], spi: bytes, mode: EncapsulationMode, life: Life) -> SaPayload:
    """Those of `suites` that have the group of the first: one KE payload serves them all (RFC 2409 §5.5)."""
    usable = [suite for suite in suites if suite.group == suites[0].group][:MOST_TRANSFORMS]
    transforms = tuple(
        SaTransform(number, suite.encryption.id, tuple(_phase2_attributes(suite, mode, life)))
        for number, suite in enumerate(usable, 1)
    )
    return SaPayload((SaProposal(1, Protocol.ESP, spi, transforms),))


def _phase2_attributes(suite: EspSuite, mode: EncapsulationMode, life: Life) -> list[SaAttribute]:
    found = [
        *life_attributes(Phase2.LIFE_TYPE, Phase2.LIFE_DURATION, life, amount=True),
        SaAttribute.of(Phase2.ENCAPSULATION, mode),
        SaAttribute.of(Phase2.KEY_LENGTH, 8 * suite.encryption.key),
    ]
    if suite.integrity is not None:
        found.append(SaAttribute.of(Phase2.AUTHENTICATION, r.AUTHENTICATION_PHASE2[suite.integrity.hash]))
    if suite.group is not None:
        found.append(SaAttribute.of(Phase2.GROUP, suite.group.id))
    if suite.esn:
        found.append(SaAttribute.of(Phase2.ESN, 1))
    return found


_PHASE2: Final = frozenset(Phase2)


def plain_mode(mode: int) -> int:
    """RFC 3947's number of it, where a draft had another."""
    return EncapsulationMode.UDP_TUNNEL if mode == EncapsulationMode.UDP_TUNNEL_DRAFT else mode


def _read_phase2(proposal: SaProposal, transform: SaTransform) -> Phase2Choice | None:
    numbers = transform.numbers()
    life = _life(numbers, Phase2.LIFE_TYPE, Phase2.LIFE_DURATION)
    cipher = r.CIPHERS.get((transform.id, _one(numbers, Phase2.KEY_LENGTH)))
    said, esn = _one(numbers, Phase2.ENCAPSULATION), _one(numbers, Phase2.ESN) if Phase2.ESN in numbers else 0
    mode = said if said is None else plain_mode(said)
    if life is None or cipher is None or mode is None or esn not in (0, 1) or not numbers.keys() <= _PHASE2:
        return None
    integrity = r.INTEGRITY_PHASE2.get(_one(numbers, Phase2.AUTHENTICATION) or 0)
    group = r.GROUP_OF.get(_one(numbers, Phase2.GROUP) or 0)
    lies = (Phase2.AUTHENTICATION in numbers and integrity is None) or (Phase2.GROUP in numbers and group is None)
    if lies or cipher.is_aead != (integrity is None):
        return None
    suite = EspSuite(cipher, integrity, group, bool(esn))
    return Phase2Choice(suite, mode, life, SaProposal(proposal.number, proposal.protocol, proposal.spi, (transform,)))


def _choices_phase2(sa: SaPayload) -> list[Phase2Choice]:
    numbers = [one.number for one in sa.proposals]  # those that share one are several protocols at once, which we have not
    single = [one for one in sa.proposals if one.protocol == Protocol.ESP and numbers.count(one.number) == 1 and len(one.spi) == 4]
    read = (_read_phase2(one, each) for one in single for each in one.transforms)
    return [choice for choice in read if choice is not None]


def phase2_select(suites: Sequence[EspSuite], mode: EncapsulationMode, offered: SaPayload) -> Phase2Choice | None:
    """The responder's choice, our order of preference first."""
    choices = [one for one in _choices_phase2(offered) if one.mode == plain_mode(mode)]
    return next((one for suite in suites for one in choices if one.suite == suite), None)


def phase2_accept(suites: Sequence[EspSuite], mode: EncapsulationMode, answer: SaPayload) -> Phase2Choice:
    """As initiator: the peer's one choice; else ProposalError."""
    _require_one(answer)
    choices = _choices_phase2(answer)
    usable = [suite for suite in suites if suite.group == suites[0].group]
    if not choices:
        raise ProposalError(f"the peer chose no transform that can be: {_list(_texts_phase2(answer))}")
    if choices[0].suite not in usable or choices[0].mode != plain_mode(mode):
        raise ProposalError(f"the peer chose what was not offered: {_list(_texts_phase2(answer))}")
    return choices[0]


_PARTS_PHASE2: Final = ("encryption", "integrity", "PFS", "encapsulation")
_MODES: Final = {1: "tunnel", 2: "transport", 3: "udp-tunnel", 4: "udp-transport", 61443: "udp-tunnel", 61444: "udp-transport"}


def _texts_phase2(sa: SaPayload) -> list[Words]:
    found: list[Words] = []
    for one in sa.proposals:
        for transform in one.transforms:
            numbers = transform.numbers()
            length, auth, mode = (_one(numbers, kind) for kind in (Phase2.KEY_LENGTH, Phase2.AUTHENTICATION, Phase2.ENCAPSULATION))
            cipher = r.CIPHERS.get((transform.id, length))
            name = r.CIPHER_NAMES_PHASE2.get(transform.id, f"cipher {transform.id}") + (str(length) if length else "")
            found.append(
                (
                    name if cipher is None else cipher.keyword,
                    "none" if auth is None else r.AUTHENTICATION_NAMES_PHASE2.get(auth, f"authentication {auth}"),
                    _group_name(_one(numbers, Phase2.GROUP)),
                    _MODES.get(mode or 0, f"mode {mode}"),
                )
            )
    return found


def _words_phase2(suites: Sequence[EspSuite], mode: EncapsulationMode) -> list[Words]:
    return [
        (
            one.encryption.keyword,
            "none" if one.integrity is None else one.integrity.hash,
            "none" if one.group is None else one.group.keyword,
            _MODES[mode],
        )
        for one in suites
    ]


def texts_phase2(suites: Sequence[EspSuite], mode: EncapsulationMode) -> str:
    """What we offer, for people."""
    return _list(_words_phase2(suites, mode))


def phase2_mismatch(suites: Sequence[EspSuite], mode: EncapsulationMode, offered: SaPayload) -> str:
    """Both sides' transforms, and what differs in those that come closest."""
    return _mismatch(_words_phase2(suites, mode), _texts_phase2(offered), _PARTS_PHASE2)
