"""Modules that are imported after a process has become another user, from directories which that user cannot enter.

What is imported when it is first needed cannot be listed: other packages do it too, and from compiled code. So it is found through
descriptors that were opened before: by /proc/self/fd no directory above them is entered. The files' own modes go on holding.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

OPEN: Final = Path("/proc/self/fd")


def keep_importable(reaches: Callable[[Path], bool]) -> None:
    """For good. `reaches`: whether the user will enter a directory. Without /proc everything stays as it is."""
    if not OPEN.is_dir():
        return
    kept: dict[str, str] = {}

    def within_reach(entry: str) -> str:
        for top, instead in kept.items():
            if entry == top or entry.startswith(f"{top}/"):
                return instead + entry[len(top) :]
        directory = Path(entry)
        if directory.is_absolute() and directory.is_dir() and not reaches(directory):
            kept[entry] = str(OPEN / str(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)))
        return kept.get(entry, entry)

    sys.path[:] = map(within_reach, sys.path)
    for _, module in sorted(sys.modules.items()):  # a package before those in it
        if (path := getattr(module, "__path__", None)) is not None:
            module.__path__ = list(map(within_reach, path))
