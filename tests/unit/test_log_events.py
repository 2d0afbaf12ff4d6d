"""Each line of the log names its event, as a table has it and docs/configuration.md shows it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ipsec_dp.gateway.log_events import EVENTS, LIBRARY, PACKAGE, SUBSYSTEMS, loggers_of, subsystem_of
from ipsec_dp.gateway.log_forms import FIELDS
from ipsec_dp.ike.actions import Kind
from ipsec_dp.keying.levels import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
# What gives an event by another way than `told("…")` in the call.
HANDED_ON = {
    ("gateway/notices.py", "self.fields"),
    ("gateway/notices.py", "fields"),
    ("keying/ike_events.py", "fields(event)"),
}
NOTICES = {"add": 3, "add_of_stranger": 4}  # with so many arguments there is an event


@cache
def modules() -> dict[str, ast.Module]:
    package = ROOT / "ipsec_dp"
    return {path.relative_to(package).as_posix(): ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}


def calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """Each call of a method: what it is a method of, its name, the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr, node


def told_in(tree: ast.AST) -> list[ast.Call]:
    """The events that are named; others than `util.told` have functions of that name too."""
    if not any(isinstance(node, ast.ImportFrom) and node.module == "ipsec_dp.util.told" for node in ast.walk(tree)):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "told"]


def nameless(path: str, tree: ast.AST) -> Iterator[str]:
    """The lines of the log that a module writes without an event."""
    for owner, method, call in calls(tree):
        if owner == "log" and method in LOGS:
            extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
            text = "" if extra is None else ast.unparse(extra)
            if not text.startswith("told(") and (path, text) not in HANDED_ON:
                yield f"{path}:{call.lineno}"
        elif owner in ("self._notices", "notices") and len(call.args) < NOTICES.get(method, 0):
            yield f"{path}:{call.lineno}"


def test_every_line_that_is_logged_names_its_event():
    """A new one: `extra=told("name")`, a row in EVENTS, and one in docs/configuration.md."""
    found = [line for path, tree in modules().items() for line in nameless(path, tree)]
    assert found == []


def test_a_line_without_an_event_would_be_found():
    assert list(nameless("x.py", ast.parse('log.info("x")\nlog.info("x", extra=told("y"))'))) == ["x.py:1"]
    assert list(nameless("x.py", ast.parse('self._notices.add(1, "x", key="y")'))) == ["x.py:1"]


def test_the_table_has_the_events_that_there_are_and_no_other():
    constants = {"LEFT_OUT": "log_left_out", "JOURNAL_REFUSES": "journal_refuses"}
    named = set(NAMES.values()) | {LIBRARY}
    for tree in modules().values():
        for call in told_in(tree):
            (name,) = call.args
            if isinstance(name, ast.Constant):
                named.add(str(name.value))
            elif isinstance(name, ast.Name):
                named.add(constants[name.id])
            else:
                assert ast.unparse(name) == "NAMES[event.kind]"
    assert named == EVENTS.keys()
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in EVENTS)


def test_each_kind_of_event_of_ike_has_a_name_of_its_own():
    assert NAMES.keys() == set(Kind)
    assert len(set(NAMES.values())) == len(Kind)


def test_no_field_has_the_name_of_one_that_every_line_has():
    fields = {each.arg for tree in modules().values() for call in told_in(tree) for each in call.keywords} - {None, "tunnel"}
    assert fields
    assert fields & {*FIELDS, "more"} == set()


def test_the_document_says_what_the_table_says():
    text = (ROOT / "docs/configuration.md").read_text()
    section = text.partition("\n## The log\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.*) \|$", section, re.MULTILINE))
    assert {name: rows.get(name) for name in EVENTS} == EVENTS
    said = re.search(r"Subsystems: (.*)\.\n", section)
    assert said is not None
    assert re.findall(r"`(\w+)`", said[1]) == list(SUBSYSTEMS)


def test_a_logger_belongs_to_a_subsystem():
    assert subsystem_of("ipsec_dp.keying.ike_driver") == "ike"
    assert subsystem_of("ipsec_dp.util.conditions") == "conditions"
    assert subsystem_of(PACKAGE) == subsystem_of(f"{PACKAGE}.new_package") == "gateway"
    assert subsystem_of("asyncio") == LIBRARY
    assert {subsystem_of(f"{name}.x") for each in SUBSYSTEMS for name in loggers_of(each)} == SUBSYSTEMS.keys()
