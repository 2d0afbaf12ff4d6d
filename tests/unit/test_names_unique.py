"""No class has the name of another one beside it: in one package, or in two of which one imports the other.

A reader who meets `Child` must not have to ask which. The tables of the configuration and its model mean the same by design.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent / "ipsec_dp"
LEFT_OUT = frozenset({"config/tables.py", "config/model.py"})

# Name -> why several classes may have it.
EXCEPTIONS: dict[str, str] = {
    "Clock": "util/clock.py says what one is, rig/clock.py is that of a rig",
    "SecurityAssociation": "ike/v2/payloads.py has the payload, rig/security_association.py one SA by itself",
    "Writer": "ike/octets.py writes a message, rig/capture.py a file",
    "Gateway": "owned by gateway/gateway.py and rig/memory_gateway.py, which runs that one in memory",
}


def package_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def imported(tree: ast.Module) -> set[str]:
    """The packages of ours that a module imports, wherever in it."""
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    whole = {
        f"ipsec_dp.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "ipsec_dp"
        for alias in node.names
    }
    return {name.split(".")[1] for name in names | whole if name.startswith("ipsec_dp.")}


def read() -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """The modules in which a class is, by its name; and what each package imports."""
    classes: dict[str, list[str]] = defaultdict(list)
    imports: dict[str, set[str]] = defaultdict(set)
    for file in sorted(ROOT.rglob("*.py")):
        path, tree = file.relative_to(ROOT).as_posix(), ast.parse(file.read_text())
        imports[package_of(path)] |= imported(tree)
        if path not in LEFT_OUT:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    classes[node.name].append(path)
    return classes, imports


@functools.cache
def clashes() -> dict[str, set[str]]:
    """Names that several classes have, and where."""
    classes, imports = read()
    found: dict[str, set[str]] = defaultdict(set)
    for name, paths in classes.items():
        for one, other in combinations(paths, 2):
            here, there = package_of(one), package_of(other)
            if here == there or there in imports[here] or here in imports[there]:
                found[name] |= {one, other}
    return found


def test_every_class_has_a_name_of_its_own():
    assert {name: sorted(paths) for name, paths in clashes().items() if name not in EXCEPTIONS} == {}


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_every_exception_is_still_one(name):
    assert name in clashes()
    assert EXCEPTIONS[name]
