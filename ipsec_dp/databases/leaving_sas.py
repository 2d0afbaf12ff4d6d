"""All SAs of a SAD as they leave for another process: retired first, and exported only when no loop has a packet of before."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ipsec_dp.databases.carried_sas import CarriedRecords, CarriedSa, CarriedSad
from ipsec_dp.dataplane import SaFlag
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import DataPlaneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipsec_dp.databases.sad_records import SaRecord
    from ipsec_dp.dataplane import DataPlane, SaHandle

_NONE_TOLD: Final = SaFlag(0)


def exported_one_by_one(plane: DataPlane, records: Mapping[SaHandle, SaRecord]) -> CarriedSad:
    """As `Sad.export`."""
    leaving, left_out = _leaving(plane, records)
    each = [CarriedSa(plane.export_sa(record.handle, record.suite), int(record.reported), int(record.handle)) for record in leaving]
    return CarriedSad(tuple(each), left_out)


def exported_records(plane: DataPlane, records: Mapping[SaHandle, SaRecord]) -> CarriedRecords:
    """As `Sad.export_all`."""
    leaving = list(records)
    left_out: tuple[tuple[int, str], ...] = ()
    try:
        octets = plane.export_many(leaving)
    except DataPlaneError as error:
        if error.errno == errno.EAGAIN:
            raise
        those, left_out = _leaving(plane, records)  # one of them cannot, which is looked for
        leaving = [record.handle for record in those]
        octets = plane.export_many(leaving)
    told = [records[handle].reported for handle in leaving]
    reported = {place: int(flags) for place, flags in enumerate(told) if flags != _NONE_TOLD}
    return CarriedRecords(record_layout(), list[int](leaving), reported, octets, left_out)


def _leaving(plane: DataPlane, records: Mapping[SaHandle, SaRecord]) -> tuple[list[SaRecord], tuple[tuple[int, str], ...]]:
    """The SAs that can leave, all of them now, and SPI and why of those that cannot. All are retired. As `Sad.export`."""
    plane.retire_many(list(records))
    leaving: list[SaRecord] = []
    left_out: list[tuple[int, str]] = []
    for handle, record in records.items():
        try:
            plane.check_leaving(handle)
        except DataPlaneError as error:
            if error.errno == errno.EAGAIN:
                raise
            left_out.append((record.spi, str(error)))
        else:
            leaving.append(record)
    return leaving, tuple(left_out)
