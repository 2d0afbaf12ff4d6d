"""The archive of a report: a file that was not there before, which only its owner can read."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Final

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIRECTORY: Final = "ipsec-dp-bugreport"


class ReportError(IpsecDpError):
    """A report that could not be written; nothing is left of it."""


def check_free(path: Path) -> None:
    """Raises ReportError where something is there already, also where a symbolic link is."""
    if os.path.lexists(path):
        raise ReportError(f"{path} is there already, and nothing is overwritten; name another file")


def write(path: Path, members: Mapping[str, bytes], at: float) -> None:
    """A tar.gz of these members, mode 0600. Raises ReportError where something is there already, also where a symbolic link is."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        check_free(path)
        raise
    except OSError as error:
        raise ReportError(f"the report cannot be written: {os_errors.text_of(error)}") from error
    try:
        with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(f"{DIRECTORY}/{name}")
                member.size, member.mode, member.mtime = len(data), 0o600, int(at)
                archive.addfile(member, io.BytesIO(data))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ReportError(f"the report cannot be written: {path}: {os_errors.text_of(error)}") from error
