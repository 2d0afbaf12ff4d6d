"""The commands of docs/start.md, as somebody types them one after the other."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
MARKED = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def cleaned():
    yield
    for site in ("a", "b"):
        control = f"/run/ipsec-dp/start-{site}.sock"
        subprocess.run((".venv/bin/ipsec-dp", "down", "--control", control), cwd=ROOT, capture_output=True, check=False)
        subprocess.run(("ip", "netns", "delete", f"start-{site}"), capture_output=True, check=False)


@pytest.mark.usefixtures("cleaned")
def test_they_make_a_tunnel_and_take_everything_away():
    blocks = MARKED.findall((ROOT / "docs/start.md").read_text())
    assert len(blocks) >= 5
    done = subprocess.run(
        ("bash", "-e", "-c", "\n".join(blocks)), cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 received" in done.stdout
    assert "to-b: up" in done.stdout
    left = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=True).stdout
    assert "start-" not in left
