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


def run(program: Path, directory: Path) -> list[ET.Element]:
    """Runs one program; the <testsuite> elements it reported, and one with a single failure if it ended badly without saying so."""
    environment = os.environ | {"CMOCKA_MESSAGE_OUTPUT": "xml", "CMOCKA_XML_FILE": f"{directory}/%g.xml"}
    start = time.monotonic()
    try:
        result = subprocess.run(
            [program], env=environment, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
        )
        ended, printed = f"exit status {result.returncode}", result.stdout + result.stderr
    except subprocess.TimeoutExpired as late:
        ended, printed = f"no end within {TIMEOUT} s", (late.stdout or b"").decode(errors="replace")
    suites = [suite for report in sorted(directory.glob("*.xml")) for suite in reported(report)]
    if not suites or (ended != "exit status 0" and not any(failures(suite) for suite in suites)):
        suites.append(
            ET.Element("testsuite", tests="1", failures="1", errors="0", skipped="0", time=f"{time.monotonic() - start:.3f}")
        )
        case = ET.SubElement(suites[-1], "testcase", name=program.name)
        ET.SubElement(case, "failure", message=ended).text = "".join(c for c in printed[-TAIL:] if c.isprintable() or c == "\n")
    for suite in suites:
        suite.set("name", program.name)
        for case in suite.iter("testcase"):
            case.set("classname", f"native.{program.name}")
    return suites


def reported(report: Path) -> list[ET.Element]:
    """The test groups of one cmocka report; none when it was cut short."""
    try:
        return ET.parse(report).getroot().findall("testsuite")
    except ET.ParseError:
        return []


def failures(suite: ET.Element) -> list[tuple[str, str]]:
    """Name and reason of each failed test of a suite."""
    return [
        (case.get("name", ""), f"{reason.get('message', '')}\n{reason.text or ''}")
        for case in suite.iter("testcase")
        for reason in (*case.findall("failure"), *case.findall("error"))
    ]


def show(suite: ET.Element) -> None:
    """Prints a suite the way a person reads it."""
    failed = failures(suite)
    print(f"{suite.get('name')}: {len(suite.findall('testcase')) - len(failed)} passed, {len(failed)} failed")
    for name, reason in failed:
        print(f"  FAILED {name} {reason}")


def main(out: Path, programs: list[Path]) -> int:
    """Runs all programs, whatever each of them says; the exit status."""
    root = ET.Element("testsuites")
    for program in programs:
        with tempfile.TemporaryDirectory() as directory:
            root.extend(run(program, Path(directory)))
    for suite in root:
        show(suite)
    out.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    return 1 if any(failures(suite) for suite in root) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(program) for program in sys.argv[2:]]))
