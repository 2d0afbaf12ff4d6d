"""Texts of configurations, the files that they name, and what is said of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipsec_dp.config import examine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TUNNEL = """
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
"""
AUTH = """
[tunnel.auth]
psk_file = "to-b.psk"
"""
PROXY = """
[[tunnel.proxy_id]]
local = "10.1.0.0/24"
remote = "10.2.0.0/24"
"""
SECOND = TUNNEL.replace("to-b", "to-c")
SECOND_PROXY = PROXY.replace("10.2", "10.3")
MANUAL = """
[tunnel.manual_unsafe]
suite = "aes128gcm16"
spi_in = 0x1001
spi_out = 0x1002
key_in_file = "in.key"
key_out_file = "out.key"
"""


def writer(directory: Path) -> Callable[[str], Path]:
    """Writes a configuration beside the files it may name, and returns its path."""
    for name, text in [("to-b.psk", "correct horse battery staple\n"), ("in.key", "0a" * 20), ("out.key", "0b" * 20)]:
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)

    def write(text: str) -> Path:
        path = directory / "a.toml"
        path.write_text(text)
        return path

    return write


def errors_in(path: Path) -> list[str]:
    """The lines that its errors get, without the file's name."""
    config, findings = examine(path)
    errors = [str(finding).removeprefix(f"{path}:").split(" ", 1)[1] for finding in findings if finding.severity == "error"]
    assert all(finding.line for finding in findings), "each finding has its place"
    assert (config is None) == bool(errors)
    return errors


def expect(lines: list[str], *patterns: str) -> None:
    """Exactly these lines, each matching its pattern."""
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.search(pattern, line), line
