"""The log of a gateway: forms, levels while it runs, and what is said when lines are lost."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.cli import main
from ipsec_dp.config.model import DEFAULT_LOG, LogOutput
from ipsec_dp.errors import ConfigError
from ipsec_dp.gateway import gateway_log
from ipsec_dp.gateway.gateway_log import GatewayLog
from ipsec_dp.gateway.log_events import PACKAGE, SUBSYSTEMS, loggers_of
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.faults import TRACE_LOG
from ipsec_dp.util.told import told
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel

LOGGERS = (PACKAGE, TRACE_LOG, *(name for each in SUBSYSTEMS for name in loggers_of(each)))


@pytest.fixture(autouse=True)
def levels():
    """They are the process's."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def stderr(tmp_path, monkeypatch):
    """A file in its place."""
    path = tmp_path / "stderr"
    path.touch()
    monkeypatch.setattr(gateway_log, "stderr_descriptor", lambda: os.open(path, os.O_WRONLY | os.O_APPEND))
    return path


def say(text="it is up", level=logging.INFO, name=f"{PACKAGE}.keying.ike_driver"):
    logging.getLogger(name).log(level, "%s", text, extra=told("ike_up", tunnel="to-b"))


def config_with(output: LogOutput) -> Any:
    return SimpleNamespace(log=output)


def test_text_is_as_it_ever_was(stderr):
    with GatewayLog(DEFAULT_LOG).running():
        say()
    assert stderr.read_text().split(" ", 2)[2] == "INFO it is up\n"


def test_json_is_an_object_a_line(stderr):
    with GatewayLog(LogOutput(form="json")).running():
        say("one")
        say("two")
    assert [json.loads(line)["text"] for line in stderr.read_text().splitlines()] == ["one", "two"]


def test_journald_is_the_journals_socket_and_stderr_without_it(stderr, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        with GatewayLog(DEFAULT_LOG, form="journald").running(journal=tmp_path / "journal"):
            say()
        assert b"\nIPSEC_DP_EVENT=ike_up\n" in journal.recv(10_000)
    assert stderr.read_text() == ""
    with GatewayLog(DEFAULT_LOG, form="journald").running(journal=tmp_path / "nowhere"):
        say()
    told_once, line = stderr.read_text().splitlines()
    assert "WARNING the journal takes nothing" in told_once
    assert line.endswith("INFO it is up")


def test_a_stderr_that_is_closed_changes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    log, conditions = GatewayLog(DEFAULT_LOG), Conditions(FakeClock())
    with log.running():
        say()
        lost = log.answer.left_out
    log.look(conditions)
    assert lost in (0, 1), "whether it has got there yet or not"
    assert conditions.texts == [], "it does not run any more"


def test_the_descriptor_stays_ours_whatever_closes_stderr(tmp_path):
    """Another file that gets its number gets no lines. Nor does a line that cannot be made raise into who logs."""
    program = (
        "import os, sys, logging\n"
        "from ipsec_dp.config.model import DEFAULT_LOG\n"
        "from ipsec_dp.gateway.gateway_log import GatewayLog\n"
        "with GatewayLog(DEFAULT_LOG).running():\n"
        "    os.close(2)\n"
        f"    assert os.open({str(tmp_path / 'other')!r}, os.O_WRONLY | os.O_CREAT) == 2\n"
        "    logging.getLogger('ipsec_dp').warning('%d', 'no number')\n"
        "    logging.getLogger('ipsec_dp').warning('here')\n"
    )
    with (tmp_path / "stderr").open("w") as file:
        subprocess.run([sys.executable, "-c", program], stderr=file, check=True)
    first, second = (tmp_path / "stderr").read_text().splitlines()
    assert "could not be made (TypeError)" in first
    assert second.endswith("WARNING here")
    assert (tmp_path / "other").read_text() == ""


# ---- levels ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "verbose", "variable", "first"),
    [("info", False, "", "info"), ("error", False, "", "error"), ("error", True, "", "debug"), ("error", False, "debug", "debug")],
)
def test_it_begins_at_the_level_of_the_configuration_unless_more_is_asked_for(stderr, monkeypatch, level, verbose, variable, first):
    monkeypatch.setenv("IPSEC_DP_LOG", variable)
    log = GatewayLog(LogOutput(level=cast("Any", level)), verbose=verbose)
    with log.running():
        assert set(log.answer.levels.values()) == {first}


def test_each_subsystem_has_a_level_of_its_own_and_one_for_all_is_for_all(stderr):
    log = GatewayLog(DEFAULT_LOG)
    with log.running():
        log.set_level("debug", "ike")
        assert log.answer.levels == dict.fromkeys(SUBSYSTEMS, "info") | {"ike": "debug"}
        say("seen", logging.DEBUG)
        say("not seen", logging.DEBUG, f"{PACKAGE}.network.routing")
        log.set_level("error")
        assert set(log.answer.levels.values()) == {"error"}
        say("no more", logging.WARNING)
    assert [line.split(" ", 2)[2] for line in stderr.read_text().splitlines()] == ["DEBUG seen"]


def test_where_nothing_is_written_no_level_is_changed():
    """Many gateways of a rig run in one process, which has a log of its own."""
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    log = GatewayLog(DEFAULT_LOG)
    log.set_level("error")
    log.set_trace(on=True)
    log.reconfigure(config_with(LogOutput(level="debug")))
    assert {name: logging.getLogger(name).level for name in LOGGERS} == before


def test_the_trace_of_ike_messages_has_a_switch_of_its_own(stderr):
    for traced in (False, True):
        log = GatewayLog(DEFAULT_LOG, verbose=True)
        with log.running(trace_ike=traced):
            log.set_level("debug", "ike")
            assert logging.getLogger(TRACE_LOG).isEnabledFor(logging.DEBUG) == log.answer.trace_ike == traced
            log.set_trace(on=not traced)
            log.set_level("error")
            assert logging.getLogger(TRACE_LOG).isEnabledFor(logging.DEBUG) == log.answer.trace_ike == (not traced)


def test_a_reload_changes_form_and_level(stderr):
    log = GatewayLog(DEFAULT_LOG)
    with log.running():
        say("one")
        log.reconfigure(config_with(LogOutput(form="json", level="error")))
        say("not seen")
        say("two", logging.ERROR)
        log.set_level("warning")
        log.reconfigure(config_with(LogOutput(form="json", level="error")))
        say("as somebody said meanwhile", logging.WARNING)
    one, *rest = stderr.read_text().splitlines()
    assert one.endswith("INFO one")
    assert [json.loads(line)["text"] for line in rest] == ["two", "as somebody said meanwhile"]


def test_what_the_command_line_says_is_stronger(stderr):
    log = GatewayLog(DEFAULT_LOG, form="json", verbose=True)
    with log.running():
        log.reconfigure(config_with(LogOutput(form="text", level="error")))
        say("one", logging.DEBUG)
    assert json.loads(stderr.read_text())["text"] == "one"


# ---- lines that are lost ---------------------------------------------------------------------------------------------------------


def look(log: GatewayLog, conditions: Conditions, wanted: int) -> list[str]:
    """What `status` warns of, once it is so many things."""
    while len(conditions.texts) != wanted:
        log.look(conditions)
    return conditions.texts


def test_a_full_disk_is_a_warning_in_status_while_it_lasts(monkeypatch, tmp_path):
    monkeypatch.setattr(gateway_log, "stderr_descriptor", lambda: os.open("/dev/full", os.O_WRONLY))
    log, conditions = GatewayLog(DEFAULT_LOG), Conditions(FakeClock())
    with log.running():
        say()
        assert look(log, conditions, 1) == ["lines of the log are lost: No space left on device; `ipsec-dp log` counts them"]
        assert log.answer.left_out >= 1
        monkeypatch.setattr(gateway_log, "stderr_descriptor", lambda: os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
        log.reconfigure(config_with(replace(DEFAULT_LOG, form="json")))
        say("there is room again")
        assert look(log, conditions, 0) == []
    first, *_ = (tmp_path / "log").read_text().splitlines()
    assert json.loads(first)["event"] == "log_left_out"


# ---- configuration and command ---------------------------------------------------------------------------------------------------


def test_the_configuration_says_form_and_level(tmp_path):
    assert configured(tmp_path, tunnel()).log == DEFAULT_LOG
    config = configured(tmp_path, '[log]\nformat = "journald"\nlevel = "warning"\n', tunnel())
    assert config.log == LogOutput(form="journald", level="warning")


@pytest.mark.parametrize("written", ['format = "syslog"', 'level = "loud"', 'levle = "info"'])
def test_a_wrong_table_is_an_error_at_its_place(tmp_path, written):
    with pytest.raises(ConfigError, match="log"):
        configured(tmp_path, f"[log]\n{written}\n", tunnel())


ANSWER = {
    "format": "text",
    "levels": dict.fromkeys(SUBSYSTEMS, "info"),
    "left_out": 3,
    "trouble": "No space left on device",
    "trace_ike": True,
}


@pytest.fixture
def asked(monkeypatch):
    """What the command asked for."""
    seen: list[dict[str, object]] = []

    def send(_path: object, message: dict[str, object]) -> object:
        seen.append(message)
        return ANSWER

    from ipsec_dp.gateway import control

    monkeypatch.setattr(control, "request", send)
    return seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], {"verb": "log"}),
        (["debug"], {"verb": "log", "level": "debug"}),
        (["error", "ike"], {"verb": "log", "level": "error", "subsystem": "ike"}),
        (["--trace-ike"], {"verb": "log", "trace_ike": True}),
        (["info", "--no-trace-ike"], {"verb": "log", "level": "info", "trace_ike": False}),
    ],
)
def test_the_command_asks_and_shows_what_is(asked, capsys, arguments, message):
    assert main(["log", *arguments, "--control", "a.sock"]) == 0
    assert asked == [message]
    text = capsys.readouterr().out
    assert "ike         info\n" in text
    assert "trace-ike   on\n" in text
    assert text.endswith("lost        3 lines: No space left on device\n")


def test_the_command_has_json(asked, capsys):
    assert main(["log", "--json", "--control", "a.sock"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER


@pytest.mark.parametrize("arguments", [["loud"], ["debug", "everything"], ["debug", "ike", "more"]])
def test_what_is_no_level_or_no_subsystem_is_refused(asked, arguments):
    assert main(["log", *arguments, "--control", "a.sock"]) == 2
    assert asked == []
