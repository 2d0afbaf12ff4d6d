"""The journal's native protocol, against a socket in its place."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct

import pytest

from ipsec_dp.gateway.log_journal import AGAIN_S, SEALS, JournalSink, datagram
from ipsec_dp.gateway.log_writer import own_line
from ipsec_dp.util.told import told

MOST = 1 << 20


class Journal:
    """What journald would get."""

    def __init__(self, path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._socket.bind(str(path))

    def read(self) -> tuple[dict[str, str], bool]:
        """The fields of the next entry, and whether it came as a file."""
        data, ancillary, _, _ = self._socket.recvmsg(MOST, socket.CMSG_SPACE(4))
        if not ancillary:
            return parsed(data), False
        assert data == b"", "beside a descriptor journald takes nothing"
        (descriptor,) = array.array("i", ancillary[0][2])
        try:
            assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == SEALS
            return parsed(os.pread(descriptor, MOST, 0)), True
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


def parsed(data: bytes) -> dict[str, str]:
    """As https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ has it."""
    fields: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, sign, value = line.partition(b"=")
        if not sign:
            (length,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
            assert end == b"\n"
        assert name.decode() not in fields
        fields[name.decode()], data = value.decode(), rest
    return fields


class Lines:
    """Where lines go instead."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, record) -> None:
        self.texts.append(record.getMessage())

    def close(self) -> None:
        pass


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "socket")
    yield made
    if made.path.exists():
        made.close()


@pytest.fixture
def otherwise():
    return Lines()


@pytest.fixture
def sink(journal, otherwise):
    made = JournalSink(journal.path, otherwise, own_line)
    yield made
    made.close()


def line(text="IKE SA up", level="info", fields=None, at=1000.0):
    made = own_line(level, text, told("ike_up", tunnel="to-b", child=3, unproven=True) if fields is None else fields)
    made.created = at
    return made


def test_an_entry_has_message_priority_and_our_fields(sink, journal):
    sink.write(line())
    fields, as_file = journal.read()
    assert not as_file
    assert fields == {
        "MESSAGE": "IKE SA up",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "ipsec-dp",
        "IPSEC_DP_LEVEL": "info",
        "IPSEC_DP_SUBSYSTEM": "gateway",
        "IPSEC_DP_EVENT": "ike_up",
        "IPSEC_DP_TUNNEL": "to-b",
        "IPSEC_DP_CHILD": "3",
        "IPSEC_DP_UNPROVEN": "true",
    }


@pytest.mark.parametrize(("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")])
def test_the_priority_is_syslogs(sink, journal, level, priority):
    sink.write(line(level=level))
    assert journal.read()[0]["PRIORITY"] == priority


def test_a_traceback_is_of_several_lines_with_their_length_before(sink, journal):
    made = line()
    made.__dict__["trace"] = ["Traceback", "  why=1"]
    sink.write(made)
    assert journal.read()[0]["MESSAGE"] == "IKE SA up\nTraceback\n  why=1"


def test_nothing_that_a_stranger_writes_is_a_field():
    assert parsed(datagram([("MESSAGE", "x\nPRIORITY=0")])) == {"MESSAGE": "x\nPRIORITY=0"}
    assert parsed(datagram([("MESSAGE", "\udc80")])) == {"MESSAGE": "\\udc80"}


@pytest.mark.parametrize("octets", [300_000, 900_000])
def test_what_no_datagram_holds_goes_as_a_sealed_file(sink, journal, octets):
    made = line()
    made.__dict__["trace"] = ["x" * 1000] * (octets // 1000)
    sink.write(made)
    fields, as_file = journal.read()
    assert as_file
    assert len(fields["MESSAGE"]) > octets
    sink.write(line())
    assert journal.read() == (fields | {"MESSAGE": "IKE SA up"}, False)


def test_without_a_journal_it_is_said_once_and_lines_go_elsewhere(sink, journal, otherwise):
    journal.close()
    for number in range(3):
        sink.write(line(f"line {number}"))
    told_once, *lines = otherwise.texts
    assert told_once == f"the journal takes nothing, so lines go to stderr: {journal.path}: {os.strerror(errno.ENOENT)}"
    assert lines == ["line 0", "line 1", "line 2"]


def test_a_journal_that_comes_back_is_found_after_a_while(sink, journal, otherwise):
    journal.close()
    sink.write(line("lost", at=1000.0))
    again = Journal(journal.path)
    sink.write(line("too soon", at=1000.0 + AGAIN_S / 2))
    sink.write(line("there", at=1000.0 + AGAIN_S))
    assert again.read()[0]["MESSAGE"] == "there"
    assert otherwise.texts[1:] == ["lost", "too soon"]
    again.close()


def test_one_that_does_not_read_is_waited_for_a_moment_only(sink, journal, otherwise):
    """Its queue is full: the thread of the log goes on with text."""
    written = 0
    while not otherwise.texts and written < 10_000:
        sink.write(line(f"line {written}"))
        written += 1
    assert "timed out" in otherwise.texts[0]
    assert otherwise.texts[1] == f"line {written - 1}"
    assert journal.read()[0]["MESSAGE"] == "line 0"
