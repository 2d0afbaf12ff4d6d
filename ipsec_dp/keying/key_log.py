"""The keys of a gateway's SAs in files that Wireshark reads, for as long as `[gateway] keylog_file` says so.

A directory, made if need be. A file in it has the name and the form of one of Wireshark's tables, so that the directory can be
its configuration (WIRESHARK_CONFIG_DIR). Who reads them reads what was captured, so everything about them is its owner's alone, and
nothing follows a link. They are opened once, by whoever may, and anew at each reload and where somebody took one away: a line costs
one write. What cannot be written is told once; IKE goes on.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from ipsec_dp.keying import wireshark
from ipsec_dp.keying.key_file import is_alone, open_table, owners_of_tables
from ipsec_dp.util import opening, os_errors
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.dataplane import SaParams
    from ipsec_dp.ike.v1.sa import IsakmpSa
    from ipsec_dp.ike.v2.sa import IkeSa
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger("ipsec_dp")

SOURCE: Final = "key log"
RECENT: Final = 256  # lines that are not written twice
AGAIN_S: Final = 10.0  # between two attempts to open a table


class KeyLog:
    """`ike.environment.KeyEar` of one gateway. `apply` says where it writes; until then, nowhere."""

    def __init__(self, conditions: Conditions, clock: Clock) -> None:
        self._conditions, self._clock = conditions, clock
        self._directory: Path | None = None
        self._files: dict[str, int] = {}  # descriptors of tables
        self._again: dict[str, float] = {}  # when one that could not be opened is tried again
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._unnamed: set[str] = set()  # what was told

    def apply(self, directory: Path | None) -> None:
        """Keys of SAs from now on go there; None: nowhere. Tables are opened anew."""
        self.close()
        if directory != self._directory:
            self._recent.clear()
            self._unnamed.clear()
            self._conditions.become(SOURCE, {})
        self._directory = directory
        if directory is not None:
            text = f"keylog_file is set: whoever reads {directory} reads all that its SAs protect; take it out when it is done"
            self._conditions.begin(SOURCE, "written", text)

    def close(self) -> None:
        """No table is open until there is another line for it."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        self._again.clear()

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
            log.warning("keys of %s are not in the key log: Wireshark has no name for it", what, extra=told("key_log_unnamed"))

    def _write(self, table: str, line: bytes) -> bool:
        """Whether it is there, whole."""
        if self._clock.now() < self._again.get(table, 0.0):
            return False
        try:
            self._append(table, line)
        except OSError as error:
            text = f"keys are not written to {self._directory}: {table}: {os_errors.text_of(error)}; the tunnels go on"
            self._conditions.begin(SOURCE, "unwritten", text)
            return False
        self._conditions.end(SOURCE, "unwritten")
        return True

    def _append(self, table: str, line: bytes) -> None:
        file = self._file(table)
        before = os.fstat(file).st_size
        if os.write(file, line) != len(line):
            os.ftruncate(file, before)
            raise OSError(0, "it is full")

    def _file(self, table: str) -> int:
        """The open one, as long as it is as it was opened. Raises OSError."""
        if self._directory is None:
            raise OSError(0, "there is no directory")
        known = self._files.get(table)
        if known is not None and is_alone(os.fstat(known)):
            return known
        if known is not None:
            os.close(self._files.pop(table))
        self._again[table] = self._clock.now() + AGAIN_S  # whoever may open it may be far: once in a while
        self._files[table] = made = _opened(self._directory, table)
        del self._again[table]
        return made


def _opened(path: Path, table: str) -> int:
    """By whoever may, where this process may not: it has given up root. Raises OSError."""
    try:
        return open_table(path, table, owners_of_tables())
    except PermissionError as error:
        if not error.errno:
            raise
        return opening.helped_to_append(path / table, error)
