"""The SAs of a SAD as values that go to another process: their state, and since when they are there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from msgspec import Struct

from ipsec_dp.dataplane import Direction, ExportedSa
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.leaves import Here, Sealed

if TYPE_CHECKING:
    from ipsec_dp.dataplane import SaParams


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
