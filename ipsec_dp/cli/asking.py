"""Asking a running gateway: which one is meant, what it answers, and how people read that."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from ipsec_dp.cli.options import loading
from ipsec_dp.config.model import CONTROL_DIRECTORY, STATE_DIRECTORY, control_socket
from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway.control_rights import how_to_read
from ipsec_dp.util.text import shown_all

if TYPE_CHECKING:
    from ipsec_dp.gateway.messages import ControlRequest

CONFIGURATIONS = Path("/etc/ipsec-dp")  # of conf/ipsec-dp@.service

Answered = TypeVar("Answered", bound=msgspec.Struct)


def find_control(directory: Path = CONTROL_DIRECTORY, host: str | None = None) -> Path:
    """The control socket when none was named: that of the host's own name, else the only one. Raises NoDaemonError, UsageError,
    ControlError where it may not be looked for."""
    own = directory / control_socket(platform.node() if host is None else host).name
    sockets: list[Path] = []
    try:
        sockets += sorted(
            path for name in os.listdir(directory) if name.endswith(".sock") and (path := directory / name).is_socket()
        )
    except (FileNotFoundError, NotADirectoryError):
        pass  # no gateway of this machine has started since it booted
    except PermissionError as error:
        how = how_to_read(own)
        raise ControlError(
            f"cannot read {directory}, so whether a gateway runs here is not known: {error.strerror}; {how}"
        ) from error
    if own in sockets:
        return own
    if len(sockets) > 1:
        raise click.UsageError(f"several gateways run here; add --control with one of {', '.join(map(str, sockets))}")
    if not sockets:
        raise NoDaemonError(f"no gateway runs here: {directory} holds no control socket; start one with: ipsec-dp up FILE")
    return sockets[0]


def ask(control: Path | None, request: ControlRequest, timeout: float | None = None) -> dict[str, object]:
    """What the running gateway answers, with all that it says, for programs; `read` is for people. Raises NoDaemonError,
    ControlError."""
    path = find_control() if control is None else control
    limit = {} if timeout is None else {"timeout": timeout}
    with loading():
        from ipsec_dp.gateway.control import request as send
    message = {name: value for name, value in msgspec.to_builtins(request).items() if value is not None}
    answer = shown_all(send(path, message, **limit))
    if answer is not None and not isinstance(answer, dict):
        raise ControlError(f"{path}: the answer to {message['verb']} is not an object")
    return answer or {}


def with_what_is_left(error: NoDaemonError, control: Path | None) -> NoDaemonError:
    """What gateways that do not run left closed, too: those of the tables, the one that is asked for, those of this host's
    configurations and those that ran here. Of any other a start that failed for want of nft has left routes that tell no name."""
    with loading():
        from ipsec_dp.gateway.stopped import advice, configured_names, recorded_names
    asked = platform.node() if control is None else control.stem
    left = advice([asked, *configured_names(CONFIGURATIONS), *recorded_names(CONTROL_DIRECTORY, STATE_DIRECTORY)])
    return NoDaemonError(f"{error}; {left}" if left else str(error))


def read(answer: dict[str, object], kind: type[Answered]) -> Answered:
    """The answer as this version knows it; what a newer gateway says besides is left out. Raises ControlError."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ControlError(f"the gateway's answer is not of a version that this command knows: {error}") from error
