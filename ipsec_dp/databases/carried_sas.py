"""The SAs of a SAD as they go to another process, where they wait: one by one as values, or as records of the data plane."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from ipsec_dp.dataplane import ExportedSa, SaHandle
from ipsec_dp.dataplane.moving import record_layout, records_of_values
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.util.leaves import Here, Sealed
from ipsec_dp.util.wiping import wipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.dataplane import OuterPath

ELSEWHERE: Final = b"\0"
"""In the place of a key: too short to be one of any suite."""


class CarriedSa(Struct, frozen=True, forbid_unknown_fields=True):
    """`reported`: conditions that were acted on, or told, already. `handle`: what its source has it by."""

    sa: Sealed[ExportedSa]
    reported: Sealed[int]
    handle: Here[int]


class CarriedSad(Struct, frozen=True, forbid_unknown_fields=True):
    """Every SA that could be exported; whoever has it wipes it. `left_out`: SPI and why, of those that could not."""

    sas: Sealed[tuple[CarriedSa, ...]]
    left_out: Sealed[tuple[tuple[int, str], ...]] = ()

    def wipe(self) -> None:
        """Overwrites all keying material with zeros."""
        for each in self.sas:
            each.sa.wipe()


class KeysElsewhere:
    """For `ike.carried.keys.KeysOf`, where keys go with the SAs and not with IKE; `senders`: the inbound SPIs of the CHILD_SAs that
    send, each with others that are not looked at."""

    def __init__(self, senders: Iterable[tuple[int, int, OuterPath]]) -> None:
        self._senders = {spi_in for spi_in, _, _ in senders}

    def __call__(self, spi: int) -> tuple[bytes, bytes]:
        """In the place of the keys of a CHILD_SA, by its inbound SPI."""
        return ELSEWHERE, ELSEWHERE if spi in self._senders else b""


class CarriedRecords(Struct, frozen=True, forbid_unknown_fields=True):
    """As `CarriedSad`, for a process of the same `layout` (`record_layout`) in which they wait: one record of the data plane for
    each of `handles`, as the source has them, in their order. `reported`: by place, where there is any."""

    layout: Here[bytes]
    handles: Here[list[int]]
    reported: Sealed[dict[int, int]]
    records: Here[bytearray]
    left_out: Sealed[tuple[tuple[int, str], ...]] = ()

    def __repr__(self) -> str:
        return f"<CarriedRecords of {len(self.handles)} SAs>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []

    def wipe(self) -> None:
        """Overwrites all keying material with zeros."""
        wipe(self.records)

    def check(self) -> None:
        """Raises DataPlaneError (EINVAL) for what cannot be read here."""
        if self.layout != record_layout():
            raise DataPlaneError(errno.EINVAL, "the records of SAs are of another layout: they are to be carried one by one")


class NotCarried(NamedTuple):
    """`waiting`: SAs for which no record came, which wait on; `rest`: as the source has them, those that nobody waited for;
    `refused`: SPI and why, of those that cannot go on from their records, which wait on too."""

    waiting: tuple[SaHandle, ...]
    rest: tuple[int, ...]
    refused: tuple[tuple[int, str], ...] = ()


def records_of(carried: CarriedSad) -> CarriedRecords:
    """SAs that came one by one, from a program that lays records out otherwise, as records of ours; what cannot be one is left out.
    All keying material in it is wiped."""
    try:
        records, refused = records_of_values([each.sa for each in carried.sas])
    finally:
        carried.wipe()
    sas = [each for place, each in enumerate(carried.sas) if place not in refused]
    left_out = (*carried.left_out, *((carried.sas[place].sa.spi, why) for place, why in refused.items()))
    reported = {place: each.reported for place, each in enumerate(sas) if each.reported}
    return CarriedRecords(record_layout(), [each.handle for each in sas], reported, records, left_out)
