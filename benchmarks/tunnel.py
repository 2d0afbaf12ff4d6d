"""Whole tunnels beside each other: this project, the plain path, and other implementations, measured in one run.

    make bench-tunnel                        everything, 5 rounds; as root, at most 40 minutes on an idle 2-core machine
    python -m benchmarks.tunnel --quick      tcp_1, udp_64 and idle round trips in one round, below two minutes

Every contender runs between the same four network namespaces, in turn, round after round, so that what else the machine does falls
on all of them. Results: benchmarks/results/tunnel.json, plots beside it.
Exit status: 0 measured; 1 failed; 2 usage; 3 void, because a peer was so slow that being faster proves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.tunnels import bars, ceiling, generator, iperf, measures, offloads, plots, report
from benchmarks.tunnels.contenders import CONTENDERS, Contender, check_path, lengthen_queues
from benchmarks.tunnels.measures import PROBES, QUICK_EFFORT, Bench, Effort, Probe
from benchmarks.tunnels.names import CEILING, MEASURES, QUICK, REQUIRED
from benchmarks.tunnels.results import Results
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError
from ipsec_dp.rig.process import GatewayProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.rig.netns import TwoSites

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LOG_COLUMNS = 160
FAILED, VOID = 1, 3
FAILURES = (
    PeerError,
    GatewayProcessError,
    IpsecDpError,
    netns.NetnsError,
    generator.GeneratorError,
    iperf.IperfError,
    measures.MeasureError,
    offloads.OffloadError,
    OSError,
)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line. SystemExit 2 on a name that does not exist."""
    parser = argparse.ArgumentParser(prog="benchmarks.tunnel", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"one short round of {', '.join(QUICK)}")
    parser.add_argument("--rounds", type=int, help=f"rounds (default {Effort().rounds}, with --quick {QUICK_EFFORT.rounds})")
    parser.add_argument("--measure", action="append", choices=list(MEASURES), metavar="NAME", help="only this; may be repeated")
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--contender", action="append", choices=names, metavar="NAME", help="only this; may be repeated")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go (default benchmarks/results)")
    found = parser.parse_args(argv)
    if found.rounds is not None and found.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return found


def chosen(names: Sequence[str] | None) -> list[Contender]:
    """Those named, or all that can run here; a required one is always among these, and fails when it is not installed."""
    if names:
        return [contender for contender in CONTENDERS if contender.name in names]
    return [contender for contender in CONTENDERS if contender.name in REQUIRED or contender.is_there()]


def measure_one(sites: TwoSites, contender: Contender, probes: Sequence[Probe], effort: Effort, results: Results) -> None:
    """One contender's part of a round: once with offloads, once without if a probe asks for that."""
    for with_offloads in (True, False):
        wanted = [probe for probe in probes if probe.offloads is with_offloads]
        if not wanted:
            continue
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ipsec-dp-bench-")))
            tunnel = stack.enter_context(contender.start(sites, directory, with_offloads))
            lengthen_queues(sites, tunnel)
            check_path(sites, tunnel)
            if not with_offloads:
                stack.enter_context(offloads.all_off(sites))
            if tunnel.said and with_offloads:
                results.environment.setdefault("gateways", {})[contender.name] = tunnel.said
            bench = Bench(sites, tunnel, effort, results.earlier(contender.name))
            for probe in wanted:
                results.add(contender.name, probe.measure(bench))


def measure_all(
    contenders: Sequence[Contender], probes: Sequence[Probe], effort: Effort, results: Results, done: Callable[[str], None]
) -> None:
    """All rounds. Each begins with another contender, so that none always follows the same one. `done` is told of each part."""
    netns.sweep()
    with netns.Lab() as lab:
        sites = netns.two_sites(lab)
        for number in range(effort.rounds):
            first = number % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                begun = time.monotonic()
                try:
                    measure_one(sites, contender, probes, effort, results)
                except FAILURES as error:
                    raise BenchFailedError(f"{contender.name}: {error}") from error
                figures = ", ".join(
                    f"{name} {report.figure(value)}"
                    for name, value in results.earlier(contender.name).items()
                    if name in {"tcp_1", "udp_64", "rtt_p50"}
                )
                done(f"round {number + 1}/{effort.rounds}  {contender.name}: {figures} ({time.monotonic() - begun:.0f} s)")


class BenchFailedError(Exception):
    """A contender could not be measured; without it the run is no comparison."""


def empty(directory: Path) -> Path:
    """Removes what an earlier run left there; the file for the new results."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("tunnel*"):
        old.unlink()
    return directory / "tunnel.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, writes and shows; the exit status."""
    asked = arguments(argv)
    console = Console()
    if not console.is_terminal:  # a log is not 80 columns wide
        console.width = LOG_COLUMNS
    if os.geteuid() != 0:
        console.print("the benchmark makes network namespaces and tunnels: run it as root")
        return FAILED
    os.chdir(ROOT)  # our gateways run from this tree
    effort = QUICK_EFFORT if asked.quick else Effort()
    if asked.rounds:
        effort = effort.with_rounds(asked.rounds)
    wanted = set(asked.measure or (QUICK if asked.quick else MEASURES))
    probes = [probe for probe in PROBES if wanted & set(probe.measures)]
    contenders = chosen(asked.contender)
    file, results = empty(asked.output), Results()
    results.environment["versions"] = {contender.name: contender.version() for contender in contenders}
    begun = time.monotonic()

    def done(text: str) -> None:
        results.environment["seconds"] = round(time.monotonic() - begun)
        results.write(file)
        console.print(text, highlight=False, markup=False)

    try:
        generator.build()
        if any(contender.name == CEILING for contender in contenders):
            ceiling.build()
        measure_all(contenders, probes, effort, results, done)
    except (BenchFailedError, ceiling.CeilingError, generator.GeneratorError) as error:
        console.print(f"failed: {error}", highlight=False, markup=False)
        return FAILED
    report.show(console, results)
    written = plots.draw(results, asked.output)
    console.print(f"\n{file}, {len(written)} plots beside it, in {results.environment['seconds']} s", highlight=False, markup=False)
    if reasons := bars.void_reasons(results.medians()):
        console.print("\n[bold red]This run is void:[/] " + "; ".join(reasons), highlight=False)
        return VOID
    return 0


if __name__ == "__main__":
    sys.exit(main())
