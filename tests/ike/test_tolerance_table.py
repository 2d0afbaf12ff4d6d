"""docs/ike-tolerance.md: each test that it names is there, and each payload type has a row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipsec_dp.ike.v2.wire import PayloadType

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs/ike-tolerance.md").read_text()
NAMED = re.compile(r"`(test_\w+)\.(test_\w+)`")
HEADS = ("| field", "| payload, ", "| answer to", "| ---")
ROW = re.compile(r"^\| `(\w+)` \((\d+)\)", re.MULTILINE)


def is_there(module, function):
    path = HERE / f"{module}.py"
    return path.is_file() and f"\ndef {function}(" in path.read_text()


@pytest.mark.parametrize(("module", "function"), sorted(set(NAMED.findall(TEXT))))
def test_each_named_test_is_there(module, function):
    assert is_there(module, function)


def test_a_name_of_no_test_is_seen():
    assert not is_there("test_payloads", "test_no_such")
    assert not is_there("test_no_such", "test_bad_input")


def test_each_payload_type_has_a_row():
    assert {(kind.name, kind.value) for kind in PayloadType} == {(name, int(number)) for name, number in ROW.findall(TEXT)}


def test_each_row_names_a_test():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(HEADS)]
    assert len(rows) > 40
    assert [row for row in rows if not NAMED.search(row)] == []
