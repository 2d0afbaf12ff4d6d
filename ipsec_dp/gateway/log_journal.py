"""The journal by its native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): one datagram for each line, with its fields.

What is too large for a datagram goes as a sealed memfd beside an empty one. (The library that PyPI has for this leaves the memfd
to every child that is started meanwhile, and waits for a journal that does not read for ever.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from ipsec_dp.gateway.log_events import JOURNAL_REFUSES
from ipsec_dp.gateway.log_forms import fields_of
from ipsec_dp.util.faults import priority_of
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ipsec_dp.gateway.log_writer import Sink

IDENTIFIER: Final = "ipsec-dp"
SEND_S: Final = 1.0  # that the journal may leave a line waiting
AGAIN_S: Final = 10.0  # after it took none
TOO_LARGE: Final = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def journal_fields(record: logging.LogRecord) -> Iterator[tuple[str, str]]:
    """The names are systemd.journal-fields(7)'s; ours begin with IPSEC_DP_. One that says nothing is left out."""
    said = fields_of(record)
    trace = said.pop("trace", [])
    yield "MESSAGE", "\n".join((said.pop("text"), *trace))
    yield "PRIORITY", str(priority_of(record.levelno))
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    for name, value in said.items():
        if value is not None and name != "time":  # the journal has its own, which nobody can set
            yield f"IPSEC_DP_{name.upper()}", value if isinstance(value, str) else str(value).lower()


def datagram(fields: Iterable[tuple[str, str]]) -> bytes:
    """Each field on a line; one of several lines with its length before it."""
    made = bytearray()
    for name, value in fields:
        octets = value.encode(errors="backslashreplace")
        if b"\n" in octets:
            made += name.encode() + b"\n" + struct.pack("<Q", len(octets)) + octets + b"\n"
        else:
            made += name.encode() + b"=" + octets + b"\n"
    return bytes(made)


class JournalSink:
    """Writes to the journal; while that is not there or refuses, to `otherwise`, where it is said once."""

    def __init__(self, path: Path, otherwise: Sink, line: Callable[..., logging.LogRecord]) -> None:
        """`line`: makes one of a level, a text and `told`."""
        self._path, self._otherwise, self._line = path, otherwise, line
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SEND_S)
        self._refused_at: float | None = None

    def write(self, record: logging.LogRecord) -> None:
        """Raises OSError where neither takes it."""
        if self._refused_at is None or abs(record.created - self._refused_at) >= AGAIN_S:
            try:
                self._send(datagram(journal_fields(record)))
            except OSError as error:
                if self._refused_at is None:
                    text = f"the journal takes nothing, so lines go to stderr: {self._path}: {error.strerror or error}"
                    self._otherwise.write(self._line("warning", text, told(JOURNAL_REFUSES)))
                self._refused_at = record.created
            else:
                self._refused_at = None
                return
        self._otherwise.write(record)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, os.fspath(self._path))
        except OSError as error:
            if error.errno not in TOO_LARGE:
                raise
            self._send_large(data)

    def _send_large(self, data: bytes) -> None:
        descriptor = os.memfd_create(IDENTIFIER, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", descriptor))]
            self._socket.sendmsg([b""], rights, 0, os.fspath(self._path))
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._socket.close()
        self._otherwise.close()
