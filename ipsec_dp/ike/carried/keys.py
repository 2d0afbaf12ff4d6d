"""What the rest of the gateway gives to an export, and dates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from ipsec_dp.ike.octets import Buffer

KeysOf = Callable[[int], tuple[Buffer, Buffer]]
"""The ESP keys of a CHILD_SA by its inbound SPI, as `InstallInbound` and `InstallOutbound` have them; empty: there is no such SA.
They are the data plane's, since nothing here keeps them."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def no_keys(_spi: int) -> tuple[bytes, bytes]:
    """None is known."""
    return b"", b""


def from_date(date: datetime | None) -> float | None:
    """Seconds of the calendar; None: never."""
    return None if date is None else (date - _EPOCH) / timedelta(seconds=1)


def to_date(seconds: float | None) -> datetime | None:
    return None if seconds is None else _EPOCH + timedelta(seconds=seconds)
