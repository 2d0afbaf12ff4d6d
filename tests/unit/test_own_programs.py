"""A program of our own that we start is the installed one, whatever lies in the directory that it is started in."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

from ipsec_dp.config.difference import ReadRequest, ask

ROOT = Path(__file__).resolve().parents[2]
SAFE = {"-P", "-I"}  # neither puts the directory in front of what is installed


def test_a_package_of_our_name_in_a_foreign_directory_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "ipsec_dp").mkdir()
    (tmp_path / "ipsec_dp" / "__init__.py").write_text("from pathlib import Path\nPath('was-run').touch()\n")
    monkeypatch.chdir(tmp_path)
    got = ask(ReadRequest(tmp_path / "none.toml", {}, b"k" * 32))
    assert "cannot be read" in str(got.findings[0])
    assert not (tmp_path / "was-run").exists()


def started(path):
    """What follows sys.executable, of each place in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts = node.elts if isinstance(node, ast.Tuple | ast.List) else ()
        for one, following in pairwise(parts):
            if ast.unparse(one) == "sys.executable":
                yield ast.literal_eval(following)


def test_every_python_that_is_started_looks_in_no_foreign_directory():
    texts = {path: text for path in sorted((ROOT / "ipsec_dp").rglob("*.py")) if "sys.executable" in (text := path.read_text())}
    assert len(texts) >= 5
    for path, text in texts.items():
        found = list(started(path))
        assert len(found) == text.count("sys.executable"), path
        assert set(found) <= SAFE, path
