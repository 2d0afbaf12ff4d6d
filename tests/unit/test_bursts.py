"""The bars of sealing and opening, measured as `make bench` does. Slow, and only meaningful on a machine that is not overloaded."""

from __future__ import annotations

import pytest

from benchmarks.bursts import Costs, measure
from benchmarks.test_esp_bench import TO_BARE, check_bars

pytestmark = pytest.mark.alone("measures time")

ATTEMPTS = 3  # neighbours on the machine only ever add


@pytest.mark.slow
@pytest.mark.parametrize("octets", TO_BARE)
def test_a_burst_costs_little_more_than_the_bare_cipher(octets):
    runs = [measure(octets) for _ in range(ATTEMPTS)]
    check_bars(octets, min(runs, key=lambda costs: max(costs.ratios().values())))


def test_the_measurement_runs_and_its_ratios_are_of_its_costs():
    costs = measure(64, turns=2)
    assert min(costs.bare_seal, costs.bare_open, costs.seal, costs.open) > 0
    assert Costs(10, 15, 16.5, 20, 30, 33).ratios() == pytest.approx(
        {"seal_to_bare": 1.5, "open_to_bare": 1.5, "seal_numpy_to_c": 1.1, "open_numpy_to_c": 1.1}
    )
