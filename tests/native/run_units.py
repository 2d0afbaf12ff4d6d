"""Runs cmocka test programs one after the other and merges what they report into one JUnit file.

    python3 tests/native/run_units.py OUT.xml PROGRAM...

A program that a sanitizer stopped, that crashed or that hung leaves no report of its own; it counts as one failed test that carries
what it printed. Standard library only: it runs before any virtual environment exists.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path

TIMEOUT = 120  # seconds for one program; under a sanitizer too
TAIL = 8000  # characters kept of what a stopped program printed


def run(program: Path, directory: Path) -> ET.Element:
    """Runs one program; the <testsuite> it reported, or one with a single failure that says how the program ended."""
    report = directory / f"{program.name}.xml"
    environment = os.environ | {"CMOCKA_MESSAGE_OUTPUT": "xml", "CMOCKA_XML_FILE": str(report)}
    start = time.monotonic()
    try:
        result = subprocess.run([program], env=environment, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False)
        ended, printed = f"exit status {result.returncode}", result.stdout + result.stderr
    except subprocess.TimeoutExpired as late:
        ended, printed = f"no end within {TIMEOUT} s", (late.stdout or b"").decode(errors="replace")
    suite = reported(report)
    if suite is None or (ended != "exit status 0" and not int(suite.get("failures", 0)) + int(suite.get("errors", 0))):
        suite = ET.Element("testsuite", tests="1", failures="1", errors="0", skipped="0", time=f"{time.monotonic() - start:.3f}")
        case = ET.SubElement(suite, "testcase", name=program.name)
        ET.SubElement(case, "failure", message=ended).text = "".join(c for c in printed[-TAIL:] if c.isprintable() or c == "\n")
    suite.set("name", program.name)
    for case in suite.iter("testcase"):
        case.set("classname", f"native.{program.name}")
    return suite


def reported(report: Path) -> ET.Element | None:
    """The one test group that a cmocka program wrote; None when there is no complete report."""
    try:
        return ET.parse(report).getroot().find("testsuite")
    except (FileNotFoundError, ET.ParseError):
        return None


def show(suite: ET.Element) -> int:
    """Prints a suite the way a person reads it; the number of its failed tests."""
    failed = [case for case in suite.iter("testcase") if case.find("failure") is not None or case.find("error") is not None]
    total = len(list(suite.iter("testcase")))
    print(f"{suite.get('name')}: {total - len(failed)} passed, {len(failed)} failed")
    for case in failed:
        reason = case.find("failure") if case.find("failure") is not None else case.find("error")
        assert reason is not None
        print(f"  FAILED {case.get('name')} {reason.get('message', '')}\n{reason.text or ''}")
    return len(failed)


def main(out: Path, programs: list[Path]) -> int:
    """Runs all programs, whatever each of them says; the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        suites = [run(program, Path(directory)) for program in programs]
    failed = sum(show(suite) for suite in suites)
    root = ET.Element("testsuites")
    root.extend(suites)
    out.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(program) for program in sys.argv[2:]]))
