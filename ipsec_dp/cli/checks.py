"""What a check of `ipsec-dp doctor` finds, and where it looks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at: `state`, what was found, what it means (empty when all is well), and the command that helps."""

    name: str
    state: State
    found: str
    means: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Host:
    """Where the kernel tells about itself; a test gives a directory of its own."""

    root: Path = Path("/")

    def read(self, path: str) -> str:
        """A file's text without the line's end; empty when it cannot be read."""
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return ""

    def is_read_only(self, path: str) -> bool:
        """Whether a file system that cannot be written is mounted there."""
        try:
            return bool(os.statvfs(self.root / path).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def names(self, pattern: str) -> list[str]:
        return sorted(path.name for path in self.root.glob(pattern))
