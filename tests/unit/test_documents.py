"""The documents name what is there: files, functions, packages with what they are for.

test_architecture.py looks at links and at module names; here is what a reader follows from docs/README.md and docs/design.md.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ipsec_dp"
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", ".github/**/*.md") for path in ROOT.glob(pattern) if path.is_file()
)
NOW = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # which speaks of what was there
WALKS = ROOT / "docs/README.md"
DESIGN = ROOT / "docs/design.md"
EXPLAINED_TREES = ("ipsec_dp", "native", "tests", "tools", "conf", "benchmarks", "docs")

# File names in the documents that are no files of the project.
ELSEWHERE = {
    "test_x.py": "any one",
    "tunnel.json": "what `make bench-tunnel` writes",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- names in a file -------------------------------------------------------------------------------------------------------------


def targets_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def in_python(text: str) -> set[str]:
    """Functions, classes and tables of a module, methods as Class.method."""
    names: set[str] = set()
    for node in ast.parse(text).body:
        names.update(targets_of(node))
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{name}" for member in node.body for name in targets_of(member))
    return names


ATTRIBUTE = r"(?:__attribute__\(\(.*?\)\) )?"
C_FUNCTION = re.compile(rf"^{ATTRIBUTE}[A-Za-z_][^\n;={{}}(]*\b(\w+)\([^;{{}}]*\)\s*\{{", re.MULTILINE)  # a declaration ends in ;
C_MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)


def in_c(text: str) -> set[str]:
    """Functions and macros that a C file or header defines."""
    return set(C_FUNCTION.findall(text)) | set(C_MACRO.findall(text))


@cache
def defined(path: Path) -> set[str]:
    text = path.read_text()
    return in_python(text) if path.suffix == ".py" else in_c(text)


NAMED = re.compile(r"`([\w./-]+\.(?:py|[ch])):([A-Za-z_][\w.]*)`")


def missing_names(text: str) -> list[str]:
    """Each `file:name` of which there is no such file, or no such name in it."""
    found = [(ROOT / file, name) for file, name in NAMED.findall(text)]
    return [f"{path.relative_to(ROOT)}:{name}" for path, name in found if not path.is_file() or name not in defined(path)]


def test_names_are_found_as_the_languages_define_them():
    assert in_python("A: int = 1\nclass B:\n    C = 1\n    async def d(self): ...\ndef e(): ...\n") == {"A", "B", "B.C", "B.d", "e"}
    text = "int one(int a);\nstatic bool two(int a,\n                int b) {\n    return three(a);\n}\n#define FOUR(x) x\n"
    text += "__attribute__((aligned(64))) enum dp_drop five(void) {\n"
    assert in_c(text) == {"two", "FOUR", "five"}


@pytest.mark.parametrize(
    "wrong",
    [
        "native/esp.c:dp_esp_close",
        "native/no_such.c:dp_esp_seal",
        "native/replay.h:dp_replay_commit",  # declared there, defined elsewhere
        "ipsec_dp/databases/sad.py:Sad.no_such",
        "ipsec_dp/databases/sad.py:events",  # a method, without its class
        "ipsec_dp/no_such.py:Sad",
    ],
)
def test_a_wrong_name_is_found(wrong):
    assert missing_names(f"`native/esp.c:dp_esp_seal` and `{wrong}`") == [wrong]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_function_that_a_document_names_is_there(document):
    assert missing_names(document.read_text()) == []


def test_the_walks_name_a_function_in_each_step():
    steps = re.findall(r"^\d+\. (.*)", WALKS.read_text(), re.MULTILINE)
    assert len(steps) > 80
    assert [step for step in steps if not NAMED.match(step) or " — " not in step] == []


# ---- files -----------------------------------------------------------------------------------------------------------------------

FILE = re.compile(r"`((?:[\w.*@-]+/)*[\w.*@-]+\.(?:py|c|h|md|toml|json|patch|service))`")


@cache
def every_file() -> tuple[Path, ...]:
    trees = (path for tree in EXPLAINED_TREES for path in (ROOT / tree).rglob("*") if "results" not in path.parts)
    return tuple(path for path in (*ROOT.iterdir(), *trees) if path.is_file())


def missing_files(text: str) -> list[str]:
    """Each `file` in backquotes, with or without its directories, that is nowhere in the tree."""
    named = {name for name in FILE.findall(text) if name.rpartition("/")[2] not in ELSEWHERE}
    return sorted(name for name in named if not any(path.match(name) for path in every_file()))


def test_a_wrong_file_is_found():
    text = "`no_such.py`, `ike/no_such.py`, `keying/esp.c` but `esp.c`, `native/esp.c`, `policy*.c`, `v2/session.py`"
    assert missing_files(text) == ["ike/no_such.py", "keying/esp.c", "no_such.py"]


@pytest.mark.parametrize("document", NOW, ids=name_of)
def test_every_file_that_a_document_names_is_there(document):
    assert missing_files(document.read_text()) == []


def test_every_file_elsewhere_is_named():
    texts = "".join(path.read_text() for path in DOCUMENTS)
    assert [name for name in ELSEWHERE if name not in texts] == []


def test_every_document_is_in_the_index():
    index = WALKS.read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if path != WALKS and f"]({path.name})" not in index] == []


# ---- packages --------------------------------------------------------------------------------------------------------------------


def first_lines() -> dict[str, str]:
    """The first line of each package's docstring, without its full stop; by the package's path in ipsec_dp."""
    files = {file.parent.relative_to(PACKAGE).as_posix(): file for file in PACKAGE.glob("*/**/__init__.py")}
    docstrings = {name: ast.get_docstring(ast.parse(file.read_text())) or "" for name, file in files.items()}
    return {name: text.partition("\n")[0].removesuffix(".") for name, text in docstrings.items()}


def rows(text: str) -> dict[str, str]:
    """What a table says of each package: | `name/` | text |."""
    return dict(re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", text, re.MULTILINE))


def test_the_design_says_of_each_package_what_its_docstring_says():
    assert rows(DESIGN.read_text()) == first_lines()


def test_a_row_of_another_text_is_seen():
    table = "| `ike/` | IKE |\n| `ike/v2/` | its `octets` |\n| `keys.c` | no package |\n"
    assert rows(table) == {"ike": "IKE", "ike/v2": "its `octets`"}


def test_the_design_has_every_c_file():
    text = DESIGN.read_text()
    named = re.findall(r"`([\w*]+\.[ch])`", text)
    assert [path.name for path in sorted((ROOT / "native").glob("*.c")) if not any(path.match(name) for name in named)] == []
