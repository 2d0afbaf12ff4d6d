"""How the files that a configuration names will be read by a gateway, as `check` says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ipsec_dp.gateway.root_grants import files_of
from ipsec_dp.util.opening import credential_of
from ipsec_dp.util.service_user import SERVICE_USER, service_user

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ipsec_dp.config import Config


def how_read(config: Config, uid: int, environment: Mapping[str, str]) -> str | None:
    """One line; None: it names none. `uid`: who asks, and would run `up`."""
    files = sorted(files_of(config.tunnels))
    if not files:
        return None
    if environment.get("CREDENTIALS_DIRECTORY"):
        given = sum(credential_of(Path(file), environment) is not None for file in files)
        return f"its files: {given} of {len(files)} are credentials of this service; the others must be readable by user {uid}"
    if uid != 0:
        return f"its files: read by user {uid}, who runs it, at start and at each reload"
    hidden = [file for file in files if not _readable(Path(file), service_user().uid)]
    if not hidden:
        return f"its files: user {SERVICE_USER} may read them all"
    return (
        f"its files: `up` of root has a helper that opens them; as a service of user {SERVICE_USER} {len(hidden)} of {len(files)} "
        f"must be credentials: LoadCredential={SERVICE_USER}:{config.path.absolute().parent}"
    )


def _readable(path: Path, uid: int) -> bool:
    """By its owner or everybody; groups and lists are not asked."""
    try:
        found = path.stat()
        ways = [directory.stat() for directory in path.absolute().parents]
    except OSError:
        return False
    enters = all(way.st_mode & 0o001 or (way.st_uid == uid and way.st_mode & 0o100) for way in ways)
    return enters and bool(found.st_mode & 0o004 or (found.st_uid == uid and found.st_mode & 0o400))


def line_of(config: Config) -> str | None:
    """For this process."""
    return how_read(config, os.geteuid(), os.environ)
