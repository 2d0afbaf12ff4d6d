"""What is wanted of a tunnel, and when it is tried anew."""

from __future__ import annotations

from msgspec import field

from ipsec_dp.ike.carried.model.values import PairValue
from ipsec_dp.ike.carried.part import CarriedPart, Value
from ipsec_dp.util.leaves import Here, Sealed


class WishValue(Value, frozen=True, array_like=True):
    pair: PairValue
    not_before: float
    failures: int
    delays: int
    why: str
    refused: bool
    up_at: float


class WaitingValue(Value, frozen=True, array_like=True):
    pair: PairValue
    rank: int
    asked: bool
    at: float


class WantedPart(CarriedPart, frozen=True, kw_only=True):
    """`wanted.WantedParts`."""

    wishes: Here[list[WishValue]] = field(default_factory=list)
    asked: Sealed[list[tuple[PairValue, bool]]] = field(default_factory=list)
    packets: Sealed[list[tuple[PairValue, PairValue]]] = field(default_factory=list)
    dismissed: Sealed[list[PairValue]] = field(default_factory=list)
    held: Sealed[list[PairValue]] = field(default_factory=list)
    up: Here[dict[int, tuple[PairValue, ...]]] = field(default_factory=dict)
    whole: Sealed[list[PairValue]] = field(default_factory=list)
    told: Here[dict[int, str]] = field(default_factory=dict)
    troubled: Sealed[bool] = False
    placed: Sealed[bool] = False
    floors: Here[list[tuple[int, bool, float]]] = field(default_factory=list)
    waiting: Here[list[WaitingValue]] = field(default_factory=list)
