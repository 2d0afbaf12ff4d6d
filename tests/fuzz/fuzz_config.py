"""Fuzz target: whatever stands in a configuration file ends in a configuration or in findings of one line, in no exception.

Seeds are the examples in conf/. Files that a text names are read as `check` reads them.
"""

from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["ipsec_dp.config", "ipsec_dp.ipsec.selectors", "ipsec_dp.ipsec.suites", "ipsec_dp.ipsec.addresses"]
):
    from ipsec_dp.config.findings import Findings
    from ipsec_dp.config.load import resolve_document
    from ipsec_dp.config.read import parse_toml
    from ipsec_dp.databases.spd import Spd

from tests.fuzz import target

EXAMPLES = Path("conf")
FILE = Path("build/fuzz/nowhere/fuzz.toml")


def receive(data: bytes) -> None:
    findings = Findings("fuzz.toml")
    document = parse_toml(data.decode(errors="replace"), findings)
    config = None if document is None else resolve_document(document, FILE, findings)
    for finding in findings.found:
        assert str(finding).isprintable(), finding
        assert finding.wrong
        assert finding.right
    if config is not None and not findings.errors:
        Spd(config).snapshot()


def seeds() -> Iterator[bytes]:
    for example in sorted(EXAMPLES.glob("*.toml")):
        yield example.read_bytes()
    yield b"a = " + b"[" * 4000


if __name__ == "__main__":
    target.run("config", receive, seeds(), longest=8192)
