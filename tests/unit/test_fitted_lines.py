"""What a verb says to people fits their terminal, word by word; where it does not go to a terminal each line is whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ipsec_dp.cli.options import fitted
from tests.unit.test_first_file import on_a_terminal

FILE = """
[gateway]
name = "a"
[[tunnel]]
name = "to-b"
local = "192.0.2.1"
remote = "192.0.2.2"
proxy_id = [{local = "10.1.0.0/24", remote = "10.2.0.0/24"}]
[tunnel.auth]
local_id = "a.example"
remote_id = "b.example"
psk_file = "a.psk"
[tunnel.ike]
version = "1"
mode = "aggressive"
proposals = ["aes256-sha256-ecp256"]
"""


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("fits", "fits"),
        ("", ""),
        ("one two three four five six seven", "one two three four five six\n  seven"),
        ("  name    one two three four five six", "  name    one two three four\n          five six"),
        ("  - one two three four five six seven", "  - one two three four five\n    six seven"),
        ("a/path/that/is/longer/than/the/terminal is whole", "a/path/that/is/longer/than/the/terminal\n  is whole"),
    ],
)
def test_a_line_is_broken_between_words(line, shown):
    assert fitted(line, 28) == shown


def test_what_check_says_fits_80_columns_on_a_terminal_alone(tmp_path):
    (tmp_path / "a.toml").write_text(FILE)
    (tmp_path / "a.psk").write_text("a secret of thirty-two characters")
    (tmp_path / "a.psk").chmod(0o600)
    whole = subprocess.run(
        [sys.executable, "-m", "ipsec_dp", "check", "a.toml"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    lines = (whole.stdout + whole.stderr).splitlines()
    assert max(map(len, lines)) > 80
    status, said = on_a_terminal(tmp_path, ["check", "a.toml"], [])
    assert status == 0
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80, "a path is one word"
    assert sorted(said.split()) == sorted(" ".join(lines).split()), "nothing is left out"
