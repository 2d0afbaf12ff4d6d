"""Percentiles, medians, spread and ratios of the tunnel benchmark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tunnels.names import MEASURES, OURS
from benchmarks.tunnels.statistics import medians, ratios, spread
from ipsec_dp.bench.statistics import percentile


@pytest.mark.parametrize(
    ("values", "percent", "result"),
    [
        ([3.0], 50, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([4.0, 3.0, 2.0, 1.0], 100, 4.0),
        ([1.0, 2.0], 0, 1.0),
        ([float(i) for i in range(1, 101)], 99, 99.0),
        ([float(i) for i in range(1, 2001)], 99, 1980.0),
    ],
)
def test_percentiles_by_nearest_rank(values, percent, result):
    assert percentile(values, percent) == result


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 100))
def test_a_percentile_is_one_of_the_values_and_enough_do_not_exceed_it(values, percent):
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-9


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_no_percentile(values, percent):
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_medians_and_spread_over_rounds():
    rounds = {"tcp_1": {OURS: [8.0, 10.0, 9.0], "strongswan": [0.5], "openvpn": []}}
    assert medians(rounds) == {"tcp_1": {OURS: 9.0, "strongswan": 0.5}}
    assert spread(rounds)["tcp_1"] == {OURS: pytest.approx(2 / 9), "strongswan": 0.0}
    assert spread({"cpu_s_per_gb": {OURS: [0.0, 0.0]}}) == {"cpu_s_per_gb": {OURS: 0.0}}


def test_a_ratio_above_one_is_always_in_our_favour():
    table = {
        "tcp_1": {OURS: 9.0, "strongswan": 0.5, "plain": 18.0},
        "rtt_p50": {OURS: 50.0, "strongswan": 200.0, "plain": 10.0},
    }
    assert ratios(table) == {"tcp_1": {"strongswan": 18.0, "plain": 0.5}, "rtt_p50": {"strongswan": 4.0, "plain": 0.2}}


@pytest.mark.parametrize("row", [{OURS: 0.0, "plain": 1.0}, {OURS: 1.0, "plain": 0.0}, {OURS: 1.0, "plain": -0.1}, {"plain": 1.0}])
def test_nothing_is_divided_by_nothing(row):
    assert ratios({"cpu_s_per_gb": row}) == {"cpu_s_per_gb": {}}


def test_the_names_are_those_that_readers_of_the_results_rely_on():
    assert (
        list(MEASURES)
        == (
            "tcp_1 tcp_8 tcp_bidir tcp_1_nooffload udp_64 udp_512 udp_1400 udp_imix udp_64_gso udp_1400_gso rtt_p50 rtt_p99 "
            "rtt_p99_loaded cpu_s_per_gb rss_idle_mb rss_flood_mb tcp_1_default tcp_1_esp tcp_1_vxlan udp_quic tcp_1_v6 "
            "tcp_1_aes256 tcp_1_chacha rtt_p50_matched rtt_p99_matched"
        ).split()
    )
    assert {name for name, measure in MEASURES.items() if not measure.larger_is_better} == {
        "rtt_p50",
        "rtt_p99",
        "rtt_p99_loaded",
        "rtt_p50_matched",
        "rtt_p99_matched",
        "cpu_s_per_gb",
        "rss_idle_mb",
        "rss_flood_mb",
    }
