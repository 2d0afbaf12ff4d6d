"""How loud an event of the IKE core is in the log, and by which name programs know it there.

ERROR is for what stays wrong until somebody does something about it. WARNING: something went wrong that is tried again, or may be a
sign of something. INFO: what somebody asked for, and what is routine; a clean `down` has nothing else. DEBUG: what changes nothing.
"""

from __future__ import annotations

import logging
from typing import Final

from ipsec_dp.ike.actions import NO_SPI, Cause, Event, Kind, Origin
from ipsec_dp.util.told import told

_ROUTINE: Final = frozenset({Cause.LOCAL, Cause.REPLACED, Cause.IDLE})  # asked for, or another is in its place
_ENDED: Final = frozenset({Kind.IKE_DOWN, Kind.CHILD_DOWN})
_FAILED: Final = frozenset({Kind.IKE_FAILED, Kind.CHILD_FAILED})
_WARNINGS: Final = frozenset({Kind.WARNING, Kind.IKEV1, Kind.HINT, Kind.NO_UDP})
_UNPROVEN: Final = frozenset({Origin.CLAIMED, Origin.STRANGER})


def level(event: Event) -> int:
    """One of logging's."""
    if event.kind is Kind.NOTE:
        return logging.DEBUG
    if event.kind in _WARNINGS:
        return logging.WARNING
    if event.kind not in _ENDED | _FAILED or event.cause in _ROUTINE:
        return logging.INFO
    if event.kind in _ENDED:
        return logging.INFO if event.cause is Cause.PEER else logging.WARNING
    return logging.WARNING if event.origin in _UNPROVEN else logging.ERROR


NAMES: Final = {
    Kind.IKE_UP: "ike_up",
    Kind.IKE_REKEYED: "ike_rekeyed",
    Kind.IKE_REAUTHENTICATED: "ike_reauthenticated",
    Kind.IKE_DOWN: "ike_down",
    Kind.IKE_FAILED: "ike_failed",
    Kind.CHILD_UP: "child_up",
    Kind.CHILD_REKEYED: "child_rekeyed",
    Kind.CHILD_DOWN: "child_down",
    Kind.CHILD_FAILED: "child_failed",
    Kind.WHOLE: "children_whole",
    Kind.PATH: "moved",
    Kind.NOTE: "ike_note",
    Kind.HINT: "ike_hint",
    Kind.IKEV1: "ikev1",
    Kind.WARNING: "ike_warning",
    Kind.NO_UDP: "no_udp",
}


def fields(event: Event) -> dict[str, object]:
    """For `extra` of its log call."""
    return told(
        NAMES[event.kind],
        tunnel=event.tunnel,
        cause=None if event.cause is None else str(event.cause),
        child=event.child,
        exchange=event.exchange or None,
        unproven=True if event.origin in _UNPROVEN else None,
        spi_i=None if event.spi_i == NO_SPI else event.spi_i.hex(),
        spi_r=None if event.spi_r == NO_SPI else event.spi_r.hex(),
    )
