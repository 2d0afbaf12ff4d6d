"""All of IKE as it goes to another process, piece by piece, with what is wanted of the tunnels of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ike.carried.carry import IkeSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.carried.carry import CarriedCore
    from ipsec_dp.ike.carried.keys import KeysOf
    from ipsec_dp.keying.initiation import IntentState


class LeavingIke(NamedTuple):
    """`pieces`: so many (`number`), each with what is wanted of its tunnels, and `others` of those that are in none."""

    number: int
    others: dict[str, IntentState]
    pieces: Iterator[tuple[bytearray, dict[str, IntentState]]]


def leaving_ike(core: CarriedCore, keys: KeysOf, wanted: dict[str, IntentState], now: float) -> LeavingIke:
    """The IKE SAs are retired as they are given. `wanted`: of every tunnel. Raises CarriedStateError."""
    source = IkeSource(core, now, keys)
    pieces, others = source.pieces(), dict(wanted)
    intents = [{name: others.pop(name) for name in piece.tunnels if name in others} for piece in pieces]
    each = ((one.octets, of_these) for one, of_these in zip(source.each(pieces), intents, strict=True))
    return LeavingIke(len(pieces), others, each)
