"""What a session is given of the world: randomness, SPIs, the calendar, what the data plane saw. No clock: `now` is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

Rng = Callable[[int], bytes]
"""Octets wanted -> that many unpredictable octets."""


class Activity(NamedTuple):
    """When ESP of a CHILD_SA was last received (its ICV held) and last sent, in the seconds of `now`; -inf: never."""

    received: float
    sent: float


NEVER = float("-inf")
SILENT = Activity(NEVER, NEVER)


@dataclass(frozen=True, slots=True)
class Environment:
    """`allocate_spi`: an SPI for an inbound SA of a tunnel, by its name, ≥ 256, held until an action installs or
    releases it; None when there is none left.

    `utc`: the date and time, with time zone, at `now`; for certificates. `activity`: of a CHILD_SA by its number, `SILENT` when it
    is not known; it is asked when a timer is due, not for every packet. None of them may raise.
    """

    rng: Rng
    allocate_spi: Callable[[str], int | None]
    utc: Callable[[float], datetime]
    activity: Callable[[int], Activity] = lambda _child: SILENT
