"""How this process opens the files that its configuration names: itself, or with the help of whoever may read what it may not.

A gateway that has dropped root cannot read root's secrets. A service manager hands them over as credentials (LoadCredential of
systemd.exec(5): files in CREDENTIALS_DIRECTORY, which it keeps from everybody else), and `up` of root keeps a helper that opens
them, and a TUN device that is root's alone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
APPENDING: Final = os.O_WRONLY | os.O_APPEND
USING: Final = os.O_RDWR | os.O_CLOEXEC  # a device
CREDENTIAL: Final = "ipsec-dp"  # of a directory: its files follow as ipsec-dp_NAME


class OpenedFile(NamedTuple):
    """`guarded`: that nobody else reads it is the service manager's concern, not that of the file's mode."""

    descriptor: int
    guarded: bool = False


_helper: Callable[[str, int], int] | None = None


def help_by(helper: Callable[[str, int], int] | None) -> None:
    """Whom to ask from now on for what this process may not open: by a path and flags. It raises OSError like os.open."""
    global _helper  # noqa: PLW0603 - one for each process
    _helper = helper


def helped_to_append(path: Path, refused: OSError) -> int:
    """A descriptor of a file that this process could not open to append to. Raises OSError; `refused` when nobody helps."""
    if _helper is None:
        raise refused
    return _helper(os.path.abspath(path), APPENDING)


def helped_to_use(device: Path, refused: OSError) -> int:
    """A descriptor of a device that this process could not open. Raises OSError; `refused` when nobody helps."""
    if _helper is None:
        raise refused
    return _helper(str(device), USING)


def credential_of(path: Path, environment: Mapping[str, str]) -> Path | None:
    """The credential that stands for a file: its own name, or of a directory above it, ipsec-dp_ and the way from there."""
    base = environment.get("CREDENTIALS_DIRECTORY", "")
    if not base:
        return None
    parts = path.parts[1:]
    names = [path.name, *(f"{CREDENTIAL}_{'_'.join(parts[first:])}" for first in range(len(parts) - 1, 0, -1))]
    return next((found for name in names if (found := Path(base, name)).is_file()), None)


def open_to_read(path: str | os.PathLike[str], flags: int = 0) -> OpenedFile:
    """A descriptor of a file, which the caller closes. Raises OSError, ValueError like os.open."""
    try:
        return OpenedFile(os.open(path, READING | flags))
    except PermissionError:
        absolute = os.path.abspath(path)
        found = credential_of(Path(absolute), os.environ)
        if found is not None:
            return OpenedFile(os.open(found, READING | os.O_NOFOLLOW), guarded=True)
        if _helper is None:
            raise
        return OpenedFile(_helper(absolute, READING | flags))


@contextlib.contextmanager
def opened_to_read(path: str | os.PathLike[str], flags: int = 0) -> Iterator[OpenedFile]:
    """`open_to_read`, closed when left."""
    file = open_to_read(path, flags)
    try:
        yield file
    finally:
        os.close(file.descriptor)
