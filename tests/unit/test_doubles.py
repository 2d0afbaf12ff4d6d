"""What holds for the tests themselves: a double takes the place of an object that the test imports, never of a name in a string.

A string goes on naming what was there once: after a move the double stands where nobody looks, and the test runs the real thing.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
FILES = [*TESTS.rglob("*.py"), *TESTS.parent.glob("benchmarks/**/*.py")]


def by_string(tree: ast.AST) -> list[int]:
    """The lines of calls that put a double in the place of something that a string names."""
    lines = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
        first, second = call.args[0], call.args[1] if len(call.args) > 1 else None
        stubs = name in ("setattr", "delattr", "patch") and isinstance(first, ast.Constant | ast.JoinedStr)
        modules = name in ("setitem", "delitem") and ast.unparse(first) == "sys.modules"
        if stubs or (modules and isinstance(second, ast.Constant | ast.JoinedStr)):
            lines.append(call.lineno)
    return lines


def test_no_double_is_placed_by_a_string():
    found = {str(path.relative_to(TESTS.parent)): by_string(ast.parse(path.read_text())) for path in FILES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        'monkeypatch.setattr("package.module.name", 1)',
        'monkeypatch.setattr(f"package.{module}.name", 1)',
        'monkeypatch.setitem(sys.modules, f"package.{module}", None)',
        'mock.patch("package.name")',
    ],
)
def test_the_search_finds_them(line):
    assert by_string(ast.parse(line)) == [1]
