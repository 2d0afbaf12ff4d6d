"""Where a control socket is: its directory is made, what a dead gateway left there removed, the socket bound with its rights."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.control_rights import make_directory, share
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from pathlib import Path

PATH_OCTETS_MAX = 107  # sun_path of unix(7), without the octet that ends it
ELSEWHERE = "; --control PATH puts it elsewhere"
BACKLOG = 100


class ListeningPlace(Protocol):
    """Of one control socket."""

    def listen(self) -> socket.socket:
        """Listens there. Raises ControlError when another daemon answers there already, or there can be no socket."""

    def remove(self) -> None:
        """Nobody finds it any more."""


class InheritedPlace:
    """The control socket as the other process has it; `otherwise` makes it, and takes it away."""

    def __init__(self, listening: socket.socket, otherwise: ListeningPlace) -> None:
        self._listening: socket.socket | None = listening
        self._otherwise = otherwise

    def listen(self) -> socket.socket:
        """The same; once. ControlError."""
        listening, self._listening = self._listening, None
        return self._otherwise.listen() if listening is None else listening

    def remove(self) -> None:
        self._otherwise.remove()


class ControlPlace:
    """One that this process may write in; members of `group` may connect too, if one is given."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.path, self._group = path, group

    def listen(self) -> socket.socket:
        check_length(self.path)
        try:
            make_directory(self.path.parent, self._group)
            _take_over(self.path)
            return self._bound()
        except OSError as error:
            raise ControlError(f"the control socket {self.path} cannot be made: {os_errors.text_of(error)}{ELSEWHERE}") from error

    def _bound(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            made.bind(str(self.path))
        except OSError:
            made.close()
            raise
        finally:
            os.umask(before)
        try:
            if self._group is not None:
                share(self.path, self._group)
            made.listen(BACKLOG)
        except (OSError, ControlError):
            made.close()
            raise
        return made

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def check_length(path: Path) -> None:
    """Raises ControlError for what the kernel takes as no socket's path."""
    octets = len(os.fsencode(path))
    if octets > PATH_OCTETS_MAX:
        raise ControlError(
            f"the control socket's path has {octets} octets, and {PATH_OCTETS_MAX} are the most: {path}; give a shorter one with "
            "--control PATH"
        )


def _take_over(path: Path) -> None:
    """Removes a socket that a dead daemon left. Raises ControlError when a living one answers, or something else is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path} exists and is no socket; remove it or give another --control path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # too busy to take another client, so alive
    raise ControlError(f"a gateway is already running at {path}; stop it with: ipsec-dp down --control {path}")
