"""The manual pages, which the command line writes of itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipsec_dp.cli.commands import program

TOOL = Path(__file__).parents[2] / "tools" / "man_pages.py"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("man")
    subprocess.run((sys.executable, str(TOOL), str(directory)), check=True)
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_each_verb_has_one(pages):
    assert set(pages) >= {"ipsec-dp.1", *(f"ipsec-dp-{name}.1" for name in program.commands)}
    assert "ipsec-dp-policy-explain.1" in pages


def test_it_has_what_help_has(pages):
    text = pages["ipsec-dp-status.1"]
    for part in ("SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
        assert f".SH {part}\n" in text
    assert "ipsec\\-dp status \\-\\-state failed" in text
    assert "With \\-\\-check: 0 OK, 1 warning, 2 critical, 3 unknown." in text
    assert "status \\- Show tunnels, their SAs, what was dropped and why\n" in text, "nothing is cut"


def test_groff_has_no_word_to_say_about_any(pages):
    groff = shutil.which("groff")
    assert groff is not None, "make setup-dev installs it (groff-base)"
    for name, text in pages.items():
        done = subprocess.run((groff, "-man", "-Tascii", "-P-cbou", "-ww"), input=text, capture_output=True, text=True, check=True)
        assert done.stderr == "", name
        assert "\nSYNOPSIS\n" in done.stdout, name
