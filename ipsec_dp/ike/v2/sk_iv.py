"""The IVs that one side of an IKE SA seals with: an epoch of 16 bits in front, a counter of 48 behind it (RFC 5282 §3).

No two sealers of one key may ever have the same. Whoever gives a key away either seals nothing with it any more (`retire`), or
keeps a stretch of IVs for itself, behind which the other one begins (`reserve`); no reservation rests on a clock. The epoch is for
sealers of one key that cannot ask each other; here it is 0.
"""

from __future__ import annotations

from typing import Final

from ipsec_dp.ike.errors import RetiredKeyError

EPOCH_BITS: Final = 16
COUNTER_BITS: Final = 48
FIRST_OF_NEXT: Final = 1 << COUNTER_BITS  # no counter reaches it: the IVs behind it are another epoch's


class SkIvs:
    """Of one direction. `end`: the first counter that is another's. `reservations`: strides that were reserved, ever."""

    __slots__ = ("end", "epoch", "next", "reservations", "retired")

    def __init__(self, first: int = 0, epoch: int = 0) -> None:
        """Raises ValueError for what does not fit its bits."""
        if not 0 <= epoch < 1 << EPOCH_BITS or not 0 <= first <= FIRST_OF_NEXT:
            raise ValueError(f"an SK IV of epoch {epoch} and counter {first}")
        self.next, self.epoch = first, epoch
        self.end = FIRST_OF_NEXT
        self.reservations = 0
        self.retired = False

    def check(self) -> None:
        """Raises RetiredKeyError where the key is another's now."""
        if self.retired:
            raise RetiredKeyError("the key of an IKE SA that was carried away seals no more")

    def take(self) -> int:
        """The next IV as a number of 64 bits. Raises RetiredKeyError; OverflowError when none is left."""
        self.check()
        if self.next >= self.end:
            raise OverflowError("no IV left under this key")
        counter = self.next
        self.next += 1
        return self.epoch << COUNTER_BITS | counter

    def retire(self) -> None:
        """From now on this side seals nothing."""
        self.retired = True

    def reserve(self, stride: int) -> int:
        """This side keeps the next `stride` counters and takes none behind them; the first one behind them, where another begins.
        What was reserved before is this side's again where it overlaps: of several exports only the last may be imported.

        Raises OverflowError where so many are not left, ValueError for none.
        """
        self.check()
        if stride < 1:
            raise ValueError(f"a stride of {stride} IVs")
        end = self.next + stride
        if end >= FIRST_OF_NEXT:
            raise OverflowError("no IV would be left behind the reserved ones")
        self.end = end
        self.reservations += 1
        return end
