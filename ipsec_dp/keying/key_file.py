"""A file of keys, as the key log and whoever helps it open one: in a directory that nobody else writes in, its owner's alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from ipsec_dp.util.service_user import service_ids

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_FILE, _DIRECTORY = 0o600, 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def owners_of_tables() -> frozenset[int]:
    """Whose a table may be: root's, this process's user's; for root, of those as whom gateways run, which wrote it before."""
    return frozenset({0, os.geteuid()}) | (service_ids() if os.geteuid() == 0 else frozenset())


def is_alone(found: os.stat_result) -> bool:
    """Whether an open table still is a file of its own that nobody else may use: nobody took it away, linked it or opened it up."""
    return found.st_nlink == 1 and not found.st_mode & _OTHERS


def open_table(path: Path, table: str, owners: Collection[int]) -> int:
    """A table's file, to be appended to and closed by the caller; the directory is made if need be.

    Raises OSError, without an error number where others than `owners` may read or write it.
    """
    if not os.path.lexists(path):
        path.mkdir(mode=_DIRECTORY)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(directory), _OTHERS_WRITE, owners)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        file = os.open(table, flags, _FILE, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise PermissionError(0, "it is no file of its own")
        _check(found, _OTHERS, owners)
    except OSError:
        os.close(file)
        raise
    return file


def _check(found: os.stat_result, forbidden: int, owners: Collection[int]) -> None:
    if found.st_uid not in owners:
        raise PermissionError(0, f"it belongs to somebody else, user {found.st_uid}: move it away, or chown it to root")
    if found.st_mode & forbidden:
        raise PermissionError(0, f"others may use it: chmod {'go-w' if forbidden == _OTHERS_WRITE else '600'}")
