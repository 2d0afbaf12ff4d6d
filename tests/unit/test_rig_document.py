"""docs/rig.md: its first test runs as it stands there, and is short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "rig.md"
LINES = 15  # that a test author's first test may have


def test_the_first_example_is_short_and_runs_without_anything_of_this_project_around_it(tmp_path):
    example = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= LINES
    (tmp_path / "test_first.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_first.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("ipsec-dp-rig")] == []
