"""Bursts of 64 through the whole of sealing and opening beside the bare cipher: what everything around the AEAD costs.

Sealed and opened packets are those of `dp_seal_burst` and `dp_open_burst`, which the loops share: SA look-up, life, sequence number
or window, trailer, inner header, selectors, counters. Everything is measured in turns within one run, and medians are taken, so
that what else the machine does falls on all alike.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp._native import lib

from ipsec_dp.dataplane import GROWTH, Batch, Provider
from ipsec_dp.dataplane.convert import check
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.plane import Pair, pair

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 64
SIZES = (64, 256, 512, 1024, 1420)
NOW = 10**12
BARE_ROUNDS = 50  # bursts a call of the bare cipher, whose preparation is measured apart
SEAL_ROUNDS = 20
OPEN_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Costs:
    """Nanoseconds a packet, medians."""

    bare_seal: float
    seal: float
    seal_numpy: float
    bare_open: float
    open: float
    open_numpy: float

    def ratios(self) -> dict[str, float]:
        """What the bars are about."""
        return {
            "seal_to_bare": self.seal / self.bare_seal,
            "open_to_bare": self.open / self.bare_open,
            "seal_numpy_to_c": self.seal_numpy / self.seal,
            "open_numpy_to_c": self.open_numpy / self.open,
        }


def burst_of(octets: int, rows: int = ROWS) -> Batch:
    """Inner packets of one size, with room to seal them."""
    return Batch.of([udp_of_size("10.1.0.1", "10.2.0.1", octets)] * rows)


def room_for(plain: Batch) -> Batch:
    return Batch(plain.rows, plain.stride + GROWTH)


def fresh(site: Pair, plain: Batch, sealed: Batch) -> None:
    """Seals anew: no packet opens twice."""
    if site.a.plane.seal(site.outbound("a"), plain, sealed, NOW) != plain.rows:
        raise RuntimeError(f"a packet of the benchmark was dropped: {sealed.reason(0)}")


def timed(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def bare(site: Pair, octets: int, opening: bool) -> float:
    """Nanoseconds a packet of the bare cipher, rows as in a burst, its preparation taken off."""
    suite = site.suite
    arguments = (Provider.AUTO, suite.encr, suite.integ, suite.key_octets, int(opening), octets, ROWS)
    check(lib.dp_bench_aead(*arguments, 1), "the bare cipher")
    spent = [timed(partial(lib.dp_bench_aead, *arguments, rounds)) for rounds in (BARE_ROUNDS, 0)]
    return (spent[0] - spent[1]) / BARE_ROUNDS / ROWS


@dataclass(slots=True)
class Bench:
    """One site with its buffers. Sealing repeats one burst; opening takes bursts that were just sealed, few enough to stay in the
    cache as the bare cipher's rows do."""

    site: Pair
    octets: int
    plain: Batch = field(init=False)
    sealed: Batch = field(init=False)
    opened: Batch = field(init=False)
    stream: Batch = field(init=False)
    bursts: list[Batch] = field(init=False)

    def __post_init__(self) -> None:
        self.plain = burst_of(self.octets)
        self.sealed = room_for(self.plain)
        self.opened = room_for(self.sealed)
        self.stream = Batch(ROWS * OPEN_ROUNDS, self.sealed.stride)
        self.bursts = [room_for(self.plain) for _ in range(OPEN_ROUNDS)]

    def seal_in_c(self) -> float:
        plain, sealed = self.plain, self.sealed
        buffers = (plain.c_data, plain.c_octets, plain.stride, sealed.c_data, sealed.c_octets, sealed.stride)
        arguments = (self.site.a.plane.c, self.site.outbound("a"), *buffers, ROWS, sealed.c_reasons, NOW, SEAL_ROUNDS)
        return timed(lambda: check(lib.dp_bench_seal(*arguments), "sealing in C")) / SEAL_ROUNDS / ROWS

    def seal_from_numpy(self) -> float:
        seal, outbound = self.site.a.plane.seal, self.site.outbound("a")

        def run() -> None:
            for _ in range(SEAL_ROUNDS):
                seal(outbound, self.plain, self.sealed, NOW)

        return timed(run) / SEAL_ROUNDS / ROWS

    def open_in_c(self) -> float:
        for burst in range(OPEN_ROUNDS):
            fresh(self.site, self.plain, self.sealed)
            rows = slice(burst * ROWS, (burst + 1) * ROWS)
            self.stream.data[rows] = self.sealed.data
            self.stream.octets[rows] = self.sealed.octets
        stream, opened = self.stream, self.opened
        buffers = (stream.c_data, stream.c_octets, stream.stride, opened.c_data, opened.c_octets, opened.stride)
        arguments = (self.site.b.plane.c, *buffers, ROWS, opened.c_reasons, NOW, OPEN_ROUNDS)
        return timed(lambda: check(lib.dp_bench_open(*arguments), "opening in C")) / OPEN_ROUNDS / ROWS

    def open_from_numpy(self) -> float:
        for burst in self.bursts:
            fresh(self.site, self.plain, burst)
        open_ = self.site.b.plane.open

        def run() -> None:
            for burst in self.bursts:
                open_(burst, self.opened, NOW)

        return timed(run) / OPEN_ROUNDS / ROWS


def measure(octets: int, suite: str = "aes128gcm16", turns: int = 200) -> Costs:
    """Costs of inner packets of `octets`. Each turn measures everything once; a tenth as many before it warm up."""
    with pair(suite) as site:
        bench = Bench(site, octets)
        measures = (
            lambda: bare(site, octets, opening=False),
            bench.seal_in_c,
            bench.seal_from_numpy,
            lambda: bare(site, octets, opening=True),
            bench.open_in_c,
            bench.open_from_numpy,
        )
        taken = [tuple(call() for call in measures) for _ in range(turns + turns // 10)][turns // 10 :]
    return Costs(*(statistics.median(turn[i] for turn in taken) for i in range(len(measures))))
