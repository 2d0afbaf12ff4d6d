"""Reading what a source consists of: its file, what that includes, and what lies beside it. Every size and number is bounded."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Final

from ipsec_dp.migrate.draft import SourceError, SourceLine

FILE_OCTETS_MOST: Final = 8 * 1024 * 1024
FILES_MOST: Final = 64  # of one source, with what it includes
DEPTH_MOST: Final = 16  # of files that include each other
LISTED_MOST: Final = 64  # files of a directory that are looked at


class SourceFiles:
    """The files of one source. `read` raises SourceError for what is none, too large, too many or no text."""

    def __init__(self, *, follow: bool = True) -> None:
        self._read = 0
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
        return decoded(data, str(path))

    def included(self, pattern: str, by: Path, depth: int, at: SourceLine) -> list[Path]:
        """Files that a pattern names, relative to the file that includes them."""
        if depth > DEPTH_MOST:
            raise SourceError(at, f"files include each other more than {DEPTH_MOST} deep")
        if not self._follow:
            return []
        try:
            names = sorted(glob.glob(os.path.join(by.parent, pattern)))
        except (ValueError, OSError):  # a NUL in it, a name that is too long
            raise SourceError(at, f"no file name: {pattern!r}") from None
        return [path for path in map(Path, names) if path.is_file()]


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
