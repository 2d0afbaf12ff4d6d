"""Which export may be imported. Of several of one key only the last one may, and once: their strides of SK IVs overlap.

No import can know by itself whether there was a later export, so whoever hands state over keeps a `LastExport`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.carried.model import Exact, Reserved
from ipsec_dp.ike.carried.part import CarriedStateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipsec_dp.ike.carried.whole import CarriedIke

Serials = dict[tuple[bytes, bytes, bool], tuple[int, bool]]
"""By IKE SA (SPIi, SPIr, whether it is the initiator's end): how many strides of its key were reserved, and whether it is exact,
which is after all of them. Nothing of it is secret."""


def serials_of(model: CarriedIke) -> Serials:
    return {
        (one.spi_i, one.spi_r, one.initiator): (one.sk_iv.serial, isinstance(one.sk_iv, Exact))
        for one in model.ikev2.sas
        if one.sk_iv is not None
    }


def is_reserved(model: CarriedIke) -> bool:
    """Whether its source goes on."""
    return any(isinstance(one.sk_iv, Reserved) for one in model.ikev2.sas)


class LastExport:
    """Of one gateway, wherever it runs: `note` is called with each export, in their order and before anybody gets it, and `admit`
    by each import."""

    def __init__(self) -> None:
        self._last: Serials = {}
        self._taken = True

    def note(self, serials: Mapping[tuple[bytes, bytes, bool], tuple[int, bool]]) -> None:
        """From now on no other one is admitted. Raises CarriedStateError for one that is not later than the last."""
        if any(rank <= self._last[name] for name, rank in serials.items() if name in self._last):
            raise CarriedStateError("there was a later export, or this very one: it is not noted")
        self._last, self._taken = dict(serials), False

    def admit(self, serials: Serials) -> None:
        """Raises CarriedStateError for any but the last one that was noted, and for that when it was admitted before."""
        if serials != self._last:
            raise CarriedStateError(
                "the state is not of the last export, so its keys may have sealed what its import would seal with"
            )
        if self._taken:
            raise CarriedStateError("the state was imported before: of two that have it both would seal with its keys")
        self._taken = True
