"""The measurements, each on a tunnel that is up: a table of probes, and what each of them finds."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels import generator, iperf
from ipsec_dp.bench.statistics import percentile, times_us
from ipsec_dp.bench.traffic import TRAFFIC, Traffic
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
    """What a probe works with. `earlier` has this contender's values of the last round."""

    sites: TwoSites
    tunnel: Tunnel
    effort: Effort
    earlier: dict[str, float] = field(default_factory=dict)


# ---- throughput ---------------------------------------------------------------------------------------------------------------


def tcp_1(bench: Bench) -> dict[str, float]:
    return {"tcp_1": iperf.gbit_s(bench.sites, bench.effort.tcp_s)}


def tcp_8(bench: Bench) -> dict[str, float]:
    return {"tcp_8": iperf.gbit_s(bench.sites, bench.effort.tcp_s, "--parallel", "8")}


def tcp_bidir(bench: Bench) -> dict[str, float]:
    return {"tcp_bidir": iperf.gbit_s(bench.sites, bench.effort.tcp_s, "--bidir")}


def tcp_1_nooffload(bench: Bench) -> dict[str, float]:
    return {"tcp_1_nooffload": iperf.gbit_s(bench.sites, bench.effort.tcp_s)}


def _udp(name: str) -> Callable[[Bench], dict[str, float]]:
    def probe(bench: Bench) -> dict[str, float]:
        return {name: generator.search(bench.sites, TRAFFIC[name], bench.effort.step_s, bench.earlier.get(name))}

    return probe


# ---- round trips --------------------------------------------------------------------------------------------------------------


def _round_trips(bench: Bench) -> list[float]:
    """MeasureError when fewer than 99 % of the replies came back."""
    count = bench.effort.replies
    command = ("ping", "-n", "-i", f"{PING_INTERVAL_S}", "-c", str(count), "-W", "2", netns.HOST_B[0])
    times = times_us(bench.sites.host_a.run(*command, timeout=count * 0.05 + 30, check=False).stdout)
    if len(times) < count * 0.99:
        raise MeasureError(f"{len(times)} of {count} echo requests were answered")
    return times


def rtt_idle(bench: Bench) -> dict[str, float]:
    times = _round_trips(bench)
    return {"rtt_p50": percentile(times, 50), "rtt_p99": percentile(times, 99)}


@contextlib.contextmanager
def _full_stream(bench: Bench, seconds: float) -> Iterator[None]:
    """One TCP stream as fast as it goes; on leaving, its end is awaited and its failure told."""
    failure: list[Exception] = []

    def stream() -> None:
        try:
            iperf.gbit_s(bench.sites, seconds)
        except (iperf.IperfError, netns.NetnsError) as error:
            failure.append(error)

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        time.sleep(0.5)  # slow start is over
        yield
    finally:
        thread.join()
    if failure:
        raise failure[0]


def rtt_loaded(bench: Bench) -> dict[str, float]:
    with _full_stream(bench, bench.effort.replies * PING_INTERVAL_S + 2):
        times = _round_trips(bench)
    return {"rtt_p99_loaded": percentile(times, 99)}


# ---- cost ---------------------------------------------------------------------------------------------------------------------


def cpu(bench: Bench) -> dict[str, float]:
    """Of the whole machine, for a fixed count of octets; the plain path's share is taken off when a round is complete."""
    before = busy_seconds()
    iperf.run(bench.sites, "--bytes", str(bench.effort.octets))
    return {"cpu_s_per_gb": (busy_seconds() - before) / (bench.effort.octets / GB)}


def rss_idle(bench: Bench) -> dict[str, float]:
    return {"rss_idle_mb": bench.tunnel.rss_octets() / MIB} if bench.tunnel.pids else {}


def rss_flood(bench: Bench) -> dict[str, float]:
    """The largest value while packets come as fast as the generator can send them."""
    if not bench.tunnel.pids:
        return {}
    sending = generator.sender(bench.sites, FLOOD, 0, bench.effort.step_s, "0")
    largest = 0
    while sending.poll() is None:
        largest = max(largest, bench.tunnel.rss_octets())
        time.sleep(RSS_POLL_S)
    sending.communicate()
    largest = max(largest, bench.tunnel.rss_octets())
    generator.wait_until_quiet(bench.sites)
    return {"rss_flood_mb": largest / MIB}


class Probe(NamedTuple):
    """What one function measures, and whether the tunnel is to run with offloads."""

    measures: tuple[str, ...]
    measure: Callable[[Bench], dict[str, float]]
    offloads: bool = True


# In the order in which they run on one tunnel: memory before any load, the flood last.
PROBES = (
    Probe(("rss_idle_mb",), rss_idle),
    Probe(("rtt_p50", "rtt_p99"), rtt_idle),
    Probe(("tcp_1",), tcp_1),
    Probe(("tcp_8",), tcp_8),
    Probe(("tcp_bidir",), tcp_bidir),
    Probe(("rtt_p99_loaded",), rtt_loaded),
    Probe(("cpu_s_per_gb",), cpu),
    *(Probe((name,), _udp(name)) for name in TRAFFIC),
    Probe(("rss_flood_mb",), rss_flood),
    Probe(("tcp_1_nooffload",), tcp_1_nooffload, offloads=False),
)
