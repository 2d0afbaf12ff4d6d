"""Every program in examples/ runs as it stands, alone and without root, and says what it shows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))
SHORT = 60  # lines, so that each is read before it is copied


def lines_of(path: Path) -> int:
    """Those of code: neither blank, nor of the docstring."""
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False) or ""
    return sum(1 for line in text.replace(docstring, "", 1).splitlines() if line.strip())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_runs_and_prints_what_it_shows(program, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 20


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_is(program):
    assert lines_of(program) <= SHORT
    assert ast.get_docstring(ast.parse(program.read_text()))


def test_there_are_examples():
    assert {"load_generator", "policy_unit_test"} <= {program.stem for program in PROGRAMS}


def test_what_the_document_says_of_one_sa_runs(tmp_path):
    section = (ROOT / "docs" / "rig.md").read_text().split("## One SA by itself")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
