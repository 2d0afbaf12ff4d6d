"""The bar for SAs by themselves: on numpy bursts they take a tenth longer than the C core itself at the most."""

from __future__ import annotations

import pytest

from benchmarks.lone import measure_lone

BAR = 1.1
RUNS = 3  # of which the best counts, since what else the machine does only ever adds


@pytest.mark.measure
@pytest.mark.parametrize("kind", ["seal", "seal_in_place", "open"])
def test_a_burst_of_full_packets_takes_hardly_longer_than_the_core_itself(kind):
    runs = [measure_lone(1420) for _ in range(RUNS)]
    assert min(run.ratios()[kind] for run in runs) <= BAR, runs
