"""The measurements, each on a tunnel that is up: a table of probes, and what each of them finds."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels import generator, iperf, offloads, overlay
from benchmarks.tunnels.variants import AES256, BASE, CHACHA, DEFAULT, ESP, MATCHED, NO_OFFLOAD, V6, Variant
from ipsec_dp.bench.statistics import percentile, times_us
from ipsec_dp.bench.traffic import SEGMENTS, TRAFFIC, Traffic
from ipsec_dp.bench.wire import busy_seconds
from ipsec_dp.rig import netns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.tunnels.contenders import Tunnel
    from ipsec_dp.rig.netns import TwoSites

MIB = 1 << 20
GB = 1e9
PING_INTERVAL_S = 0.002
RSS_POLL_S = 0.05
FLOOD = Traffic("64")
QUIC = Traffic("1280", SEGMENTS)  # of IPv4: 1,252 octets of payload, as QUIC sends it
STREAM_STARTS_S = 0.5  # slow start is over
REACHED = 0.8  # of the rate that a stream is paced to: below that it is another load


class MeasureError(Exception):
    """A measurement has no result; the text says why."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often: seconds of TCP, seconds of one UDP step, echo replies, octets for the CPU's cost."""

    rounds: int = 5
    tcp_s: float = 3.0
    step_s: float = 2.0
    replies: int = 2000
    octets: int = 256_000_000

    def with_rounds(self, rounds: int) -> Effort:
        return replace(self, rounds=rounds)


QUICK_EFFORT = Effort(rounds=1, tcp_s=2.0, step_s=1.0, replies=1000)


@dataclass
class Bench:
    """What a probe works with, and what it leaves beside its figures.

    `earlier` has this contender's values of the last round, `matched_gbit_s` the best peer's own `tcp_1`. A probe leaves what the
    tunnel's processes used while `tcp_1` was measured, in cores, and single round-trip times in µs under a measure's name.
    """

    sites: TwoSites
    tunnel: Tunnel
    effort: Effort
    earlier: dict[str, float] = field(default_factory=dict)
    matched_gbit_s: float | None = None
    cores: float | None = None
    samples: dict[str, list[float]] = field(default_factory=dict)


# ---- throughput ---------------------------------------------------------------------------------------------------------------


def tcp_1(bench: Bench) -> dict[str, float]:
    before = bench.tunnel.processor_seconds()
    found = iperf.gbit_s(bench.sites, bench.effort.tcp_s)
    if before is not None and (after := bench.tunnel.processor_seconds()) is not None:
        bench.cores = (after - before) / bench.effort.tcp_s
    return {"tcp_1": found}


def tcp_8(bench: Bench) -> dict[str, float]:
    return {"tcp_8": iperf.gbit_s(bench.sites, bench.effort.tcp_s, "--parallel", "8")}


def tcp_bidir(bench: Bench) -> dict[str, float]:
    return {"tcp_bidir": iperf.gbit_s(bench.sites, bench.effort.tcp_s, "--bidir")}


def _one_stream(name: str, to: str = netns.HOST_B[0]) -> Callable[[Bench], dict[str, float]]:
    def probe(bench: Bench) -> dict[str, float]:
        return {name: iperf.gbit_s(bench.sites, bench.effort.tcp_s, to=to)}

    return probe


def tcp_1_vxlan(bench: Bench) -> dict[str, float]:
    with overlay.vxlan(bench.sites) as there:
        return {"tcp_1_vxlan": iperf.gbit_s(bench.sites, bench.effort.tcp_s, to=there)}


def udp_quic(bench: Bench) -> dict[str, float]:
    with offloads.gro_forwarding(bench.sites):
        return {"udp_quic": generator.search(bench.sites, QUIC, bench.effort.step_s, bench.earlier.get("udp_quic"))}


def _udp(name: str) -> Callable[[Bench], dict[str, float]]:
    def probe(bench: Bench) -> dict[str, float]:
        return {name: generator.search(bench.sites, TRAFFIC[name], bench.effort.step_s, bench.earlier.get(name))}

    return probe


# ---- round trips --------------------------------------------------------------------------------------------------------------


def _round_trips(bench: Bench, name: str) -> list[float]:
    """Kept as the samples of that measure. MeasureError when fewer than 99 % of the replies came back."""
    count = bench.effort.replies
    command = ("ping", "-n", "-i", f"{PING_INTERVAL_S}", "-c", str(count), "-W", "2", netns.HOST_B[0])
    times = times_us(bench.sites.host_a.run(*command, timeout=count * 0.05 + 30, check=False).stdout)
    if len(times) < count * 0.99:
        raise MeasureError(f"{len(times)} of {count} echo requests were answered")
    bench.samples[name] = times
    return times


def rtt_idle(bench: Bench) -> dict[str, float]:
    times = _round_trips(bench, "rtt_p99")
    return {"rtt_p50": percentile(times, 50), "rtt_p99": percentile(times, 99)}


@contextlib.contextmanager
def _stream(bench: Bench, *options: str) -> Iterator[list[float]]:
    """One TCP stream for as long as round trips are measured.

    On leaving, its end is awaited, and its failure raised; the list then has what it carried, in Gb/s.
    """
    carried: list[float] = []
    failure: list[Exception] = []

    def stream() -> None:
        try:
            carried.append(iperf.gbit_s(bench.sites, bench.effort.replies * PING_INTERVAL_S + 2, *options))
        except (iperf.IperfError, netns.NetnsError) as error:
            failure.append(error)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        time.sleep(STREAM_STARTS_S)
        yield carried
    finally:
        thread.join()
    if failure:
        raise failure[0]


def rtt_loaded(bench: Bench) -> dict[str, float]:
    with _stream(bench):
        times = _round_trips(bench, "rtt_p99_loaded")
    return {"rtt_p99_loaded": percentile(times, 99)}


def rtt_matched(bench: Bench) -> dict[str, float]:
    """Beside a stream that the sender's kernel paces. MeasureError when the tunnel does not carry that much."""
    wanted = bench.matched_gbit_s
    if wanted is None:
        raise MeasureError("no userspace peer's tcp_1 was measured, which the stream is paced to")
    with _stream(bench, "--fq-rate", f"{wanted * GB:.0f}") as carried:
        times = _round_trips(bench, "rtt_p99_matched")
    if carried[0] < REACHED * wanted:
        del bench.samples["rtt_p99_matched"]
        raise MeasureError(f"it carries {carried[0]:.2f} of the {wanted:.2f} Gb/s of the best peer")
    return {"rtt_p50_matched": percentile(times, 50), "rtt_p99_matched": percentile(times, 99)}


# ---- cost ---------------------------------------------------------------------------------------------------------------------


def cpu(bench: Bench) -> dict[str, float]:
    """Of the whole machine, for a fixed count of octets; the plain path's share is taken off when a round is complete."""
    before = busy_seconds()
    iperf.run(bench.sites, "--bytes", str(bench.effort.octets))
    return {"cpu_s_per_gb": (busy_seconds() - before) / (bench.effort.octets / GB)}


def rss_idle(bench: Bench) -> dict[str, float]:
    return {"rss_idle_mb": bench.tunnel.rss_octets() / MIB}


def rss_flood(bench: Bench) -> dict[str, float]:
    """The largest value while packets come as fast as the generator can send them."""
    sending = generator.sender(bench.sites, FLOOD, 0, bench.effort.step_s, "0")
    largest = 0
    while sending.poll() is None:
        largest = max(largest, bench.tunnel.rss_octets())
        time.sleep(RSS_POLL_S)
    sending.communicate()
    largest = max(largest, bench.tunnel.rss_octets())
    generator.wait_until_quiet(bench.sites)
    return {"rss_flood_mb": largest / MIB}


# ---- the table ----------------------------------------------------------------------------------------------------------------

SEARCH_STEPS = 3  # of a loss-free rate, at their whole length; what is too much shows early
STEP_OVERHEAD_S = 0.5


def _tcp_seconds(effort: Effort) -> float:
    return effort.tcp_s + STEP_OVERHEAD_S


def _search_seconds(effort: Effort) -> float:
    return SEARCH_STEPS * (effort.step_s + STEP_OVERHEAD_S)


def _ping_seconds(effort: Effort) -> float:
    return effort.replies * PING_INTERVAL_S


def _stream_seconds(effort: Effort) -> float:
    return effort.replies * PING_INTERVAL_S + 3


class Probe(NamedTuple):
    """What one function measures, about how long it takes, and on which tunnel."""

    measures: tuple[str, ...]
    measure: Callable[[Bench], dict[str, float]]
    seconds: Callable[[Effort], float] = _tcp_seconds
    variant: Variant = BASE


# In the order in which they run on one tunnel: memory before any load, the flood last.
PROBES = (
    Probe(("rss_idle_mb",), rss_idle, lambda _: 0.0),
    Probe(("rtt_p50", "rtt_p99"), rtt_idle, _ping_seconds),
    Probe(("tcp_1",), tcp_1),
    Probe(("tcp_8",), tcp_8),
    Probe(("tcp_bidir",), tcp_bidir),
    Probe(("rtt_p99_loaded",), rtt_loaded, _stream_seconds),
    Probe(("cpu_s_per_gb",), cpu),
    Probe(("tcp_1_vxlan",), tcp_1_vxlan),
    *(Probe((name,), _udp(name), _search_seconds) for name in TRAFFIC),
    Probe(("udp_quic",), udp_quic, _search_seconds),
    Probe(("rss_flood_mb",), rss_flood, _tcp_seconds),
    Probe(("tcp_1_default",), _one_stream("tcp_1_default"), variant=DEFAULT),
    Probe(("tcp_1_esp",), _one_stream("tcp_1_esp"), variant=ESP),
    Probe(("tcp_1_v6",), _one_stream("tcp_1_v6", netns.HOST_B[1]), variant=V6),
    Probe(("tcp_1_aes256",), _one_stream("tcp_1_aes256"), variant=AES256),
    Probe(("tcp_1_chacha",), _one_stream("tcp_1_chacha"), variant=CHACHA),
    Probe(("tcp_1_nooffload",), _one_stream("tcp_1_nooffload"), variant=NO_OFFLOAD),
    Probe(("rtt_p50_matched", "rtt_p99_matched"), rtt_matched, _stream_seconds, MATCHED),
)


def probes_for(wanted: set[str]) -> list[Probe]:
    """Those that find one of these measures, and those whose figures they need."""
    needed = wanted | ({"tcp_1"} if wanted & {"rtt_p50_matched", "rtt_p99_matched"} else set())
    return [probe for probe in PROBES if needed & set(probe.measures)]
