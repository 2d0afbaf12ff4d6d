"""A `SecurityAssociation` by itself: nanoseconds a packet by suite, and the bar beside the core's own time."""

from __future__ import annotations

import pytest

from benchmarks.bursts import ROWS, SIZES, burst_of
from benchmarks.lone import measure_lone
from ipsec_dp.dataplane import GROWTH
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.gateway import keymat
from ipsec_dp.rig.security_association import Burst, SecurityAssociation

SUITES = ("aes128gcm16", "aes256gcm16-esn", "chacha20poly1305", "aes128-sha256")


@pytest.mark.parametrize("octets", SIZES)
@pytest.mark.parametrize("suite", SUITES)
def test_seal_a_burst(benchmark, suite, octets):
    benchmark.group = f"one SA by itself seals {ROWS} packets of {octets} octets"
    plain = burst_of(octets)
    out = Burst(ROWS, plain.stride + GROWTH)
    with SecurityAssociation(suite, keymat(parse_suite(suite), "bench"), spi=0x1001) as sa:
        benchmark.pedantic(sa.seal_burst, args=(plain,), kwargs={"out": out}, rounds=200, iterations=10, warmup_rounds=10)
    assert not out.reasons.any()
    benchmark.extra_info["nanoseconds_a_packet"] = round(1e9 * benchmark.stats.stats.median / ROWS, 1)


def test_it_takes_hardly_longer_than_the_core_itself(benchmark):
    """The bar, at 1,420 octets; that of the test in tests/unit/test_lone_speed.py."""
    benchmark.group = "one SA by itself beside the core, aes128gcm16"
    runs = benchmark.pedantic(lambda: [measure_lone(1420) for _ in range(3)], rounds=1)
    best = min(runs, key=lambda costs: costs.ratios()["seal"])
    benchmark.extra_info.update({name: round(ratio, 3) for name, ratio in best.ratios().items()})
    assert best.ratios()["seal"] <= 1.1
    assert best.ratios()["open"] <= 1.1
