"""What the project holds itself to, as a table over the medians of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels.names import CEILING, MEASURES, OURS, PLAIN, USERSPACE_PEERS, WIREGUARD_13

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.tunnels.statistics import Table

FLOOD_MIB = 64.0
# Of the ceiling: without AVX-512 AES-GCM takes five times as long, and the ceiling has no cipher.
CEILING_SHARE = {True: 0.85, False: 0.62}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar: what is demanded, what was measured and what was needed, in the unit of the measure."""

    text: str
    measured: float
    needed: float
    larger_is_better: bool

    @property
    def met(self) -> bool:
        return self.measured >= self.needed if self.larger_is_better else self.measured <= self.needed


class AgainstOne(NamedTuple):
    """`who` does at least `factor` times what `other` does."""

    measure: str
    other: str
    factor: float
    who: str = OURS


class AgainstOwn(NamedTuple):
    """Ours is `factor` times our `tcp_1` or more."""

    measure: str
    factor: float


class AgainstBest(NamedTuple):
    """Ours is `factor` times the best userspace peer's or more (times and costs: or less), but need not pass a share of plain."""

    measure: str
    factor: float
    plain_share: float | None = None


ONE = (
    AgainstOne("tcp_1", "strongswan", 12),
    AgainstOne("tcp_1", "wireguard-go", 12),
    AgainstOne("tcp_1", "wireguard-go-2025", 2.5),
    AgainstOne("tcp_1", WIREGUARD_13, 4.5),
    AgainstOne("tcp_1", "openvpn", 10),
    AgainstOne("tcp_1", PLAIN, 0.40),
    AgainstOne("tcp_1", PLAIN, 0.42, CEILING),
)
BEST = (
    AgainstBest("tcp_1_nooffload", 2),
    AgainstBest("udp_64", 2.5, 0.80),
    AgainstBest("udp_1400", 3, 0.80),
    AgainstBest("udp_64_gso", 6),
    AgainstBest("udp_1400_gso", 6),
    AgainstBest("rtt_p50", 1),
    AgainstBest("rtt_p99", 1),
    AgainstBest("rtt_p99_loaded", 0.5),
    AgainstBest("cpu_s_per_gb", 0.4),
    AgainstBest("udp_quic", 4),
    AgainstBest("rtt_p99_matched", 0.5),
)
OWN = (
    AgainstOwn("tcp_1_default", 0.97),
    AgainstOwn("tcp_1_vxlan", 0.7),
    AgainstOwn("tcp_1_v6", 0.85),
    AgainstOwn("tcp_1_aes256", 0.85),
)
NO_LESS_THAN_ONE_STREAM = ("tcp_8", "tcp_bidir")


def _against_one(bar: AgainstOne, of: Table) -> Iterator[Verdict]:
    row = of.get(bar.measure, {})
    if bar.who in row and bar.other in row:
        text = f"{bar.measure}: {bar.who} ≥ {bar.factor:g} × {bar.other}"
        yield Verdict(text, row[bar.who], bar.factor * row[bar.other], larger_is_better=True)


def _against_best(bar: AgainstBest, of: Table) -> Iterator[Verdict]:
    row = of.get(bar.measure, {})
    peers = {name: row[name] for name in USERSPACE_PEERS if name in row}
    if OURS not in row or not peers:
        return
    larger = MEASURES[bar.measure].larger_is_better
    best = (max if larger else min)(peers, key=lambda name: peers[name])
    needed = bar.factor * peers[best]
    text = f"{bar.measure}: {OURS} {'≥' if larger else '≤'} {bar.factor:g} × best peer ({best})"
    if bar.plain_share is not None and PLAIN in row:
        needed = min(needed, bar.plain_share * row[PLAIN])
        text += f", or {bar.plain_share:g} × plain"
    yield Verdict(text, row[OURS], needed, larger)


def _against_own(of: Table) -> Iterator[Verdict]:
    one_stream = of.get("tcp_1", {}).get(OURS)
    if one_stream is None:
        return
    for measure in NO_LESS_THAN_ONE_STREAM:
        if OURS in of.get(measure, {}):
            yield Verdict(f"{measure}: no less than one stream", of[measure][OURS], one_stream, larger_is_better=True)
    for measure, factor in OWN:
        if OURS in of.get(measure, {}):
            text = f"{measure}: {OURS} ≥ {factor:g} × its tcp_1"
            yield Verdict(text, of[measure][OURS], factor * one_stream, larger_is_better=True)


def verdicts(of: Table, *, avx512: bool = True) -> list[Verdict]:
    """Every bar for which this run measured both sides. `avx512`: whether the processor seals with it."""
    ones = (*ONE, AgainstOne("tcp_1", CEILING, CEILING_SHARE[avx512]))
    found = [verdict for bar in ones for verdict in _against_one(bar, of)]
    found += _against_own(of)
    found += [verdict for best in BEST for verdict in _against_best(best, of)]
    idle, flood = (of.get(name, {}).get(OURS) for name in ("rss_idle_mb", "rss_flood_mb"))
    if idle is not None and flood is not None:
        found.append(
            Verdict(f"memory under a flood ≤ {FLOOD_MIB:g} MiB above idle", flood - idle, FLOOD_MIB, larger_is_better=False)
        )
    return found
