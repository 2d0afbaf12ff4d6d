"""The house: layers, and names that documents and strings give, so that what was put in order stays so.

Beside it: class names (test_names_unique), sizes (test_sizes), rooms of ike/ (test_ike_rooms), who writes the state of an IKE SA
(tests/ike/test_transitions), clocks (test_one_clock), native/ (test_native_layout), the tests (test_tests, test_doubles).
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ipsec_dp"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}

EXTENSION = "_native"
TOP = {"__init__.py", "__main__.py", "errors.py", "py.typed"}  # and the extension that is built there
LAYERS = {
    "bench", "cli", "config", "databases", "dataplane", "gateway", "host",
    "ike", "ipsec", "keying", "migrate", "network", "rig", "services", "util",
}  # fmt: skip


# ---- imports ---------------------------------------------------------------------------------------------------------------------


def test_the_contracts_count_typing_imports_and_make_no_exceptions():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    text = str(contracts)
    assert not contracts.get("exclude_type_checking_imports", False)
    assert "ignore_imports" not in text
    layers, pure = contracts["contracts"]
    assert layers["type"] == "layers"
    named = {part.strip() for layer in layers["layers"] for part in layer.split("|")}
    assert named == {f"ipsec_dp.{each}" for each in LAYERS | {"errors", "__main__"}}
    assert set(pure["source_modules"]) == {"ipsec_dp.ike", "ipsec_dp.ipsec"}
    assert {"asyncio", "socket", "time", "random", "logging", "select", "subprocess", "secrets"} <= set(pure["forbidden_modules"])


def test_make_lint_holds_the_contracts():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "$(BIN)/lint-imports" in recipe
    assert "|| status=1" in recipe


def depends_on(name: str, tree: ast.AST, modules: Container[str]) -> set[str]:
    """Those of `modules` that a module names in an import, for types alone and inside functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {each.name for each in names}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                inside = {f"{module}.{each.name}" for each in names}
                found |= inside
                if not all(each in modules for each in inside):
                    found.add(module)
            case ast.ImportFrom():
                pytest.fail(f"{name}:{node.lineno}: a relative import")
    return {each for each in found if each in modules} - {name}


def circle(trees: Mapping[str, ast.AST]) -> list[str]:
    """Modules of which each is imported by the next; empty when there is no circle."""
    try:
        TopologicalSorter({name: depends_on(name, tree, trees) for name, tree in trees.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_one_that_imports_it():
    found = circle(TREES)
    assert not found, "a circle, each imported by the next: " + " ← ".join(found)


@pytest.mark.parametrize(
    "back",
    [
        "import p.a",
        "from p import a",
        "from p.a import name",
        "if TYPE_CHECKING:\n    from p.a import name",
        "def f():\n    from p.a import name",
    ],
)
def test_a_circle_is_found(back):
    there = {"p": ast.parse(""), "p.a": ast.parse("from p.b import f"), "p.b": ast.parse("")}
    assert circle(there) == []
    assert circle(there | {"p.b": ast.parse(back)}) in (["p.a", "p.b", "p.a"], ["p.b", "p.a", "p.b"])


def made_by_type(tree: ast.AST) -> list[int]:
    """The lines on which an object makes another one of its own class."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Call) and ast.unparse(node.func.func) == "type")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "__class__")
        )
    ]


def test_nothing_in_ike_makes_an_object_by_the_class_of_another():
    found = {name: made_by_type(tree) for name, tree in TREES.items() if name.startswith("ipsec_dp.ike")}
    assert len(found) > 30
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert made_by_type(ast.parse("type(session)(host)\nsession.__class__(host)\ntype(session).__name__")) == [1, 2]


@pytest.mark.parametrize("word", [".now(", "urandom"])
def test_the_ike_core_asks_nobody_for_time_or_randomness(word):
    pure = [name for name in MODULES if name.startswith(("ipsec_dp.ike", "ipsec_dp.ipsec"))]
    assert pure
    assert [name for name in pure if word in MODULES[name].read_text()] == []


def test_no_module_is_imported_by_a_string():
    calls = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and (node.id if isinstance(node, ast.Name) else node.attr) in ("import_module", "__import__")
    ]
    assert calls == []


def is_shim(tree: ast.Module) -> bool:
    """Whether a module does nothing but hand on names of others."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__")
    ]
    return bool(body) and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body)


def test_no_module_stands_for_another():
    shims = [name for name, tree in TREES.items() if MODULES[name].name != "__init__.py" and is_shim(tree)]
    assert shims == []
    assert is_shim(ast.parse('"""Old."""\nfrom ipsec_dp.new import A\n__all__ = ["A"]\n'))
    assert not is_shim(ast.parse("from ipsec_dp.new import A\nB = A\n"))


# ---- layout ----------------------------------------------------------------------------------------------------------------------


def test_the_package_holds_its_layers_and_nothing_else():
    here = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__" and not path.name.startswith(f"{EXTENSION}.")}
    assert here == TOP | LAYERS


def test_every_package_says_in_one_line_what_it_is():
    packages = [name for name, path in MODULES.items() if path.name == "__init__.py"]
    lines = {name: (ast.get_docstring(TREES[name]) or "").partition("\n")[0] for name in packages}
    assert {name: line for name, line in lines.items() if not line.endswith((".", ":"))} == {}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    return [
        path for pattern in patterns for path in ROOT.rglob(pattern) if not {"build", ".venv"} & set(path.relative_to(ROOT).parts)
    ]


# ---- names that texts give -------------------------------------------------------------------------------------------------------

DOTTED = re.compile(r"(?<![\w.])(?:ipsec_dp|tests|benchmarks)(?:\.[A-Za-z_]\w*)+")


@cache
def names_of(path: Path) -> set[str]:
    """What a module has by name, beside what Python gives to each."""
    found = {"__file__", EXTENSION} if path == PACKAGE / "__init__.py" else {"__file__"}
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                    continue
                case ast.Name(id=name, ctx=ast.Store()):
                    found.add(name)
                case ast.alias(name=name, asname=other):
                    found.add(other or name)
            waiting.append(node)
    return found


def exists(dotted: str) -> bool:
    """Whether a dotted name is a package or a module of ours, or begins with one and goes on with a name in it."""
    path, rest = ROOT, dotted.split(".")
    while rest and (path / rest[0]).is_dir():
        path /= rest.pop(0)
    if rest and (path / f"{rest[0]}.py").is_file():
        path /= f"{rest.pop(0)}.py"
    else:
        path /= "__init__.py"
    return not rest or (path.is_file() and rest[0] in names_of(path))


def test_every_module_that_a_string_or_a_text_names_exists():
    wrong: list[str] = []
    texts = tracked("*.py", "*.md", "*.toml", "Makefile", "*.service", "*.in", ".ci/run")
    for path in texts:
        if path.name in ("test_architecture.py", "CHANGELOG.md"):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            wrong += [f"{path.relative_to(ROOT)}:{number}: {name}" for name in DOTTED.findall(line) if not exists(name)]
    assert wrong == []
    assert not exists("ipsec_dp.daemon")
    assert exists("ipsec_dp.config.schema")
    assert exists("ipsec_dp.util.clock.SystemClock")
    assert not exists("ipsec_dp.util.clock.Nothing")
    assert not exists("tests.unit.sights")


LINK = re.compile(r"\]\(([^)#\s]+)")
PATH = re.compile(r"`((?:ipsec_dp|native|tests|docs|conf|benchmarks|\.ci|\.github)/[\w./*{},-]*)`")
MADE = ("benchmarks/results", "build/")  # by a run


def test_every_path_that_a_document_names_exists():
    wrong: list[str] = []
    for path in tracked("*.md"):
        text = path.read_text()
        targets = [(target, path.parent) for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]
        targets += [(target, ROOT) for target in PATH.findall(text) if not target.startswith(MADE)]
        for target, base in targets:
            choices = [target]
            if match := re.search(r"\{([^}]*)\}", target):
                choices = [target.replace(match.group(), each) for each in match.group(1).split(",")]
            wrong += [f"{path.relative_to(ROOT)}: {each}" for each in choices if not [*base.glob(each)]]
    assert wrong == []


def backquoted(text: str) -> set[str]:
    return set(re.findall(r"`(\w+(?:\.\w+)+)`", text))


def test_every_module_that_a_docstring_names_by_its_package_exists():
    packages = {name.removeprefix("ipsec_dp.") for name, path in MODULES.items() if path.name == "__init__.py" and "." in name}
    wrong: list[str] = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            named = backquoted(ast.get_docstring(node) or "")
            wrong += [f"{name}: {each}" for each in named if each.partition(".")[0] in packages and not exists(f"ipsec_dp.{each}")]
    assert wrong == []
