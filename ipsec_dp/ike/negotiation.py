"""What two sides' proposals end in: chosen as responder, checked as initiator, kept at a rekey, explained when nothing fits.

RFC 7296 §2.7 and §3.3, of additional key exchanges RFC 9370. The responder's order of preference decides.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ipsec_dp.ike import oddities
from ipsec_dp.ike.proposal import Proposal, ProposalError, by_type, names, text
from ipsec_dp.ike.suites import MAY_BE_NONE, EspSuite, IkeSuite
from ipsec_dp.ipsec.transforms import ADDITIONAL_KEY_EXCHANGES, NO_ESN, NONE, Transform, TransformType, type_text
from ipsec_dp.util.text import named

_MAY_BE_LEFT_OUT: Final = frozenset({NO_ESN, *(Transform(kind, NONE) for kind in ADDITIONAL_KEY_EXCHANGES)})
_ODDITIES: Final = 2  # that a text explains

# --- what is offered -------------------------------------------------------------------------------------------------


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
    kept = by_type(suite.transforms)
    free = {TransformType.KE, *ADDITIONAL_KEY_EXCHANGES} if isinstance(suite, EspSuite) else set()
    found: dict[tuple[Transform, ...], Proposal] = {}
    for mine in no_weaker(suite, ours):
        types = by_type(mine.transforms)
        left_out = {kind for kind in types.keys() - kept.keys() - free if Transform(kind, NONE) in types[kind]}
        if types.keys() - free - left_out == kept.keys() and all(transforms[0] in types[t] for t, transforms in kept.items()):
            transforms = tuple(t for t in mine.transforms if t.type in free or t in kept.get(t.type, ()))
            found.setdefault(transforms, replace(mine, number=len(found) + 1, transforms=transforms))
    return tuple(found.values())


# --- what is chosen --------------------------------------------------------------------------------------------------


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
    our_types, their_types = by_type(mine.transforms), by_type(theirs.transforms)
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
    if not ours and transform_type in MAY_BE_NONE and none in theirs:
        return (none,)
    if not theirs and not _MAY_BE_LEFT_OUT.isdisjoint(ours):  # NO_ESN: by some peers where §3.3.3 wants it
        return ()
    return None


def accept(offered: Sequence[Proposal], answer: Sequence[Proposal]) -> Proposal:
    """As initiator: the peer's one choice, which must be from what we offered; else ProposalError (RFC 7296 §3.3.6)."""
    if len(answer) != 1:
        raise ProposalError(f"the peer chose {len(answer)} proposals")
    chosen = answer[0]
    mine = next((p for p in offered if (p.number, p.protocol) == (chosen.number, chosen.protocol)), None)
    if mine is None or len(chosen.spi) != len(mine.spi) or (chosen.spi and not chosen.spi_holds):
        raise ProposalError(f"the peer chose a proposal that was not offered: {text(answer)}{_odd(answer)}")
    ours, theirs = by_type(mine.transforms), by_type(chosen.transforms)
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
        return transform_type in MAY_BE_NONE and picked == [Transform(transform_type, NONE)]
    return (len(picked) == 1 and picked[0] in ours) or (not picked and not _MAY_BE_LEFT_OUT.isdisjoint(ours))


# --- for people ------------------------------------------------------------------------------------------------------


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
    our_types, their_types = by_type(mine.transforms), by_type(theirs.transforms)
    return [
        f"{type_text(t)} (ours {names(our_types.get(t, ()))}, peer's {names(their_types.get(t, ()))})"
        for t in sorted(our_types.keys() | their_types.keys())
        if _pick(t, our_types.get(t, ()), their_types.get(t, ())) is None
    ]
