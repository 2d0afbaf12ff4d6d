"""What `status --follow --json` says, a line an event: schema 1, to which later versions only add.

`python -m ipsec_dp.gateway.stream_event > conf/events.schema.json` writes its JSON schema. Nothing here loads the C core.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import msgspec

from ipsec_dp.util.text import shown_all

SCHEMA: Final = 1

EventName = Literal[
    "begin",
    "tunnel_up",
    "tunnel_partial",
    "tunnel_failed",
    "tunnel_down",
    "ike_up",
    "ike_rekeyed",
    "ike_reauthenticated",
    "ike_down",
    "ike_failed",
    "child_up",
    "child_rekeyed",
    "child_down",
    "child_failed",
    "moved",
    "monitor_up",
    "monitor_down",
    "drops",
    "missed",
    "end",
]


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event; a field that says nothing is left out. `at`: date and time, UTC; `text`: all of it for a person.

    Of `begin`: `gateway`. Of `tunnel_…`: `state` and the one before (`was`), as `status` names them, and `error`, its last_error.
    Of `ike_…`, `child_…` and `moved`: `cause`, the CHILD_SA's number (`child`), and `unproven` where whoever caused it has not
    shown who he is. Of `drops`: `reason`, and `count` of its packets until now. Of `missed`: `count` of the events that are not
    told, since they were not read in time.
    """

    schema: int
    event: EventName
    at: str
    text: str
    gateway: str | None = None
    tunnel: str | None = None
    state: str | None = None
    was: str | None = None
    error: str | None = None
    cause: str | None = None
    child: int | None = None
    unproven: bool = False
    reason: str | None = None
    count: int | None = None

    @property
    def line(self) -> bytes:
        """Its JSON, as it is sent."""
        return json.dumps(shown_all(msgspec.to_builtins(self))).encode() + b"\n"


def schema_text() -> str:
    """The schema as it stands in conf/events.schema.json: JSON Schema (2020-12)."""
    made: dict[str, Any] = msgspec.json.schema(StreamEvent)
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ipsec-dp events", **made}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
