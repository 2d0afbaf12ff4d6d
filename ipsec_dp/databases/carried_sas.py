"""The SAs of a SAD as values that go to another process: their state, and since when they are there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

from ipsec_dp.dataplane import Direction, ExportedSa, SaHandle
from ipsec_dp.dataplane.moving import RECORD_OCTETS, put_record, record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.leaves import Here, Sealed
from ipsec_dp.util.wiping import wipe

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from ipsec_dp.dataplane import OuterPath, SaParams

ELSEWHERE: Final = b"\0"
"""In the place of a key: too short to be one of any suite."""


class CarriedSa(Struct, frozen=True, forbid_unknown_fields=True):
    """`installed`: seconds of this host's clock. `reported`: conditions that were acted on, or told, already. `handle`: what its
    source has it by."""

    sa: Sealed[ExportedSa]
    installed: Here[float]
    reported: Sealed[int]
    handle: Here[int] = 0


class CarriedSad(Struct, frozen=True, forbid_unknown_fields=True):
    """Every SA that could be exported; whoever has it wipes it. `left_out`: SPI and why, of those that could not."""

    sas: Sealed[tuple[CarriedSa, ...]]
    left_out: Sealed[tuple[tuple[int, str], ...]] = ()

    def wipe(self) -> None:
        """Overwrites all keying material with zeros."""
        for each in self.sas:
            each.sa.wipe()

    def of(self, direction: Direction, spi: int) -> list[ExportedSa]:
        """Those with an SPI: one inbound, but peers choose the outbound ones, and two may have one."""
        return [each.sa for each in self.sas if (each.sa.direction, each.sa.spi) == (direction, spi)]


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
    each of `handles`, as the source has them. `reported`: by place, where there is any."""

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
        if len(self.records) != len(self.handles) * RECORD_OCTETS:
            raise DataPlaneError(errno.EINVAL, f"{len(self.records)} octets are no records of {len(self.handles)} SAs")


class NotCarried(NamedTuple):
    """`waiting`: SAs for which no record came, which wait on; `rest`: as the source has them, those that nobody waited for."""

    waiting: tuple[SaHandle, ...]
    rest: tuple[int, ...]


def in_order(
    carried: CarriedRecords, ours: Mapping[int, SaHandle], waiting: Container[SaHandle]
) -> tuple[list[SaHandle], list[int], tuple[int, ...]]:
    """The SAs that both sides have, their places among the records, and the others. `ours`: by the source's handle."""
    found = [ours.get(handle) for handle in carried.handles]
    places = [place for place, handle in enumerate(found) if handle is not None and handle in waiting]
    rest = () if len(places) == len(found) else tuple({*carried.handles} - {carried.handles[place] for place in places})
    return [handle for place in places if (handle := found[place]) is not None], places, rest


def records_at(carried: CarriedRecords, places: list[int]) -> bytearray:
    """The records at these places, in their order; the others are wiped, and so are all in `carried`."""
    if places == list(range(len(carried.handles))):
        return carried.records
    found = bytearray(len(places) * RECORD_OCTETS)
    view = memoryview(carried.records)
    for to, place in enumerate(places):
        found[to * RECORD_OCTETS : (to + 1) * RECORD_OCTETS] = view[place * RECORD_OCTETS : (place + 1) * RECORD_OCTETS]
    view.release()
    carried.wipe()
    return found


def records_of(carried: CarriedSad) -> CarriedRecords:
    """SAs that came one by one, from a program that lays records out otherwise, as records of ours. Raises DataPlaneError (EINVAL),
    and none is left."""
    records = bytearray(len(carried.sas) * RECORD_OCTETS)
    try:
        for place, each in enumerate(carried.sas):
            put_record(each.sa, records, place)
    except DataPlaneError:
        wipe(records)
        raise
    finally:
        carried.wipe()
    reported = {place: each.reported for place, each in enumerate(carried.sas) if each.reported}
    return CarriedRecords(record_layout(), [each.handle for each in carried.sas], reported, records, carried.left_out)


class Arrivals:
    """What was carried and waits for whoever installs it; each once."""

    def __init__(self, carried: CarriedSad) -> None:
        self._waiting: dict[tuple[int, int], list[CarriedSa]] = {}
        for each in carried.sas:
            self._waiting.setdefault((each.sa.direction, each.sa.spi), []).append(each)

    @property
    def rest(self) -> list[ExportedSa]:
        """Those that nobody has installed."""
        return [each.sa for waiting in self._waiting.values() for each in waiting]

    def take(self, params: SaParams) -> CarriedSa:
        """The state of this SA. Raises DataPlaneError (ENOKEY) when there is none: without it the same key would begin anew with
        numbers that were used."""
        waiting = self._waiting.get((params.direction, params.spi), [])
        for place, each in enumerate(waiting):
            if each.sa.is_of(params):
                return waiting.pop(place)
        raise DataPlaneError(errno.ENOKEY, f"no state was carried of the {params.direction.name.lower()} SA {spi_text(params.spi)}")
