"""What a gateway is made of gets time and randomness from the clock that it is given, so that a rig can put its own there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ipsec_dp

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(ipsec_dp.__file__).parent
PACKAGES = ("gateway", "keying", "services", "databases", "network")
MODULES = {"time", "random", "secrets"}
LATER = {"call_later", "call_at"}  # of an event loop; a clock has `call_at` too

# What may name them all the same: module, name, why.
OTHERS_TIME = "another process answers by the kernel's time, and nothing else of the gateway goes on meanwhile"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("gateway/upgrade/giving.py", "time"): OTHERS_TIME,
    ("gateway/upgrade/sas.py", "time"): OTHERS_TIME,
    ("gateway/upgrade/stream.py", "time"): OTHERS_TIME,
    ("gateway/upgrade/taking.py", "time"): OTHERS_TIME,
}


def names(tree: ast.AST) -> Iterator[str]:
    """Every other source of time or chance that a module names."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=imported):
                yield from (each.name for each in imported if each.name in MODULES)
            case ast.ImportFrom(module=str(module), names=imported) if module in MODULES:
                yield module
            case ast.ImportFrom(module="os", names=imported) if any(each.name in ("urandom", "getrandom") for each in imported):
                yield "os.urandom"
            case ast.Attribute(value=ast.Name(id="os"), attr="urandom" | "getrandom"):
                yield f"os.{node.attr}"
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
                yield ast.unparse(node)
            case ast.Attribute(attr="time", value=value) if "loop" in ast.unparse(value):
                yield ast.unparse(node)
            case ast.Attribute(attr=attr, value=value) if attr in LATER and "clock" not in ast.unparse(value):
                yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[argument]):
                if not (isinstance(argument, ast.Constant) and argument.value == 0):  # 0: others have their turn, no time passes
                    yield "asyncio.sleep"


def named() -> set[tuple[str, str]]:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(modules) > 30, "the packages are where they were"
    return {(path.relative_to(ROOT).as_posix(), name) for path in modules for name in names(ast.parse(path.read_text()))}


def test_no_module_of_a_gateway_has_a_clock_of_its_own():
    assert named() - EXCEPTIONS.keys() == set()


def test_every_exception_is_still_needed():
    assert EXCEPTIONS.keys() - named() == set()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import time", "time"),
        ("from time import monotonic", "time"),
        ("import secrets", "secrets"),
        ("import random as chance", "random"),
        ("key = os.urandom(16)", "os.urandom"),
        ("from os import urandom", "os.urandom"),
        ("at = datetime.now(UTC)", "datetime.now"),
        ("at = loop.time()", "loop.time"),
        ("at = asyncio.get_running_loop().time()", "asyncio.get_running_loop().time"),
        ("loop.call_later(1, f)", "loop.call_later"),
        ("asyncio.get_running_loop().call_at(1, f)", "asyncio.get_running_loop().call_at"),
        ("asyncio.sleep(1)", "asyncio.sleep"),
    ],
)
def test_what_is_looked_for_is_found(text, name):
    assert list(names(ast.parse(text))) == [name]


@pytest.mark.parametrize(
    "text", ["asyncio.sleep(0)", "self._clock.call_at(1, f)", "self._clock.now()", "clock.random(8)", "a.time"]
)
def test_what_a_clock_gives_is_not(text):
    assert list(names(ast.parse(text))) == []
