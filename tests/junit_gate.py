"""What test reports must hold before anything may land: they are there, they hold tests, and none of those failed or was skipped.

    python3 tests/junit_gate.py merge OUT.xml IN.xml...   one report of several; says what it holds
    python3 tests/junit_gate.py check REPORT.xml...       exit status 1 and the reasons when a report is not good

Standard library only.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

BAD = {"failure": "failed", "error": "failed", "skipped": "skipped"}


def outcome(case: ET.Element) -> str:
    """``passed``, ``failed`` or ``skipped``; an expected failure (xfail) counts as skipped, for it shows nothing."""
    return next((word for tag, word in BAD.items() if case.find(tag) is not None), "passed")


def cases(report: Path) -> list[ET.Element]:
    """Every test of a report; raises OSError or ET.ParseError where there is none to read."""
    return list(ET.parse(report).getroot().iter("testcase"))


def counted(found: list[ET.Element]) -> str:
    """``N passed, N failed``, and how many were skipped if any were."""
    counts = Counter(outcome(case) for case in found)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return f"{counts['passed']} passed, {counts['failed']} failed{skipped}"


def merge(out: Path, reports: list[Path]) -> int:
    """Writes one report of several. One that is missing or cut short becomes a failed test, so that it cannot go unseen."""
    root = ET.Element("testsuites")
    for report in reports:
        try:
            root.extend(ET.parse(report).getroot().iter("testsuite"))
        except (OSError, ET.ParseError) as error:
            suite = ET.SubElement(root, "testsuite", name=report.stem, tests="1", failures="0", errors="1", skipped="0", time="0")
            case = ET.SubElement(suite, "testcase", classname="report", name=report.stem)
            ET.SubElement(case, "error", message=f"{report}: {error}")
    out.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(root).write(out, encoding="utf-8", xml_declaration=True)
    found = list(root.iter("testcase"))
    print(f"{out}: {counted(found)}")
    return 1 if any(outcome(case) == "failed" for case in found) else 0


def check(reports: list[Path]) -> int:
    """Says what each report holds and what is wrong with it; the last line is the sum of all."""
    every: list[ET.Element] = []
    good = True
    for report in reports:
        try:
            found = cases(report)
        except (OSError, ET.ParseError) as error:
            print(f"{report}: no report ({error})")
            good = False
            continue
        print(f"{report}: {counted(found) if found else 'holds no tests'}")
        for case in found:
            if outcome(case) != "passed":
                print(f"  {outcome(case)}: {case.get('classname')}::{case.get('name')}")
        good = good and bool(found) and all(outcome(case) == "passed" for case in found)
        every += found
    print(counted(every))
    return 0 if good else 1


def main(arguments: list[str]) -> int:
    """``merge`` or ``check``; 2 for anything else."""
    match arguments:
        case ["merge", out, *reports] if reports:
            return merge(Path(out), [Path(report) for report in reports])
        case ["check", *reports] if reports:
            return check([Path(report) for report in reports])
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
