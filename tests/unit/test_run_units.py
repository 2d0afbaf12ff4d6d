"""The runner of the C units: a program that ends badly is a failed test, whatever it managed to report before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.junit_gate import cases, outcome
from tests.native import run_units

REPORT = """
cat > "${CMOCKA_XML_FILE/\\%g/group}" <<END
<testsuites><testsuite name="group" tests="2" failures="FAILURES" errors="0"><testcase name="a"/><testcase name="b">BODY</testcase>
</testsuite></testsuites>
END
"""
GOOD = REPORT.replace("FAILURES", "0").replace("BODY", "")
BAD = REPORT.replace("FAILURES", "1").replace("BODY", "<failure>0x1 != 0x2</failure>")


@pytest.mark.parametrize(
    ("script", "outcomes"),
    [
        (GOOD, ["passed", "passed"]),
        (BAD + "exit 1", ["passed", "failed"]),
        (GOOD + "exit 1", ["passed", "passed", "failed"]),
        ("exit 0", ["failed"]),
        ("echo heap-buffer-overflow >&2; exit 1", ["failed"]),
        ("kill -ABRT $$", ["failed"]),
        (GOOD.replace("</testsuites>", ""), ["failed"]),
        ("exec sleep 60", ["failed"]),
    ],
    ids=["good", "failure", "leak found at exit", "silent", "sanitizer", "crash", "report cut short", "hang"],
)
def test_every_bad_end_is_a_failed_test(tmp_path: Path, monkeypatch, script, outcomes):
    monkeypatch.setattr(run_units, "TIMEOUT", 1)
    program = tmp_path / "test_x"
    program.write_text("#!/bin/bash\n" + script)
    program.chmod(0o755)
    out = tmp_path / "out.xml"
    assert run_units.main(out, [program]) == ("failed" in outcomes)
    assert [outcome(case) for case in cases(out)] == outcomes
    assert {case.get("classname") for case in cases(out)} == {"native.test_x"}


def test_what_a_stopped_program_printed_is_kept(tmp_path: Path, capsys):
    program = tmp_path / "test_x"
    program.write_text("#!/bin/bash\necho heap-buffer-overflow in dp_x >&2; exit 1\n")
    program.chmod(0o755)
    run_units.main(tmp_path / "out.xml", [program])
    assert "heap-buffer-overflow in dp_x" in (tmp_path / "out.xml").read_text()
    assert "heap-buffer-overflow in dp_x" in capsys.readouterr().out
