"""How this process opens the files that its configuration names: itself, or with the help of whoever may read what it may not.

A gateway that has dropped root cannot read root's secrets. A service manager hands them over as credentials (LoadCredential of
systemd.exec(5): files in CREDENTIALS_DIRECTORY, which it keeps from everybody else), and `up` of root keeps a helper that opens
them, and a TUN device that is root's alone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
APPENDING: Final = os.O_WRONLY | os.O_APPEND
USING: Final = os.O_RDWR | os.O_CLOEXEC  # a device
AHEAD_FILES: Final = 64  # opened at once, while no other one is read; a table of descriptors has room for 1,024 or more
AHEAD_OCTETS: Final = 4096  # of their names
CREDENTIAL: Final = "ipsec-dp"  # of a directory: its files follow as ipsec-dp_NAME


class OpenedFile(NamedTuple):
    """`guarded`: that nobody else reads it is the service manager's concern, not that of the file's mode."""

    descriptor: int
    guarded: bool = False


_helper: Callable[[str, int], int] | None = None
_helper_ahead: Callable[[Sequence[str]], Mapping[str, int]] | None = None


def help_by(helper: Callable[[str, int], int] | None, ahead: Callable[[Sequence[str]], Mapping[str, int]] | None = None) -> None:
    """Whom to ask from now on for what this process may not open: by a path and flags. It raises OSError like os.open. `ahead`: of
    several paths, AHEAD_FILES and AHEAD_OCTETS at the most, those that could be opened to read, none by a link at its end; raises
    nothing."""
    global _helper, _helper_ahead
    _helper, _helper_ahead = helper, ahead


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


def _is_name(path: str) -> bool:
    """Whether the kernel can be asked for it."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


class Ahead:
    """Files that are read one after the other, of which somebody who helps opens the next ones with the first of them: a question
    for each takes far longer than the opening. AHEAD_FILES are open at the most. What nobody has read by `close` is closed then. A
    context manager."""

    def __init__(self, paths: Iterable[str]) -> None:
        """`paths` are absolute, in the order in which they are read, and are looked at when the first one is asked for."""
        self._paths = paths
        self._names: list[str] | None = None
        self._unasked: dict[str, int] = {}  # and where they stand
        self._opened: dict[str, int] = {}

    def take(self, path: str) -> int | None:
        """A descriptor, which the caller closes; None: it is to be asked for by itself, and whoever is asked says why it is not
        opened, as where it is a link."""
        helper = _helper_ahead  # another thread may give the helper up
        if helper is None:
            return None
        if self._names is None:
            self._names = [name for name in dict.fromkeys(self._paths) if _is_name(name)]
            self._unasked = {name: place for place, name in enumerate(self._names)}
        if path in self._unasked:
            self.close()  # what was passed over
            self._opened.update(helper(self._next(self._names, self._unasked[path])))
        return self._opened.pop(path, None)

    def _next(self, names: Sequence[str], first: int) -> list[str]:
        octets, taken = 0, list[str]()
        for name in names[first : first + AHEAD_FILES]:
            octets += len(os.fsencode(name)) + 1
            if octets > AHEAD_OCTETS:
                break
            if self._unasked.pop(name, None) is not None:
                taken.append(name)
        return taken

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_to_read(path: str | os.PathLike[str], flags: int = 0, ahead: Ahead | None = None) -> OpenedFile:
    """A descriptor of a file, which the caller closes. `flags`: 0, or O_NOFOLLOW. `ahead`: it is one of several. Raises OSError,
    ValueError like os.open."""
    try:
        return OpenedFile(os.open(path, READING | flags))
    except PermissionError:
        absolute = os.path.abspath(path)
        found = credential_of(Path(absolute), os.environ)
        if found is not None:
            return OpenedFile(os.open(found, READING | os.O_NOFOLLOW), guarded=True)
        helper = _helper  # another thread may give it up
        if helper is None:
            raise
        opened = None if ahead is None else ahead.take(absolute)
        return OpenedFile(helper(absolute, READING | flags) if opened is None else opened)


@contextlib.contextmanager
def opened_to_read(path: str | os.PathLike[str], ahead: Ahead | None = None) -> Iterator[OpenedFile]:
    """`open_to_read`, closed when left."""
    file = open_to_read(path, 0, ahead)
    try:
        yield file
    finally:
        os.close(file.descriptor)
