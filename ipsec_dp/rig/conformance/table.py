"""All cases of the kit, in the order in which they are run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.rig.conformance import auth_cases, child_cases, esp_cases, fragment_cases, init_cases, window_cases

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
