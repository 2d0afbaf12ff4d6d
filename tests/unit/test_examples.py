"""Every program in examples/ runs as it stands, alone, and says what it shows; those of AS_ROOT as root, the others without."""

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
AS_ROOT = {"strongswan_under_test"}  # in namespaces of its own
SAID = {
    "loss_and_convergence": ("  0% lost: up after   0.08 s", "drawn in loss_and_convergence.svg"),
    "odd_peer": ("it called, and proved who it is: True", "came again", "it has 0\n"),
    "strongswan_under_test": (
        "passed         RFC 7296 §1.2      init-is-answered",
        "failed         RFC 7296 §3.1      init-wrong-length",
    ),
}
SHORT = 60  # lines, so that each is read before it is copied


def lines_of(path: Path) -> int:
    """Those of code: neither blank, nor of the docstring."""
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text), clean=False) or ""
    return sum(1 for line in text.replace(docstring, "", 1).splitlines() if line.strip())


RUN = [pytest.param(path, marks=[pytest.mark.root] * (path.stem in AS_ROOT), id=path.stem) for path in PROGRAMS]


@pytest.mark.parametrize("program", RUN)
def test_an_example_runs_and_prints_what_it_shows(program, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 20
    for said in SAID.get(program.stem, ()):
        assert said in done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_is(program):
    assert lines_of(program) <= SHORT
    assert ast.get_docstring(ast.parse(program.read_text()))


def test_there_are_examples():
    assert {program.stem for program in PROGRAMS} == {
        "a_day_in_a_second",
        "load_generator",
        "loss_and_convergence",
        "nat_rebinding",
        "odd_peer",
        "policy_unit_test",
        "rekey_loses_nothing",
        "strongswan_under_test",
    }


def test_what_the_document_says_of_one_sa_runs(tmp_path):
    section = (ROOT / "docs" / "rig.md").read_text().split("## One SA by itself")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
