"""Whatever goes wrong is one line, and a traceback for those who ask for it alone."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from ipsec_dp.cli import commands, main
from ipsec_dp.errors import BadValueError
from ipsec_dp.util import os_errors
from ipsec_dp.util.faults import UnexpectedError, explained


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
