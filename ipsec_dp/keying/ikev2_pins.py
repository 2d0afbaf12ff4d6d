"""Which peers have authenticated with IKEv2, on disk (`ike.environment.Pins`): their tunnels never fall to IKEv1.

A file for each tunnel, with its name, in a directory that nobody else may write in. That the file is there is what counts, whatever
has become of its content. Where nothing can be read or written every tunnel counts as one whose peer has.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipsec_dp.config.model import STATE_DIRECTORY
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipsec_dp.util.conditions import Conditions

CONTENT: Final = b"its peer has authenticated with IKEv2\n"
SOURCE: Final = "IKEv2 pins"
_FILE, _DIRECTORY = 0o600, 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_TRIAL: Final = ".trial"  # no tunnel has a name that begins so


def pins_of(gateway: str, environment: Mapping[str, str]) -> Path:
    """The directory for a gateway of this name. `environment`: STATE_DIRECTORY of systemd.exec(5) puts it elsewhere."""
    base = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(base) if base else STATE_DIRECTORY) / gateway / "ikev2"


class PinFiles:
    """Those of one gateway, below `directory`, which is made when it is needed."""

    def __init__(self, directory: Path, conditions: Conditions) -> None:
        self._directory, self._conditions = directory, conditions
        self._kept: set[str] = set()  # known to be there
        self._owed: set[str] = set()  # of them such as could not be written
        self._usable = False

    def holds(self, tunnel: str) -> bool:
        self._pay()
        if tunnel in self._kept:
            return True
        try:
            with self._open() as directory:
                found = self._look(directory, tunnel)
                if not found and not self._usable:
                    _write(directory, _TRIAL)
                    os.unlink(_TRIAL, dir_fd=directory)
                    self._usable = True
        except OSError as error:
            self._fails(error)
            return True
        self._conditions.end(SOURCE, "directory")
        if found:
            self._kept.add(tunnel)
        return found

    def keep(self, tunnel: str) -> None:
        if tunnel in self._kept and tunnel not in self._owed:
            return
        self._kept.add(tunnel)
        self._owed.add(tunnel)
        self._pay()

    def clear(self, tunnel: str) -> None:
        try:
            with self._open() as directory:
                if _exists(directory, tunnel):
                    os.unlink(tunnel, dir_fd=directory)
                    os.fsync(directory)
        except OSError as error:
            text = f'tunnel "{tunnel}" stays with IKEv2: {self._directory / tunnel} cannot be removed: {os_errors.text_of(error)}'
            raise IpsecDpError(text) from error
        self._kept.discard(tunnel)
        self._owed.discard(tunnel)
        self._conditions.end(SOURCE, tunnel)

    def _pay(self) -> None:
        """Writes down what is still to be."""
        if not self._owed:
            return
        try:
            with self._open() as directory:
                for tunnel in sorted(self._owed):
                    _write(directory, tunnel)
                    self._owed.discard(tunnel)
        except OSError as error:
            self._fails(error)
        else:
            self._conditions.end(SOURCE, "directory")

    def _look(self, directory: int, tunnel: str) -> bool:
        """Whether the file is there; one that we have not written so is told, and counts."""
        try:
            content = _read(directory, tunnel)
        except FileNotFoundError:
            self._conditions.end(SOURCE, tunnel)
            return False
        except OSError:
            if not _exists(directory, tunnel):
                raise
            content = b""
        if content == CONTENT:
            self._conditions.end(SOURCE, tunnel)
        else:
            self._conditions.begin(SOURCE, tunnel, self._odd(tunnel))
        return True

    def _odd(self, tunnel: str) -> str:
        return (
            f'tunnel "{tunnel}" stays with IKEv2: {self._directory / tunnel} is damaged, and says by being there that its peer has '
            f"authenticated with IKEv2; if it has not: ipsec-dp unpin {tunnel}"
        )

    def _fails(self, error: OSError) -> None:
        text = (
            f"{self._directory}: {os_errors.text_of(error)}; so nobody knows which peers have authenticated with IKEv2, and "
            'tunnels with version = "2-preferred" speak that alone; make it a directory of this user where nobody else may write'
        )
        self._conditions.begin(SOURCE, "directory", text)

    @contextmanager
    def _open(self) -> Iterator[int]:
        """The directory, made if need be, and nobody else's. Raises OSError."""
        base = self._directory.parent.parent
        for path in (base, self._directory.parent, self._directory):
            if not path.exists():
                path.mkdir(mode=_DIRECTORY, parents=path is base)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for found in (os.fstat(directory), self._directory.parent.stat(), base.stat()):
                if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_WRITE:
                    raise PermissionError(0, "somebody else may write there")
            yield directory
        finally:
            os.close(directory)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _read(directory: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, len(CONTENT) + 1)
    finally:
        os.close(file)


def _write(directory: int, name: str) -> None:
    """Whole, and on the disk, or not at all."""
    new = f".{name}.new"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE, dir_fd=directory)
    try:
        if os.write(file, CONTENT) != len(CONTENT):
            raise OSError(0, "it is full")
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
