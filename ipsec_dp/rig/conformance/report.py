"""A report of verdicts: a table for people, JSON and JUnit for programs. It holds no key."""

from __future__ import annotations

import json
import textwrap
import xml.etree.ElementTree as ET
from collections import Counter
from typing import TYPE_CHECKING, Final

from ipsec_dp.rig.conformance.run import CaseOutcome
from ipsec_dp.util.text import shown, shown_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.rig.conformance.run import Verdict

SCHEMA: Final = "ipsec-dp.conformance.v1"
COLUMNS: Final = 80
WIDTHS: Final = (14, 7, 19)  # of outcome, level and section; what must happen has the rest
_SIGNS: Final = {CaseOutcome.PASSED: "passed", CaseOutcome.FAILED: "FAILED", CaseOutcome.NOT_APPLICABLE: "not applicable"}


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many of each outcome."""
    found = Counter(verdict.outcome for verdict in verdicts)
    return {outcome.value: found[outcome] for outcome in CaseOutcome}


def text(verdicts: Sequence[Verdict], host: str) -> str:
    """At most 80 columns: a line for each case, what a gateway did otherwise below it, and the sum."""
    lines = [shown(f"{host}: {len(verdicts)} cases", COLUMNS), ""]
    for verdict in verdicts:
        case = verdict.case
        head = "".join(
            part.ljust(width) for part, width in zip((_SIGNS[verdict.outcome], case.level, case.section), WIDTHS, strict=True)
        )
        lines.append(f"{head}{case.name}"[:COLUMNS])
        lines += _indented(case.what)
        if verdict.text:
            lines += _indented(f"{'instead' if verdict.outcome is CaseOutcome.FAILED else 'since'}: {shown(verdict.text)}")
    lines += ["", ", ".join(f"{count} {outcome}" for outcome, count in counts(verdicts).items())]
    return "\n".join(lines) + "\n"


def _indented(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, COLUMNS, initial_indent="    ", subsequent_indent="    ")


def as_json(verdicts: Sequence[Verdict], host: str) -> str:
    """One object: schema, host, counts, cases."""
    cases = [
        {
            "case": verdict.case.name,
            "section": verdict.case.section,
            "level": verdict.case.level.value,
            "must": verdict.case.what,
            "outcome": verdict.outcome.value,
            "text": verdict.text,
            "seconds": round(verdict.seconds, 3),
        }
        for verdict in verdicts
    ]
    whole = {"schema": SCHEMA, "host": host, "counts": counts(verdicts), "cases": cases}
    return json.dumps(shown_all(whole), indent=2, ensure_ascii=False) + "\n"


def junit(verdicts: Sequence[Verdict], host: str) -> str:
    """One suite; a case that is not applicable is skipped."""
    found = counts(verdicts)
    suite = ET.Element(
        "testsuite",
        name=shown(f"conformance of {host}"),
        tests=str(len(verdicts)),
        failures=str(found[CaseOutcome.FAILED]),
        skipped=str(found[CaseOutcome.NOT_APPLICABLE]),
        time=f"{sum(verdict.seconds for verdict in verdicts):.3f}",
    )
    for verdict in verdicts:
        case = verdict.case
        made = ET.SubElement(suite, "testcase", classname=case.section, name=case.name, time=f"{verdict.seconds:.3f}")
        if verdict.outcome is not CaseOutcome.PASSED:
            kind = "failure" if verdict.outcome is CaseOutcome.FAILED else "skipped"
            ET.SubElement(made, kind, message=shown(verdict.text)).text = f"{case.level}: {case.what}"
    return ET.tostring(suite, encoding="unicode") + "\n"


FORMATS: Final[dict[str, Callable[[Sequence[Verdict], str], str]]] = {"text": text, "json": as_json, "junit": junit}
