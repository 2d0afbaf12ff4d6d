"""A `SecurityAssociation` on numpy bursts beside the C core's own time for the same packets, in turns within one run.

The core's own time is `dp_seal_burst` and `dp_open_burst` called from C (`benchmarks.bursts`), with everything that the loops do
to a packet: look-up, life, numbers, counters, selectors.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import numpy as np

from benchmarks.bursts import OPEN_ROUNDS, ROWS, SEAL_ROUNDS, Bench, burst_of, timed
from ipsec_dp.dataplane import GROWTH
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.gateway import keymat, pair
from ipsec_dp.rig.security_association import Burst, SecurityAssociation


@dataclass(frozen=True, slots=True)
class LoneCosts:
    """Nanoseconds a packet, medians; `array`: an array that the packets fill, which is only read."""

    core_seal: float
    seal: float
    seal_in_place: float
    seal_array: float
    core_open: float
    open: float

    def ratios(self) -> dict[str, float]:
        """To the core's own time."""
        return {
            "seal": self.seal / self.core_seal,
            "seal_in_place": self.seal_in_place / self.core_seal,
            "seal_array": self.seal_array / self.core_seal,
            "open": self.open / self.core_open,
        }


class LoneBench:
    """One SA with its bursts."""

    def __init__(self, suite: str, octets: int) -> None:
        self.sa = SecurityAssociation(suite, keymat(parse_suite(suite), "bench"), spi=0x1001)
        self.plain = burst_of(octets)
        self.wide = self.plain.data.copy()
        self.array = np.ascontiguousarray(self.plain.data[:, :octets])
        self.sealed = [Burst(ROWS, self.plain.stride + GROWTH) for _ in range(OPEN_ROUNDS)]
        self.opened = Burst(ROWS, self.plain.stride + GROWTH)

    def seal(self) -> float:
        def run() -> None:
            for _ in range(SEAL_ROUNDS):
                self.sa.seal_burst(self.plain, out=self.opened)

        return timed(run) / SEAL_ROUNDS / ROWS

    def seal_in_place(self) -> float:
        def run() -> None:
            for _ in range(SEAL_ROUNDS):
                self.sa.seal_burst(self.wide, self.plain.octets, pad_in_place=True, out=self.opened)

        return timed(run) / SEAL_ROUNDS / ROWS

    def seal_array(self) -> float:
        def run() -> None:
            for _ in range(SEAL_ROUNDS):
                self.sa.seal_burst(self.array, self.plain.octets, out=self.opened)

        return timed(run) / SEAL_ROUNDS / ROWS

    def open(self) -> float:
        for burst in self.sealed:
            self.sa.seal_burst(self.plain, out=burst)

        def run() -> None:
            for burst in self.sealed:
                self.sa.open_burst(burst, out=self.opened)

        spent = timed(run) / OPEN_ROUNDS / ROWS
        if self.opened.reasons.any():
            raise RuntimeError("a packet of the benchmark was dropped")
        return spent


def measure_lone(octets: int, suite: str = "aes128gcm16", turns: int = 200) -> LoneCosts:
    """Costs of inner packets of `octets`. Each turn measures everything once; a tenth as many before it warm up."""
    lone = LoneBench(suite, octets)
    with pair(suite) as site, lone.sa:
        core = Bench(site, octets)
        measures = (core.seal_in_c, lone.seal, lone.seal_in_place, lone.seal_array, core.open_in_c, lone.open)
        taken = [tuple(call() for call in measures) for _ in range(turns + turns // 10)][turns // 10 :]
    return LoneCosts(*(statistics.median(turn[i] for turn in taken) for i in range(len(measures))))
