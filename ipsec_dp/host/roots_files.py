"""Whether a file is root's alone, and so is all that leads to it: then nobody else has made it, changed it or put it there.

Each step is taken in a directory that is open already (openat(2)), and none over a link. So what was looked at is what the path
leads to, for as long as root leaves it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    FileId = tuple[int, int]  # device and inode

_STEP: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_DESCRIPTORS: Final = "/proc/self/fd"


def why_not_roots(path: str, owners: Collection[int] = (0,), top: str = "/") -> str | None:
    """Why somebody else than `owners` may have put there what is at an absolute path. None: nobody else can.

    `top`: above it nothing is looked at. Raises OSError.
    """
    here, seen = os.open(top, _STEP | os.O_DIRECTORY), top
    try:
        for name in os.path.relpath(path, top).split("/"):
            if (why := _why(os.fstat(here), seen, owners)) is not None:
                return why
            following = os.open(name, _STEP, dir_fd=here)
            os.close(here)
            here, seen = following, os.path.join(seen, name)
            if stat.S_ISLNK(os.fstat(here).st_mode):
                return f"{seen} is a link: name the file without one"
        found = os.fstat(here)
        return _why(found, seen, owners) if stat.S_ISREG(found.st_mode) else f"{seen} is no regular file"
    finally:
        os.close(here)


def _why(found: os.stat_result, path: str, owners: Collection[int]) -> str | None:
    if found.st_uid not in owners:
        return f"{path} belongs to others than root"
    return f"others than root may write {path}" if found.st_mode & _OTHERS_WRITE else None


def written_files() -> frozenset[FileId]:
    """Of the files that this process has open, those that it may write in, whoever they belong to: a log is one."""
    found = set()
    for name in os.listdir(_DESCRIPTORS):
        try:
            flags, held = fcntl.fcntl(int(name), fcntl.F_GETFL), os.fstat(int(name))
        except OSError:  # it was that of the list
            continue
        if flags & os.O_ACCMODE != os.O_RDONLY and stat.S_ISREG(held.st_mode):
            found.add((held.st_dev, held.st_ino))
    return frozenset(found)
