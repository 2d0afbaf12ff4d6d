"""A line of the log as what it is written as: fields for programs, one JSON object, the text that people read."""

from __future__ import annotations

import copy
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.gateway.log_events import LIBRARY, NOTE, subsystem_of
from ipsec_dp.util.faults import trace_of
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

# What every line has, in the order of JSON; `trace` only where there is one.
FIELDS: Final = ("time", "level", "subsystem", "event", "tunnel", "text", "trace")


def settled(record: logging.LogRecord) -> logging.LogRecord:
    """The line as it stays: its text made, and nothing in it that goes on to change or holds anything else alive (a traceback has
    the frames of all who called, and what they knew). One whose text cannot be made says so."""
    made = copy.copy(record)
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever an argument's own code does
        text = f"a line of the log could not be made ({type(error).__name__}): {record.msg}"
    made.msg, made.args = shown(text, LINE), None
    made.trace = tuple(trace_of(record))
    made.exc_info = made.exc_text = made.stack_info = None
    return made


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """All that a line says, by FIELDS and then by its own; those never have names of FIELDS."""
    subsystem = subsystem_of(record.name)
    trace = getattr(record, "trace", ())
    own: Mapping[str, Any] = getattr(record, "fields", {})
    said = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "subsystem": subsystem,
        "event": getattr(record, "event", LIBRARY if subsystem == LIBRARY else NOTE),
        "tunnel": getattr(record, "tunnel", None),
        "text": record.getMessage(),
    } | ({"trace": list(trace)} if trace else {})
    return said | {
        name: shown(value, LINE) if isinstance(value, str) else value for name, value in own.items() if name not in FIELDS
    }


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record))
