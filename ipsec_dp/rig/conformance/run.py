"""Runs cases one after the other, each between two controls, and says what became of each."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ipsec_dp.rig.conformance.kit import CaseFailedError, NotApplicableError
from ipsec_dp.rig.odd_wire import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.rig.conformance.kit import ConformanceCase, Kit


class CaseOutcome(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`text`: what the gateway did otherwise, or why the case says nothing about it; empty where it passed."""

    case: ConformanceCase
    outcome: CaseOutcome
    text: str = ""
    seconds: float = 0.0


def run_cases(kit: Kit, cases: Sequence[ConformanceCase], progress: Callable[[Verdict], None]) -> list[Verdict]:
    """The verdict of each case, which `progress` is told as it is reached.

    UnreachableError when not even a right IKE SA comes up. A gateway with which none comes up after a case has failed that one, and
    the cases behind it say nothing.
    """
    if not kit.control():
        raise UnreachableError(
            "no IKE SA with a CHILD_SA comes up, so no case would say anything: compare key, identities, proposals and selectors "
            "with the gateway's; its log says what it refused"
        )
    verdicts: list[Verdict] = []
    there = True
    for case in cases:
        verdict = run_case(kit, case) if there else Verdict(case, CaseOutcome.NOT_APPLICABLE, "the gateway was gone before")
        if there and not up(kit):
            there = False
            text = f"{verdict.text}; " if verdict.text else ""
            verdict = Verdict(case, CaseOutcome.FAILED, f"{text}afterwards no IKE SA comes up", verdict.seconds)
        verdicts.append(verdict)
        progress(verdict)
    return verdicts


def up(kit: Kit) -> bool:
    """A control, which may fail once: what a case has left may be in its way."""
    with contextlib.suppress(UnreachableError):
        if kit.control():
            return True
    with contextlib.suppress(UnreachableError):
        return kit.control()
    return False


def run_case(kit: Kit, case: ConformanceCase) -> Verdict:
    """Of one case, without the controls."""
    began = kit.wire.now()
    kit.wire.begin()
    try:
        case.run(kit)
        found = CaseOutcome.PASSED, ""
    except NotApplicableError as why:
        found = CaseOutcome.NOT_APPLICABLE, str(why)
    except (CaseFailedError, UnreachableError) as why:
        found = CaseOutcome.FAILED, str(why)
    finally:
        kit.wire.end()
    with contextlib.suppress(UnreachableError):  # the control will say so
        kit.close()
    return Verdict(case, *found, kit.wire.now() - began)


def all_passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether none has failed."""
    return not any(verdict.outcome is CaseOutcome.FAILED for verdict in verdicts)
