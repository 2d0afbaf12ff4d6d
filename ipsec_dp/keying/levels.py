"""How loud an event of the IKE core is in the log.

ERROR is for what stays wrong until somebody does something about it. WARNING: something went wrong that is tried again, or may be a
sign of something. INFO: what somebody asked for, and what is routine; a clean `down` has nothing else. DEBUG: what changes nothing.
"""

from __future__ import annotations

import logging
from typing import Final

from ipsec_dp.ike.actions import Cause, Event, Kind, Origin

_ROUTINE: Final = frozenset({Cause.LOCAL, Cause.REPLACED, Cause.IDLE})  # asked for, or another is in its place
_ENDED: Final = frozenset({Kind.IKE_DOWN, Kind.CHILD_DOWN})
_FAILED: Final = frozenset({Kind.IKE_FAILED, Kind.CHILD_FAILED})
_WARNINGS: Final = frozenset({Kind.WARNING, Kind.IKEV1, Kind.HINT})
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
