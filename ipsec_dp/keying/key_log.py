"""The keys of a gateway's SAs in files that Wireshark reads, for as long as `[gateway] keylog_file` says so.

A directory, made if need be. A file in it has the name and the form of one of Wireshark's tables, so that the directory can be
its configuration (WIRESHARK_CONFIG_DIR). Who reads them reads what was captured, so everything about them is its owner's alone, and
nothing follows a link. What cannot be written is told once; IKE goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections import deque
from typing import TYPE_CHECKING, Final

from ipsec_dp.keying import wireshark
from ipsec_dp.util import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipsec_dp.dataplane import SaParams
    from ipsec_dp.ike.v1.sa import IsakmpSa
    from ipsec_dp.ike.v2.sa import IkeSa
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger("ipsec_dp")

SOURCE: Final = "key log"
_FILE, _DIRECTORY = 0o600, 0o700
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
RECENT: Final = 256  # lines that are not written twice


class KeyLog:
    """`ike.environment.KeyEar` of one gateway. `apply` says where it writes; until then, nowhere."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._directory: Path | None = None
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._unnamed: set[str] = set()  # what was told

    def apply(self, directory: Path | None) -> None:
        """Keys of SAs from now on go there; None: nowhere."""
        if directory != self._directory:
            self._recent.clear()
            self._unnamed.clear()
            self._conditions.become(SOURCE, {})
        self._directory = directory
        if directory is not None:
            text = f"keylog_file is set: whoever reads {directory} reads all that its SAs protect; take it out when it is done"
            self._conditions.begin(SOURCE, "written", text)

    def ike(self, sa: IkeSa) -> None:
        """As `KeyEar`."""
        if self._directory is not None and sa.keys is not None and sa.suite is not None:
            self._put(wireshark.IKE_TABLE, wireshark.ikev2_line(sa), f"IKE with {sa.suite.encryption.keyword}")

    def isakmp(self, sa: IsakmpSa) -> None:
        """As `KeyEar`."""
        if self._directory is not None and sa.keys is not None:
            self._put(wireshark.IKEV1_TABLE, wireshark.ikev1_line(sa), "IKEv1")

    def esp(self, params: SaParams) -> None:
        """An SA of ESP that IKE has negotiated is about to be installed."""
        if self._directory is not None:
            self._put(wireshark.ESP_TABLE, wireshark.esp_sa_line(params), f"ESP with {params.suite.keyword}")

    def _put(self, table: str, line: str | None, what: str) -> None:
        if line is None:
            self._tell_unnamed(what)
        elif hash(line) not in self._recent and self._write(table, f"{line}\n".encode()):
            self._recent.append(hash(line))

    def _tell_unnamed(self, what: str) -> None:
        if what not in self._unnamed:
            self._unnamed.add(what)
            log.warning("keys of %s are not in the key log: Wireshark has no name for it", what)

    def _write(self, table: str, line: bytes) -> bool:
        """Whether it is there, whole."""
        try:
            with _opened(self._directory, table) as file:
                before = os.fstat(file).st_size
                if os.write(file, line) != len(line):
                    os.ftruncate(file, before)
                    raise OSError(0, "it is full")
        except OSError as error:
            text = f"keys are not written to {self._directory}: {table}: {os_errors.text_of(error)}; the tunnels go on"
            self._conditions.begin(SOURCE, "unwritten", text)
            return False
        self._conditions.end(SOURCE, "unwritten")
        return True


@contextlib.contextmanager
def _opened(path: Path | None, table: str) -> Iterator[int]:
    """A table's file, to be appended to. Raises OSError where anybody else may read or write it."""
    if path is None:
        raise OSError(0, "there is no directory")
    if not os.path.lexists(path):
        path.mkdir(mode=_DIRECTORY)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(directory), _OTHERS_WRITE)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        file = os.open(table, flags, _FILE, dir_fd=directory)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise PermissionError(0, "it is no file of its own")
            _check(found, _OTHERS)
            yield file
        finally:
            os.close(file)
    finally:
        os.close(directory)


def _check(found: os.stat_result, forbidden: int) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise PermissionError(0, "it belongs to somebody else")
    if found.st_mode & forbidden:
        raise PermissionError(0, f"others may use it: chmod {'go-w' if forbidden == _OTHERS_WRITE else '600'}")
