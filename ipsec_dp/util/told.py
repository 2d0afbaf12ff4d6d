"""What a line of the log says to programs beside its text: the name of its event, the tunnel, and further fields.

`log.warning("…", …, extra=told("monitor_down", tunnel=name))`. `gateway/log_events.py` has the names, and what each means.
"""

from __future__ import annotations


def told(event: str, *, tunnel: str | None = None, **fields: str | float | bool | None) -> dict[str, object]:
    """For `extra` of a log call. A field of None says nothing, and is left out; an empty `tunnel` is none. Never a key."""
    said = {name: value for name, value in fields.items() if value is not None}
    return {"event": event, "tunnel": tunnel or None, "fields": said}
