"""What is wanted of a tunnel, between the core and the model, in every version of IKE."""

from __future__ import annotations

from functools import cache

from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.questions import Rank, Turn
from ipsec_dp.ike.wanted import Wanted, WantedParts, Wish


def wanted_part(wanted: Wanted) -> m.WantedPart:
    parts = wanted.parts()
    return m.WantedPart(
        wishes=[
            m.WishValue(v.pair_value(pair), wish.not_before, wish.failures, wish.delays, wish.why, wish.refused, wish.up_at)
            for pair, wish in parts.wishes.items()
        ],
        asked=[(v.pair_value(pair), by_person) for pair, by_person in parts.asked.items()],
        packets=[(v.pair_value(pair), v.pair_value(packet)) for pair, packet in parts.packets.items()],
        dismissed=[v.pair_value(pair) for pair in sorted(parts.dismissed)],
        held=[v.pair_value(pair) for pair in sorted(parts.held)],
        up={number: v.pair_values(pairs) for number, pairs in parts.up.items()},
        whole=[v.pair_value(pair) for pair in sorted(parts.whole)],
        told=dict(parts.told),
        troubled=parts.troubled,
        placed=parts.placed,
        floors=[(place.rank, place.asked, at) for place, at in parts.floors.items()],
        waiting=[m.WaitingValue(v.pair_value(pair), place.rank, place.asked, at) for pair, place, at in parts.waiting],
    )


def wanted_parts(part: m.WantedPart) -> WantedParts:
    return WantedParts(
        {
            v.pair_of(one.pair): Wish(one.not_before, one.failures, one.delays, one.why, one.refused, one.up_at)
            for one in part.wishes
        },
        {v.pair_of(pair): by_person for pair, by_person in part.asked},
        {v.pair_of(pair): v.pair_of(packet) for pair, packet in part.packets},
        set(v.pairs_of(part.dismissed)),
        set(v.pairs_of(part.held)),
        {number: v.pairs_of(pairs) for number, pairs in part.up.items()},
        set(v.pairs_of(part.whole)),
        dict(part.told),
        part.troubled,
        part.placed,
        {_turn(rank, asked): at for rank, asked, at in part.floors},
        [(v.pair_of(one.pair), _turn(one.rank, one.asked), one.at) for one in part.waiting],
    )


@cache
def _turn(rank: int, asked: bool) -> Turn:
    """The same few are in each tunnel. Raises ValueError: there is no such rank."""
    return Turn(Rank(rank), asked)
