"""What time stamps and modes of distributions come to, so that two builds are the same octets."""

from __future__ import annotations

import gzip
import io
import os
import time
from pathlib import Path

ZIP_BEGINS = 315_532_800  # 1980-01-01: a zip archive knows no earlier time


def earliest(when: int) -> tuple[int, int, int, int, int, int]:
    """A time stamp for zipfile."""
    return time.gmtime(max(when, ZIP_BEGINS))[:6]


def gzipped(data: bytes) -> bytes:
    """Without a name and a time, as Debian's policy wants its changelogs (gzip -9n)."""
    out = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, out, 0) as packed:
        packed.write(data)
    return out.getvalue()


def settle(root: Path, when: int) -> None:
    """Directories 0755, files 0644 or 0755 as they may be run, and one time stamp for all that is below `root`."""
    for path in sorted([root, *root.rglob("*")], reverse=True):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or (path.stat().st_mode & 0o100 and ".so" not in path.suffixes) else 0o644)
        os.utime(path, (when, when), follow_symlinks=False)
