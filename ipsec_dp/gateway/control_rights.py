"""Who asks at the control socket, and what he may: root everything; a member of `[gateway] control_group` may read.

The kernel says who connected (SO_PEERCRED, unix(7)): nothing that a client sends decides about it.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.config.model import CONTROL_DIRECTORY
from ipsec_dp.errors import ControlError
from ipsec_dp.host.claim import UCRED

if TYPE_CHECKING:
    from pathlib import Path

OWNER_ONLY, WITH_GROUP = 0o600, 0o660
DIRECTORY_OWNER_ONLY, DIRECTORY_OPEN = 0o700, 0o755  # the names of gateways are no secret: each socket has a mode of its own


@dataclass(frozen=True, slots=True)
class Client:
    """Who connected."""

    uid: int

    @property
    def may_change(self) -> bool:
        """Whether it is root, or the user that the gateway runs as."""
        return self.uid in (0, os.geteuid())

    @property
    def is_root(self) -> bool:
        """Whether it may have the gateway start a program."""
        return self.uid == 0

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"user {self.uid}"


OURSELVES: Final = Client(os.geteuid())


def client_of(connection: socket.socket) -> Client:
    """By whom it was connected."""
    _, uid, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return Client(uid)


def make_directory(path: Path, group: str | None) -> None:
    """The directory of a socket. One that is there stays as it is, but for that of all gateways, which members must find."""
    mode = DIRECTORY_OWNER_ONLY if group is None else DIRECTORY_OPEN
    there = path.exists()
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if group is not None and (not there or path == CONTROL_DIRECTORY):
        path.chmod(mode)  # whatever the umask was


def share(path: Path, group: str) -> None:
    """Lets the members of a group connect to a socket that only its owner could. Raises ControlError."""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(WITH_GROUP)
    except KeyError:
        raise ControlError(f"the control socket {path}: there is no group {group}; groupadd --system {group}") from None
    except PermissionError as error:
        helps = f"CAP_CHOWN allows it, or membership (SupplementaryGroups={group} in the service unit)"
        raise ControlError(f"the control socket {path} cannot be given to group {group}: {error.strerror}; {helps}") from error


def how_to_read(path: Path) -> str:
    """Who may, where we may not: of a socket, or of its directory."""
    try:
        found = path.stat()
        if stat.S_ISSOCK(found.st_mode) and found.st_mode & stat.S_IWGRP and found.st_gid != 0:
            return f"run as root, or as a member of group {_group(found.st_gid)} (usermod -aG, then log in again)"
    except OSError:
        pass  # its directory is closed
    return "run as root; control_group in [gateway] lets the members of a group read"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
