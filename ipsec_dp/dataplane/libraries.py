"""The shared libraries of the C core: what they are called, their versions, and the files that they were loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ipsec_dp._native import ffi, lib


class Library(NamedTuple):
    """`file`: None where the kernel does not say what is mapped."""

    name: str
    version: str
    file: Path | None


def loaded() -> list[Library]:
    """Those that the extension was built with, as they are in this process."""
    versions = {"libcrypto": lib.dp_openssl_version(), "libIPSec_MB": lib.dp_ipsec_mb_version()}
    texts = {name: str(ffi.string(version).decode()) for name, version in versions.items()}
    files = _mapped()
    return [Library(name, text, _of(name, files)) for name, text in texts.items() if text]


def _mapped() -> list[Path]:
    """Every file of which code is mapped into this process (proc(5): six columns, the last one the path)."""
    try:
        rows = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    except OSError:
        return []
    return [Path(row[5]) for row in rows if len(row) == len("range mode offset device inode path".split()) and "x" in row[1]]


def _of(name: str, files: list[Path]) -> Path | None:
    """auditwheel puts a digest between a bundled library's name and its number: libcrypto-1a2b3c4d.so.3."""
    return next((file for file in files if file.name.startswith((f"{name}.so", f"{name}-"))), None)
