"""The gate in front of every landing: a report that shows nothing must not pass for a good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import junit_gate

PASSED = '<testcase classname="m" name="a" time="0"/>'
FAILED = '<testcase classname="m" name="b" time="0"><failure message="1 != 2"/></testcase>'
ERROR = '<testcase classname="m" name="c" time="0"><error message="fixture"/></testcase>'
SKIPPED = '<testcase classname="m" name="d" time="0"><skipped message="needs root"/></testcase>'


@pytest.fixture
def report(tmp_path: Path):
    def write(*cases: str, name: str = "report.xml") -> Path:
        path = tmp_path / name
        path.write_text(f'<testsuites><testsuite name="s">{"".join(cases)}</testsuite></testsuites>')
        return path

    return write


@pytest.mark.parametrize(
    ("cases", "status", "last_line"),
    [
        ([PASSED], 0, "1 passed, 0 failed"),
        ([PASSED, PASSED], 0, "2 passed, 0 failed"),
        ([PASSED, FAILED], 1, "1 passed, 1 failed"),
        ([PASSED, ERROR], 1, "1 passed, 1 failed"),
        ([PASSED, SKIPPED], 1, "1 passed, 0 failed, 1 skipped"),
        ([], 1, "0 passed, 0 failed"),
    ],
    ids=["one", "two", "failure", "error", "skip", "empty"],
)
def test_check_accepts_only_a_report_of_passed_tests(report, capsys, cases, status, last_line):
    assert junit_gate.main(["check", str(report(*cases))]) == status
    assert capsys.readouterr().out.splitlines()[-1] == last_line


@pytest.mark.parametrize("content", [None, "", "<testsuites><testsuite>"], ids=["missing", "no octets", "cut short"])
def test_check_refuses_what_is_not_a_report_and_still_sums_the_others(report, tmp_path, capsys, content):
    bad = tmp_path / "bad.xml"
    if content is not None:
        bad.write_text(content)
    assert junit_gate.main(["check", str(bad), str(report(PASSED))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{bad}: no report")
    assert lines[-1] == "1 passed, 0 failed"


def test_check_names_what_was_skipped(report, capsys):
    junit_gate.main(["check", str(report(SKIPPED))])
    assert "  skipped: m::d" in capsys.readouterr().out


def test_merge_holds_the_tests_of_all_reports(report, tmp_path):
    out = tmp_path / "deep" / "out.xml"
    assert junit_gate.main(["merge", str(out), str(report(PASSED)), str(report(SKIPPED, name="other.xml"))]) == 0
    assert [junit_gate.outcome(case) for case in junit_gate.cases(out)] == ["passed", "skipped"]


@pytest.mark.parametrize("broken", ["missing.xml", "cut.xml"])
def test_merge_turns_a_report_that_is_not_there_into_a_failed_test(report, tmp_path, broken):
    (tmp_path / "cut.xml").write_text("<testsuites>")
    out = tmp_path / "out.xml"
    assert junit_gate.main(["merge", str(out), str(report(PASSED)), str(tmp_path / broken)]) == 1
    assert [junit_gate.outcome(case) for case in junit_gate.cases(out)] == ["passed", "failed"]


def test_merge_reports_a_failure(report, tmp_path):
    assert junit_gate.main(["merge", str(tmp_path / "out.xml"), str(report(FAILED))]) == 1


@pytest.mark.parametrize("arguments", [[], ["check"], ["merge", "out.xml"], ["join", "a", "b"]])
def test_usage_errors_exit_2(arguments):
    assert junit_gate.main(arguments) == 2
