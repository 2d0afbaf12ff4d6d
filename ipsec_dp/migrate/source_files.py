"""Reading what a source consists of: its file, what that includes, and what lies beside it. Every size and number is bounded."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipsec_dp.migrate.draft import SourceError, SourceLine

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_OCTETS_MOST: Final = 8 * 1024 * 1024
OCTETS_MOST: Final = 32 * 1024 * 1024  # of one source, with what it includes
FILES_MOST: Final = 64  # of one source, with what it includes
NAMES_MOST: Final = 10_000  # of files and directories that the patterns of one source are compared with
PATTERN_MOST: Final = 1024  # characters
DEPTH_MOST: Final = 16  # of files that include each other
LISTED_MOST: Final = 64  # files of a directory that are looked at


_WILDCARD: Final = re.compile(r"[*?[]")


class SourceFiles:
    """The files of one source. `read` raises SourceError for what is none, too large, too many or no text."""

    def __init__(self, *, follow: bool = True) -> None:
        self._read = 0
        self._octets = 0  # that they have
        self._names = 0  # that patterns were compared with
        self._follow = follow  # False: nothing is included (a text by itself)

    def read(self, path: Path, at: SourceLine | None = None) -> str:
        place = SourceLine(str(path), 1) if at is None else at
        self._read += 1
        if self._read > FILES_MOST:
            raise SourceError(place, f"more than {FILES_MOST} files are included")
        try:
            with path.open("rb") as file:
                data = file.read(FILE_OCTETS_MOST + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no file name"
            raise SourceError(place, f"cannot read {path}: {reason}") from error
        if len(data) > FILE_OCTETS_MOST:
            raise SourceError(place, f"{path} has more than {FILE_OCTETS_MOST // 1024 // 1024} MiB")
        self._octets += len(data)
        if self._octets > OCTETS_MOST:
            raise SourceError(place, f"with what is included there are more than {OCTETS_MOST // 1024 // 1024} MiB")
        return decoded(data, str(path))

    def included(self, pattern: str, by: Path, depth: int, at: SourceLine) -> list[Path]:
        """Files that a pattern (glob(7)) names, relative to the file that includes them."""
        if depth > DEPTH_MOST:
            raise SourceError(at, f"files include each other more than {DEPTH_MOST} deep")
        if not self._follow:
            return []
        if len(pattern) > PATTERN_MOST:
            raise SourceError(at, f"a pattern of more than {PATTERN_MOST} characters")
        path = Path(pattern)
        found = [Path(path.anchor) if path.is_absolute() else by.parent]
        try:
            for part in path.parts[path.is_absolute() :]:
                wild = _WILDCARD.search(part) is not None
                found = [each for place in found for each in (self._matching(place, part, at) if wild else (place / part,))]
            return sorted(each for each in found if each.is_file())
        except (ValueError, OSError):  # a NUL in it, a name that is too long
            raise SourceError(at, f"no file name: {pattern!r}") from None

    def _matching(self, directory: Path, part: str, at: SourceLine) -> Iterator[Path]:
        """What lies in a directory under a name that fits; a hidden one only where the pattern begins with its dot."""
        try:
            entries = os.scandir(directory)
        except OSError:  # none, or it may not be read
            return
        with entries:
            for entry in entries:
                self._names += 1
                if self._names > NAMES_MOST:
                    raise SourceError(at, f"its pattern would look at more than {NAMES_MOST} names: name a directory more exactly")
                if fnmatchcase(entry.name, part) and (part.startswith(".") or not entry.name.startswith(".")):
                    yield directory / entry.name


def decoded(data: bytes, name: str) -> str:
    """Text of UTF-8. SourceError says on which line it is none."""
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise SourceError(SourceLine(name, data.count(b"\n", 0, error.start) + 1), "is not UTF-8") from None
    if "\0" in text:
        raise SourceError(SourceLine(name, text.count("\n", 0, text.index("\0")) + 1), "holds a NUL: no text file")
    return text


def listed(*directories: Path) -> list[Path]:
    """Files of these directories, in order of name."""
    found: list[Path] = []
    for directory in directories:
        try:
            found += sorted(path for path in directory.iterdir() if path.is_file())
        except OSError:
            continue  # there is none, or it may not be read: what lies there is named, and `check` says that it lacks
    return found[:LISTED_MOST]
