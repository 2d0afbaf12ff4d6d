"""The house: layers, and names that documents and strings give, so that what was put in order stays so."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ipsec_dp"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}

TOP = {"__init__.py", "__main__.py", "errors.py", "py.typed"}  # and the extension that is built there
LAYERS = {
    "bench", "cli", "config", "databases", "dataplane", "gateway", "host",
    "ike", "ipsec", "keying", "network", "rig", "services", "util",
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
    here = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__" and not path.name.startswith("_native.")}
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

DOTTED = re.compile(r"\bipsec_dp(?:\.[A-Za-z_]\w*)+")


def exists(dotted: str) -> bool:
    """Whether a dotted name is a module of ours, or a name in one."""
    name, rest = dotted, list[str]()
    while name not in MODULES:
        name, _, last = name.rpartition(".")
        rest.insert(0, last)
        if not name:
            return False
    if not rest:
        return True
    source = MODULES[name].read_text()
    return rest[0] in ("__version__", "__file__", "_native") or re.search(rf"\b{re.escape(rest[0])}\b", source) is not None


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
