"""A run, step by step: whose turn it is, how long it will take, what one step leaves in the results."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels import generator, iperf, offloads, report
from benchmarks.tunnels.contenders import Contender, check_path, lengthen_queues
from benchmarks.tunnels.measures import Bench, Effort, MeasureError, Probe
from benchmarks.tunnels.variants import IPV6, MATCHED, VARIANTS, Variant
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError
from ipsec_dp.rig.process import GatewayProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.tunnels.results import Results
    from ipsec_dp.rig.netns import TwoSites

START_S = 2.5  # of a tunnel, with the look whether it carries packets
FAILURES = (
    PeerError,
    GatewayProcessError,
    IpsecDpError,
    netns.NetnsError,
    generator.GeneratorError,
    iperf.IperfError,
    offloads.OffloadError,
    OSError,
)


class BenchFailedError(Exception):
    """A contender could not be measured in the first round; without it the run is no comparison."""


class Step(NamedTuple):
    """One tunnel, up once: the round, from 1, and what is measured on it."""

    number: int
    variant: Variant
    contender: Contender
    probes: tuple[Probe, ...]


def order(count: int, number: int) -> list[int]:
    """Who comes when in a round: each begins in turn, and after another one each time (Williams' Latin square)."""
    zigzag = [(at + 1) // 2 if at % 2 else -(at // 2) for at in range(count)]
    return [(at + number) % count for at in zigzag]


def turns(contenders: Sequence[Contender], number: int, pair: Sequence[Contender] = ()) -> list[Contender]:
    """The contenders of a round, from 0. `pair`: two that come last, next to each other, the one first as often as the other."""
    others = [contender for contender in contenders if contender not in pair]
    turned = [pair[at] for at in order(len(pair), number)]
    return [*(others[at] for at in order(len(others), number)), *turned]


def plan(contenders: Sequence[Contender], probes: Sequence[Probe], rounds: int, pair: Sequence[Contender] = ()) -> list[Step]:
    """Every step. In a round all contenders come for one kind of tunnel, then all for the next: few minutes lie between."""
    return [
        Step(number + 1, variant, contender, wanted)
        for number in range(rounds)
        for variant in VARIANTS
        for contender in turns(contenders, number, pair)
        if (wanted := probes_of(contender, variant, probes))
    ]


def probes_of(contender: Contender, variant: Variant, probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Those for one kind of tunnel that a contender has figures for."""
    return tuple(probe for probe in probes if probe.variant == variant and not set(probe.measures) <= set(contender.cannot))


class Forecast:
    """How long what is left will take: what was done in an earlier round takes as long again, the rest what the table says."""

    def __init__(self, steps: Sequence[Step], effort: Effort) -> None:
        self._left = list(steps)
        self._effort = effort
        self._took: dict[tuple[str, str], float] = {}

    def done(self, seconds: float) -> None:
        """The next step is over and took so long."""
        step = self._left.pop(0)
        self._took[step.variant.name, step.contender.name] = seconds

    def seconds(self) -> float:
        return sum(self._took.get((step.variant.name, step.contender.name), self._guess(step)) for step in self._left)

    def _guess(self, step: Step) -> float:
        return START_S + sum(probe.seconds(self._effort) for probe in step.probes)


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextlib.contextmanager
def _tunnel(sites: TwoSites, step: Step, effort: Effort, results: Results) -> Iterator[Bench]:
    variant, contender = step.variant, step.contender
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ipsec-dp-bench-")))
        tunnel = stack.enter_context(contender.start(sites, directory, variant))
        lengthen_queues(sites, tunnel)
        check_path(sites, tunnel, netns.HOST_B[variant.version == IPV6])
        if not variant.offloads:
            stack.enter_context(offloads.all_off(sites))
        elif tunnel.said:
            results.environment.setdefault("gateways", {})[contender.name] = tunnel.said
        yield Bench(sites, tunnel, effort, results.earlier(contender.name))


def measure_step(sites: TwoSites, step: Step, effort: Effort, results: Results, doing: Callable[[str], None]) -> None:
    """Brings the tunnel up, measures, takes it down. What cannot be measured leaves its reason; FAILURES are raised."""
    name = step.contender.name
    doing(f"round {step.number}, {name}: {step.variant.name} tunnel")
    with _tunnel(sites, step, effort, results) as bench:
        if step.variant == MATCHED:
            bench.matched_gbit_s = results.matched_gbit_s[-1] if results.matched_gbit_s else None
        for probe in step.probes:
            doing(f"round {step.number}, {name}: {', '.join(probe.measures)}")
            bench.cores = None
            try:
                figures = probe.measure(bench)
            except MeasureError as error:
                results.lacks(name, probe.measures, f"round {step.number}: {error}")
            else:
                results.add(name, figures, step.number, bench.cores)
        results.add_samples(name, bench.samples)


def measure_all(
    steps: Sequence[Step], effort: Effort, results: Results, done: Callable[[str], None], doing: Callable[[str], None]
) -> None:
    """All of them; `done` is told of each, `doing` of what goes on. BenchFailedError in the first round; later ones are kept."""
    forecast = Forecast(steps, effort)
    netns.sweep()
    with netns.Lab() as lab:
        sites = netns.two_sites(lab)
        results.environment["route"] = sites.host_a.run("ip", "route", "show", "default").stdout.strip()
        for step in steps:
            if step.variant == MATCHED and len(results.matched_gbit_s) < step.number:
                results.matched_gbit_s += [rate] if (rate := results.best_peer_gbit_s()) else []
            begun = time.monotonic()
            try:
                measure_step(sites, step, effort, results, doing)
            except FAILURES as error:
                _failed(step, results, str(error))
            seconds = time.monotonic() - begun
            forecast.done(seconds)
            figures = _figures(step, results)
            done(
                f"round {step.number}/{steps[-1].number}  {step.contender.name}: {figures} "
                f"({seconds:.0f} s; {duration(forecast.seconds())} left)"
            )


def _failed(step: Step, results: Results, why: str) -> None:
    name = step.contender.name
    missing = tuple(measure for probe in step.probes for measure in probe.measures if not results.has(name, measure, step.number))
    results.lacks(name, missing, f"round {step.number}: {why.partition(chr(10))[0]}")
    results.failures.append(f"round {step.number}, {name}, {step.variant.name}: {why}")
    if step.number == 1:
        raise BenchFailedError(f"{name}: {why}")


def _figures(step: Step, results: Results) -> str:
    """The step's own, of the many on a usual tunnel a few."""
    name = step.contender.name
    measures = [measure for probe in step.probes for measure in probe.measures if results.has(name, measure, step.number)]
    few = [measure for measure in measures if measure in {"tcp_1", "udp_64", "rtt_p50"}] or measures[:3]
    return ", ".join(f"{measure} {report.figure(results.earlier(name)[measure])}" for measure in few) or "nothing"
