"""All cases of the kit, in the order in which they are run: CASES of a gateway that is called, CALLS of one that calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.rig.conformance import auth_cases, call_cases, child_cases, esp_cases, fragment_cases, init_cases, window_cases

if TYPE_CHECKING:
    from ipsec_dp.rig.conformance.kit import ConformanceCase

CASES: Final[tuple[ConformanceCase, ...]] = (
    *init_cases.CASES,
    *auth_cases.CASES,
    *window_cases.CASES,
    *child_cases.CASES,
    *fragment_cases.CASES,
    *esp_cases.CASES,
)

CALLS: Final[tuple[ConformanceCase, ...]] = tuple(call_cases.CASES)  # of a gateway that calls
