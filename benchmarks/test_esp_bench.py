"""Seal and open: nanoseconds a packet by suite, provider and size, one packet at a time and in bursts of 64 from numpy arrays.

The functions are those of the loops (`dp_seal_packet`, `dp_open_packet`), with everything they do around the cipher. `extra_info`
holds the median for one packet. The bars compare bursts with the bare cipher within one run (`benchmarks.bursts`).
"""

from __future__ import annotations

import pytest

from benchmarks.bursts import NOW, ROWS, SIZES, Costs, burst_of, fresh, measure, room_for
from ipsec_dp.dataplane import DataPlane, Provider
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import pair

AEADS = ("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305")
SUITES = (*AEADS, "aes128-sha1", "aes128-sha256", "aes256-sha256", "aes256-sha384", "aes256-sha512")
ROUNDS = 200
# The bars, by octets of the inner packet: to the bare cipher, and from numpy to C.
TO_BARE = {1420: 1.6, 64: 3.0}
NUMPY_TO_C = {1420: 1.10, 64: 1.25}


def providers() -> list[Provider]:
    """Those that this machine has."""
    found = [Provider.OPENSSL]
    try:
        with DataPlane(sa_slots=256, tunnels=1, interfaces=1, provider=Provider.IPSEC_MB):
            found.append(Provider.IPSEC_MB)
    except DataPlaneError:
        pass
    return found


def cases() -> list:
    """CBC with HMAC is OpenSSL's alone."""
    return [
        pytest.param(suite, provider, id=f"{suite}-{provider.name.lower()}")
        for suite in SUITES
        for provider in providers()
        if suite in AEADS or provider is Provider.OPENSSL
    ]


def note(benchmark, packets: int, octets: int) -> None:
    nanoseconds = 1e9 * benchmark.stats.stats.median / packets
    benchmark.extra_info.update(nanoseconds_a_packet=round(nanoseconds, 1), gigabits_a_second=round(8 * octets / nanoseconds, 2))


@pytest.mark.parametrize("octets", SIZES)
@pytest.mark.parametrize("rows", [1, ROWS], ids=["single", "burst"])
@pytest.mark.parametrize(("suite", "provider"), cases())
def test_seal(benchmark, suite, provider, rows, octets):
    benchmark.group = f"seal {octets} octets, {'one' if rows == 1 else rows} at a time"
    with pair(suite, provider=provider) as site:
        plain = burst_of(octets, rows)
        sealed = room_for(plain)
        benchmark.pedantic(
            site.a.plane.seal, args=(site.outbound("a"), plain, sealed, NOW), rounds=ROUNDS, iterations=10, warmup_rounds=10
        )
        assert sealed.reason(rows - 1) == "ok"
    note(benchmark, rows, octets)


@pytest.mark.parametrize("octets", SIZES)
@pytest.mark.parametrize("rows", [1, ROWS], ids=["single", "burst"])
@pytest.mark.parametrize(("suite", "provider"), cases())
def test_open(benchmark, suite, provider, rows, octets):
    benchmark.group = f"open {octets} octets, {'one' if rows == 1 else rows} at a time"
    with pair(suite, provider=provider) as site:
        plain = burst_of(octets, rows)
        sealed = room_for(plain)
        opened = room_for(sealed)
        benchmark.pedantic(
            site.b.plane.open,
            args=(sealed, opened, NOW),
            setup=lambda: fresh(site, plain, sealed),
            rounds=ROUNDS,
            warmup_rounds=10,
        )
        assert opened.packets() == plain.packets()
    note(benchmark, rows, octets)


def check_bars(octets: int, costs: Costs) -> None:
    ratios = costs.ratios()
    assert ratios["seal_to_bare"] <= TO_BARE[octets], costs
    assert ratios["open_to_bare"] <= TO_BARE[octets], costs
    assert ratios["seal_numpy_to_c"] <= NUMPY_TO_C[octets], costs
    assert ratios["open_numpy_to_c"] <= NUMPY_TO_C[octets], costs


@pytest.mark.parametrize("octets", TO_BARE)
def test_a_burst_costs_little_more_than_the_bare_cipher(benchmark, octets):
    """The bar. Everything is measured in turns; of three runs the best counts, since neighbours only ever add."""
    benchmark.group = "bursts of 64 beside the bare cipher, aes128gcm16"
    runs = benchmark.pedantic(lambda: [measure(octets) for _ in range(3)], rounds=1)
    best = min(runs, key=lambda costs: max(costs.ratios()[name] for name in ("seal_to_bare", "open_to_bare")))
    benchmark.extra_info.update({name: round(ratio, 3) for name, ratio in best.ratios().items()})
    benchmark.extra_info.update(nanoseconds={name: round(getattr(best, name), 1) for name in best.__slots__})
    check_bars(octets, best)
