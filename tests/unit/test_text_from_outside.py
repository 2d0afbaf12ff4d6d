"""What others write reaches log, status, JSON and tables through `util.text` alone: every field that can be shown is found here by
itself, filled with what would do harm, and followed to each place where it is read."""

from __future__ import annotations

import ast
import asyncio
import enum
import functools
import io
import json
import logging
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from ipsec_dp.cli import asking, main, render
from ipsec_dp.config import examine
from ipsec_dp.gateway import control, explanation, messages, status
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.util.conditions import Conditions
from ipsec_dp.util.faults import LineFormatter
from ipsec_dp.util.text import LINE
from tests.doubles.clock import FakeClock

from .hostile_texts import TEXTS, is_harmless

PACKAGE = Path(__file__).resolve().parents[2] / "ipsec_dp"
MODULES = (control, explanation, messages, status)
COLUMNS = 80


def each(values=TEXTS):
    return pytest.mark.parametrize("text", values, ids=lambda text: ascii(text[:12]))


# ---- JSON: all that a gateway answers, and what becomes of it -------------------------------------------------------------------


def answers():
    """Every kind of answer that there is, found in the modules that have them."""
    found = {
        thing
        for module in MODULES
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, msgspec.Struct) and not issubclass(thing, messages.ControlRequest)
    }
    return sorted(found - {control.Answer}, key=lambda kind: kind.__name__)


def filled(kind: Any, text: str) -> Any:
    """A value of that type whose every text is `text`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is str or kind is Any:
        return text
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{field.name: filled(field.type, text) for field in msgspec.structs.fields(kind)})
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__"):
        return kind(**{name: filled(each, text) for name, each in typing.get_type_hints(kind).items()})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if origin in (types.UnionType, typing.Union):
        return filled(next(one for one in arguments if one is not types.NoneType), text)
    if origin is dict:
        return {text: filled(arguments[1], text)}
    if origin is tuple:
        return (filled(arguments[0], text),) * 2
    if origin is typing.Literal:
        return arguments[0]
    return kind(1)


def texts(value: Any) -> list[str]:
    """All in a value of JSON, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for each in value.values() for text in texts(each))]
    return [text for each in value for text in texts(each)] if isinstance(value, list) else []


def test_the_answers_are_found():
    names = {kind.__name__ for kind in answers()}
    assert {"GatewayStatus", "TunnelStatus", "IkeSaStatus", "ExplainAnswer", "RuleText", "ReloadRefusal", "TunnelChange"} <= names
    assert "x" in texts(msgspec.to_builtins(filled(status.GatewayStatus, "x")))


@each()
@pytest.mark.parametrize("kind", answers(), ids=lambda kind: kind.__name__)
def test_every_text_of_every_answer_is_harmless(kind, text):
    line = control.Answer(ok=True, result=filled(kind, text)).line
    found = texts(json.loads(line))
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert all(is_harmless(one, LINE) for one in found)


@each()
def test_so_is_an_answer_that_comes_in_pieces(text):
    async def rows():
        yield filled(status.TunnelStatus, text)

    async def whole():
        head = filled(status.GatewayStatus, text)
        return b"".join([piece async for piece in control.LongAnswer(head, "tunnels", rows()).pieces()])

    found = texts(json.loads(asyncio.run(whole())))
    assert len(found) > 100
    assert all(is_harmless(one, LINE) for one in found)


@each()
def test_what_somebody_asks_at_the_control_socket_comes_back_harmless(text):
    server = control.ControlServer(Path("none"), [])
    answer = asyncio.run(server.answer(json.dumps({"verb": text}).encode()))
    assert isinstance(answer, control.Answer)
    assert all(is_harmless(one, LINE) for one in texts(json.loads(answer.line)))


# ---- tables ---------------------------------------------------------------------------------------------------------------------

SHOWN: dict[Any, Any] = {
    status.GatewayStatus: render.view,
    explanation.ExplainAnswer: render.explanation,
    messages.ReloadResult: render.reload_table,
}


@each([text[:60] for text in TEXTS])
@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_tables_hold_together_whatever_a_gateway_answers(monkeypatch, kind, text):
    """One of another version too, which sends texts as they are."""
    raw = json.loads(json.dumps(msgspec.to_builtins(filled(kind, text))))
    monkeypatch.setattr(control, "request", lambda *_, **__: raw)
    answer = asking.read(asking.ask(Path("none"), messages.StatusRequest()), kind)
    file = io.StringIO()
    Console(file=file, width=COLUMNS).print(SHOWN[kind](answer))
    lines = file.getvalue().split("\n")
    assert lines
    assert all(line.isprintable() and cell_len(line) <= COLUMNS for line in lines)


# ---- the log --------------------------------------------------------------------------------------------------------------------


def formatted(level, text, *arguments, error=None):
    info = None if error is None else (type(error), error, error.__traceback__)
    return LineFormatter("%(levelname)s %(message)s").format(logging.LogRecord("x", level, "x", 1, text, arguments, info))


def log_calls():
    """Each call that writes a line, with its text and how many arguments it has."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            of, level = ast.unparse(node.func.value), node.func.attr
            if of != "log" or level not in ("debug", "info", "warning", "error", "exception", "critical", "log"):
                continue
            template = node.args[1 if level == "log" else 0]
            yield f"{path.stem}:{node.lineno}", template, len(re.findall("%[a-z]", ast.unparse(template)))


CALLS = list(log_calls())


def test_log_calls_are_found_and_their_texts_are_constants():
    """So that what comes from outside is always an argument, which one formatter makes harmless."""
    assert len(CALLS) > 50
    assert [where for where, template, _ in CALLS if not isinstance(template, ast.Constant)] == []


@each()
def test_whatever_the_arguments_are_a_log_line_is_one(text):
    for where, template, arguments in CALLS:
        line = formatted(logging.INFO, template.value.replace("%d", "%s").replace("%g", "%s"), *[text] * arguments)
        assert is_harmless(line, LINE + len("INFO ")), where


@each()
def test_a_traceback_has_its_own_lines_and_no_others(text):
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        lines = formatted(logging.ERROR, "it failed", error=error).split("\n")
    assert lines[0] == "ERROR it failed"
    assert all(is_harmless(line, LINE) for line in lines)


@functools.cache
def calls_of(path):
    """What a module calls, as it is written there."""
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}


def made_in(name, rooms=("",)):
    """The modules that call this."""
    paths = {path for room in rooms for path in (PACKAGE / room).rglob("*.py")}
    return {path.relative_to(PACKAGE).as_posix() for path in paths if name in calls_of(path)}


@pytest.mark.parametrize("name", ["logging.basicConfig", "logging.StreamHandler", "logging.Formatter", "log.addHandler"])
def test_one_place_says_how_lines_are_written(name):
    assert made_in(name) <= {"util/faults.py"}


def test_one_place_each_writes_for_people_and_for_programs():
    """In cli/ `options` has both; what a demonstration and a benchmark print is their own. Modules with a schema print that."""
    others = {"cli/life.py", "cli/coming.py", "cli/completion.py"}  # TOML that is made here, line by line; click's own script
    assert made_in("click.echo", ["cli"]) == {"cli/options.py", *others}
    rooms = ["cli", "gateway", "keying", "services", "network", "host", "ike", "config"]
    assert made_in("print", rooms) == {"config/schema.py", "gateway/stream_event.py"}
    reports = {"cli/report_parts.py", "cli/report_secrets.py"}
    programs = {"cli/options.py", "cli/demo.py", "gateway/control.py", "gateway/following.py", "gateway/stream_event.py"}
    programs |= {"gateway/log_forms.py", *reports}
    assert made_in("json.dumps", ["cli", "gateway"]) == programs


# ---- what a gateway remembers ---------------------------------------------------------------------------------------------------


@each()
def test_conditions_and_last_errors_are_kept_harmless(text):
    clock = FakeClock()
    conditions, notices = Conditions(clock), Notices(clock, StrangersEvents())
    conditions.begin("nft", "a", f"table {text} stands in the way")
    notices.add(logging.WARNING, f"interface {text}: gone", tunnel="to-b")
    last = notices.last_error("to-b")
    assert last is not None
    assert all(is_harmless(one, LINE) for one in (*conditions.texts, last.text))


# ---- files and the command line -------------------------------------------------------------------------------------------------


def quoted(text):
    """A string of TOML."""
    return '"' + "".join(f"\\U{ord(one):08X}" if ord(one) < 0xD800 or ord(one) > 0xDFFF else "?" for one in text) + '"'


@each()
def test_check_shows_what_a_file_holds_harmless(tmp_path, text):
    """Names of tables, keys, values of each kind, and file names."""
    path = tmp_path / "a.toml"
    path.write_text(
        f"[gateway]\nname = {quoted(text)}\ncontrol = {quoted(text)}\n{quoted(text)} = 1\n[[tunnel]]\nname = {quoted(text)}\n"
        f"remote = {quoted(text)}\nstart = {quoted(text)}\nlocal_ts = [{quoted(text)}]\n[tunnel.auth]\npsk_file = {quoted(text)}\n"
        f"remote_id = {quoted(text)}\n[[policy]]\naction = {quoted(text)}\n"
    )
    config, findings = examine(path)
    assert config is None
    assert len(findings) > 4
    for finding in findings:
        numbers = {"line", "column"}
        assert all(is_harmless(getattr(finding, field), LINE) for field in finding.__slots__ if field not in numbers), finding


@each([text for text in TEXTS if "\0" not in text and "/" not in text])
@pytest.mark.parametrize("words", ["check FILE", "check FILE --json", "status --control FILE", "up FILE"])
def test_the_command_shows_names_of_files_harmless(capfd, words, text):
    assert main([text if argument == "FILE" else argument for argument in words.split()]) in (1, 2, 3)
    shown = capfd.readouterr()
    lines = (shown.out + shown.err).splitlines()
    assert lines
    assert all(line.isprintable() and len(line) <= 2 * LINE for line in lines), "JSON writes a backslash as two"


def test_what_a_locale_cannot_write_is_no_failure(monkeypatch):
    """An output in Latin-1, as some cron daemons give it."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="latin-1", write_through=True))
    assert main(["check", "東京.toml"]) == 2
    assert b"\\u6771\\u4eac.toml: " in raw.getvalue()
