"""`status --follow`: what happens to a gateway's tunnels, a line an event."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from ipsec_dp.cli.asking import find_control
from ipsec_dp.cli.options import loading, say, show_json
from ipsec_dp.errors import NoDaemonError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ipsec_dp.gateway.messages import FollowRequest

NAME_WIDTH: Final = 18  # of the longest name of an event


def text_of(event: dict[str, object]) -> str:
    """ "21:04:05 tunnel_up          to-b: up"; the time is this host's."""
    at, tunnel = str(event.get("at", "")), event.get("tunnel")
    with contextlib.suppress(ValueError):  # of a gateway of another version
        at = datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
    text = f"{at} {event.get('event', '?')!s:{NAME_WIDTH}} {'' if tunnel is None else f'{tunnel}: '}{event.get('text', '')}"
    return f"{text} (not authenticated)" if event.get("unproven") is True else text


def show(events: Iterable[dict[str, object]], *, as_json: bool) -> int:
    """Each of them, until Ctrl-C (exit status 0) or the gateway stops (that of NoDaemonError: there is none any more)."""
    try:
        for event in events:
            if as_json:
                show_json(event)
            else:
                say(text_of(event))
    except KeyboardInterrupt:
        return 0
    return NoDaemonError.exit_status


def follow(control: Path | None, request: FollowRequest, *, as_json: bool) -> int:
    """The events of the gateway. Raises NoDaemonError, ControlError."""
    path = find_control() if control is None else control
    with loading():
        from ipsec_dp.gateway.control import follow as events
    message = {name: value for name, value in msgspec.to_builtins(request).items() if value is not None}
    return show(events(path, message), as_json=as_json)
