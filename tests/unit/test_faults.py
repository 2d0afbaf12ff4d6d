"""Whatever goes wrong is one line, and a traceback for those who ask for it alone."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys

import pytest

from ipsec_dp.cli import commands, main
from ipsec_dp.errors import BadValueError
from ipsec_dp.util import os_errors
from ipsec_dp.util.faults import UnexpectedError, explained, is_journal


@pytest.mark.parametrize("number", sorted(os_errors.REMEDIES))
def test_a_refusal_of_the_system_has_file_cause_and_remedy_on_one_line(number):
    with pytest.raises(UnexpectedError) as caught, explained("the gateway ended"):
        raise OSError(number, os.strerror(number), "/run/x\ny")
    assert str(caught.value) == f"the gateway ended: /run/x y: {os.strerror(number)}; {os_errors.REMEDIES[number]}"


@pytest.mark.parametrize(
    ("error", "text"),
    [(OSError("AF_UNIX path too long"), "AF_UNIX path too long"), (OSError(errno.EIO, "no"), "no"), (OSError(), "OSError")],
)
def test_what_has_no_known_remedy_has_its_cause(error, text):
    assert os_errors.text_of(error) == text


def test_our_own_errors_stay_what_they_are():
    with pytest.raises(BadValueError, match="short; longer"), explained("the gateway ended"):
        raise BadValueError("short", "longer")


def test_a_fault_of_ours_is_named_as_one_and_its_place_is_for_the_debug_log(caplog):
    caplog.set_level(logging.DEBUG, "ipsec_dp")
    with pytest.raises(UnexpectedError, match="it: KeyError: 'a b'; that is a fault of ipsec-dp"), explained("it"):
        raise KeyError("a b")
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [RuntimeError("broken\nin two"), OSError(errno.EMFILE, "Too many open files")])
def test_no_verb_ends_in_a_traceback(monkeypatch, capsys, error):
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(commands.program.commands["version"], "callback", broken)
    assert main(["version"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("ipsec-dp: ")


# ---- where lines go


SAY = """
import logging, sys
from ipsec_dp.util.faults import TRACE_LOG, log_to_stderr
log_to_stderr({options})
log, trace = logging.getLogger("ipsec_dp"), logging.getLogger(TRACE_LOG)
for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
    log.log(level, "one %d", level)
trace.debug("traced")
try:
    raise RuntimeError("why")
except RuntimeError:
    log.exception("it failed")
"""


def said(path, options="", stream=None):
    """What a process of its own writes to stderr, which is this file; `stream`: its JOURNAL_STREAM."""
    environment = {name: value for name, value in os.environ.items() if name not in ("JOURNAL_STREAM", "IPSEC_DP_LOG")}
    with path.open("w") as file:
        there = os.fstat(file.fileno())
        environment |= {} if stream is None else {"JOURNAL_STREAM": stream.format(there)}
        subprocess.run([sys.executable, "-c", SAY.format(options=options)], stderr=file, env=environment, check=True)
    return path.read_text().splitlines()


def test_to_the_journal_each_line_goes_with_its_priority_and_without_the_time(tmp_path):
    """sd-daemon(3): else all of it has that of stdout, and `journalctl -p warning` shows everything or nothing."""
    lines = said(tmp_path / "journal", "verbose=True", "{0.st_dev}:{0.st_ino}")
    assert lines[:6] == ["<7>one 10", "<6>one 20", "<4>one 30", "<3>one 40", "<2>one 50", "<3>it failed"]
    assert lines[6] == "<3>Traceback (most recent call last):"
    assert all(line.startswith("<3>") for line in lines[5:]), "each line of a traceback too"


@pytest.mark.parametrize("stream", [None, "", "1:2", "journal"])
def test_elsewhere_each_has_its_time_and_level_in_words(tmp_path, stream):
    lines = said(tmp_path / "log", "", stream)
    assert [line.split()[2] for line in lines[:5]] == ["INFO", "WARNING", "ERROR", "CRITICAL", "ERROR"]


@pytest.mark.parametrize(
    ("options", "debug", "traced"), [("", False, False), ("verbose=True", True, False), ("trace_ike=True", False, True)]
)
def test_verbose_and_the_trace_are_asked_for_apart(tmp_path, options, debug, traced):
    text = "\n".join(said(tmp_path / "log", options))
    assert ("one 10" in text, "traced" in text) == (debug, traced)


def test_what_cannot_be_looked_at_is_no_journal():
    assert not is_journal(999_999, "1:2")
