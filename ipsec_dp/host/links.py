"""Files opened for somebody who may have put a link in their way (openat(2), symlink(7))."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Collection

LINKS_MOST: Final = 40  # followed for one file, as the kernel does
_ON_THE_WAY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def open_by_links_of(owners: Collection[int], path: str, flags: int) -> int:
    """As os.open of an absolute path; a symbolic link that belongs to none of `owners` (user IDs) is not followed, wherever on the
    way it is. Raises OSError (EACCES: such a link; ELOOP: too many, or O_NOFOLLOW)."""
    left = _parts(path)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    here = os.dup(root)
    links = 0
    try:
        while left:
            name = left.pop()
            found = os.open(name, _ON_THE_WAY, dir_fd=here)
            try:
                about = os.fstat(found)
                if stat.S_ISLNK(about.st_mode):
                    links += 1
                    if links > LINKS_MOST or (not left and flags & os.O_NOFOLLOW):
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    if about.st_uid not in owners:
                        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
                    target = os.readlink("", dir_fd=found)
                    left += _parts(target)
                    if target.startswith("/"):
                        os.dup2(root, here, inheritable=False)
                elif left:
                    os.dup2(found, here, inheritable=False)
                else:
                    return os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
            finally:
                os.close(found)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    finally:
        os.close(here)
        os.close(root)


class OpenedDirectories:
    """`open_by_links_of` for several files at once: the way to a directory is gone once, with the first file in it. A context
    manager."""

    def __init__(self, owners: Collection[int]) -> None:
        self._owners = owners
        self._opened: dict[str, int] = {}

    def open(self, path: str, flags: int) -> int:
        """Of an absolute path without "." and "..", and no link at its end. Raises OSError, also for a file in "/"."""
        directory, name = os.path.split(path)
        here = self._opened.get(directory)
        if here is None:
            here = self._opened[directory] = open_by_links_of(self._owners, directory, _DIRECTORY)
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._opened:
            os.close(self._opened.popitem()[1])


def _parts(path: str) -> list[str]:
    """The last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
