"""The whole of what is carried of IKE: both versions, and which of them a tunnel speaks."""

from __future__ import annotations

from msgspec import field

from ipsec_dp.ike.carried.isakmp_model import Ikev1Part
from ipsec_dp.ike.carried.model import ChoicePart, Ikev2Part, LeftOut
from ipsec_dp.ike.carried.part import CarriedPart
from ipsec_dp.util.leaves import Here, Sealed


class CarriedIke(CarriedPart, frozen=True, kw_only=True):
    """`at`: when it was exported. `last_number`: of the CHILD_SA that was made last."""

    at: Here[float]
    last_number: Here[int]
    ikev2: Sealed[Ikev2Part]
    ikev1: Sealed[Ikev1Part | None] = None
    choices: Sealed[list[ChoicePart]] = field(default_factory=list)
    left_out: Sealed[list[LeftOut]] = field(default_factory=list)
