"""What strangers have cost so far: ISAKMP SAs that are half open, fragments that are kept for them, refusals, key exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.strangers import LIMITS, Allowance, HalfOpenSas, HeldOctets, KeyExchanges

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.context import IsakmpContext


class IsakmpAdmission:
    """By the limits of `strangers.LIMITS`, for all ISAKMP SAs of a gateway."""

    def __init__(self) -> None:
        self.half_open: HalfOpenSas[IsakmpContext] = HalfOpenSas()
        self.fragments: HeldOctets[IsakmpContext] = HeldOctets()
        self.refusals = Allowance(LIMITS.answers_a_second)
        self.key_exchanges = KeyExchanges()

    def discard(self, session: IsakmpContext) -> None:
        """It is a stranger's no more, or has ended."""
        self.half_open.discard(session)
        self.fragments.discard(session)
