"""The SAs of a SAD as values that go to another process: their state, and since when they are there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from ipsec_dp.dataplane import Direction, ExportedSa, SaHandle
from ipsec_dp.dataplane.moving import RECORD_OCTETS, record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.leaves import Here, Sealed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.dataplane import Endpoint, OuterPath, SaParams

_End = tuple[bytes, int, int]


class CarriedSa(Struct, frozen=True, forbid_unknown_fields=True):
    """`installed`: seconds of this host's clock. `reported`: conditions that were acted on, or told, already."""

    sa: Sealed[ExportedSa]
    installed: Here[float]
    reported: Sealed[int]


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


class CarriedKeys:
    """The keying material among what is carried, for `ike.carried.keys.KeysOf`; `pairs`: inbound SPI, outbound SPI and path of
    each CHILD_SA that sends."""

    def __init__(self, carried: CarriedSad, pairs: Iterable[tuple[int, int, OuterPath]]) -> None:
        self._inbound = {each.sa.spi: each.sa for each in carried.sas if each.sa.direction == Direction.INBOUND}
        self._outbound = {
            (each.sa.spi, each.sa.path.ends): each.sa
            for each in carried.sas
            if each.sa.direction == Direction.OUTBOUND and each.sa.path is not None
        }
        self._senders = {spi_in: (spi_out, (path.local, path.remote)) for spi_in, spi_out, path in pairs}

    def __call__(self, spi: int) -> tuple[bytearray | bytes, bytearray | bytes]:
        """Of a CHILD_SA by its inbound SPI; empty: there is no such SA."""
        inbound = self._inbound.get(spi)
        outbound = self._outbound.get(self._senders[spi]) if spi in self._senders else None
        return b"" if inbound is None else inbound.keymat, b"" if outbound is None else outbound.keymat


class CarriedRow(Struct, frozen=True, array_like=True):
    """Whose record it is; `ends`: address, port and scope of both ends of an outbound SA's path. The rest as in `CarriedSa`."""

    direction: Sealed[int]
    spi: Sealed[int]
    suite: Sealed[str]
    ends: Sealed[tuple[_End, _End] | None]
    installed: Here[float]
    reported: Sealed[int]


class CarriedRecords(Struct, frozen=True, forbid_unknown_fields=True):
    """As `CarriedSad`, for a process of the same `layout` (`record_layout`): one record of the data plane for each row."""

    layout: Here[bytes]
    rows: Sealed[tuple[CarriedRow, ...]]
    records: Here[bytearray]
    left_out: Sealed[tuple[tuple[int, str], ...]] = ()

    def __repr__(self) -> str:
        return f"<CarriedRecords of {len(self.rows)} SAs>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []

    def wipe(self) -> None:
        """Overwrites all keying material with zeros."""
        self.records[:] = bytes(len(self.records))

    def check(self) -> None:
        """Raises DataPlaneError (EINVAL) for what cannot be read here."""
        if self.layout != record_layout():
            raise DataPlaneError(errno.EINVAL, "the records of SAs are of another layout: they are to be carried one by one")
        if len(self.records) != len(self.rows) * RECORD_OCTETS:
            raise DataPlaneError(errno.EINVAL, f"{len(self.records)} octets are no records of {len(self.rows)} SAs")


class NotCarried(NamedTuple):
    """`waiting`: SAs for which no record came, which wait on; `rest`: SPIs of the records that nobody waited for."""

    waiting: tuple[SaHandle, ...]
    rest: tuple[int, ...]


Whose = tuple[int, int, str, tuple[_End, _End] | None]
"""What an SA is known by when its key is not there: direction, SPI, suite, and the ends of its path, for peers choose SPIs."""


def _end(end: Endpoint) -> _End:
    return end.address.packed, end.port, end.scope


def whose(direction: Direction, spi: int, suite: str, path: OuterPath | None) -> Whose:
    return int(direction), spi, suite, None if path is None else (_end(path.local), _end(path.remote))


def in_order(carried: CarriedRecords, waiting: Iterable[tuple[Whose, SaHandle]]) -> tuple[list[SaHandle], list[int], NotCarried]:
    """The SAs that both sides have, their places among the rows, and the others. Of two that are known by the same none is taken:
    which key is whose cannot be told."""
    places: dict[Whose, list[int]] = {}
    for place, row in enumerate(carried.rows):
        places.setdefault((row.direction, row.spi, row.suite, row.ends), []).append(place)
    handles: dict[Whose, list[SaHandle]] = {}
    for who, handle in waiting:
        handles.setdefault(who, []).append(handle)
    both = {who: (found[0], places[who][0]) for who, found in handles.items() if len(found) == len(places.get(who, ())) == 1}
    lacking = tuple(handle for who, found in handles.items() if who not in both for handle in found)
    taken = {place for _, place in both.values()}
    rest = tuple(row.spi for place, row in enumerate(carried.rows) if place not in taken)
    return [handle for handle, _ in both.values()], [place for _, place in both.values()], NotCarried(lacking, rest)


def records_at(carried: CarriedRecords, places: list[int]) -> bytearray:
    """The records at these places, in their order; the others are wiped, and so are all in `carried`."""
    if places == list(range(len(carried.rows))):
        return carried.records
    found = bytearray(len(places) * RECORD_OCTETS)
    view = memoryview(carried.records)
    for to, place in enumerate(places):
        found[to * RECORD_OCTETS : (to + 1) * RECORD_OCTETS] = view[place * RECORD_OCTETS : (place + 1) * RECORD_OCTETS]
    view.release()
    carried.wipe()
    return found


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
