"""Several TCP streams through one tunnel with one worker, and with more: with a CHILD_SA for each (RFC 9611), and with one in all.

    python -m benchmarks.workers [--workers 2] [--streams 4] [--seconds 5] [--rounds 6]

As root. hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB: everything shares the processors of this machine, so that the
figures say what several workers cost where there are no processors for them, and what they give where there are. Each round has
every kind once and begins with another one; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels import iperf
from benchmarks.tunnels.contenders import Tunnel, check_path, lengthen_queues, replaced_once, write_bench_files
from benchmarks.tunnels.variants import BASE
from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import PeerError
from ipsec_dp.rig.process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipsec_dp.rig.netns import TwoSites

WHOLE_S = 30.0  # until every worker has its CHILD_SA
INTERFACE = "ipsec0"


class Kind(NamedTuple):
    """Workers of both gateways, and the CHILD_SAs that come of it: a gateway with one worker has one."""

    name: str
    workers: tuple[int, int]

    @property
    def children(self) -> int:
        return self.workers[0] if min(self.workers) > 1 else 1


@dataclass
class Figures:
    """Of one kind, a value a round: what arrived, and processor time of both gateways."""

    gbit_s: list[float] = field(default_factory=list)
    s_per_gb: list[float] = field(default_factory=list)


def kinds(workers: int) -> tuple[Kind, Kind, Kind]:
    return (
        Kind("one worker", (1, 1)),
        Kind(f"{workers} workers, one SA", (workers, 1)),
        Kind(f"{workers} workers, {workers} SAs", (workers, workers)),
    )


@contextlib.contextmanager
def tunnel(sites: TwoSites, directory: Path, kind: Kind) -> Iterator[Tunnel]:
    """Up, with all its CHILD_SAs."""
    files = write_bench_files(directory, BASE)
    for file, workers in zip(files, kind.workers, strict=True):
        file.write_text(replaced_once(file.read_text(), "[gateway]\n", f"[gateway]\nworkers = {workers}\n"))
    pair = [GatewayProcess(namespace, file) for namespace, file in zip((sites.gw_a, sites.gw_b), files, strict=True)]
    try:
        for gateway in pair:
            gateway.start()
        for gateway in pair:
            gateway.wait_up()
        up = Tunnel(INTERFACE, tuple(gateway.process.pid for gateway in pair if gateway.process))
        lengthen_queues(sites, up)
        check_path(sites, up)
        _wait_whole(sites, pair[0], kind)
        yield up
    finally:
        for gateway in pair:
            if gateway.process is not None:
                gateway.terminate()


def _wait_whole(sites: TwoSites, gateway: GatewayProcess, kind: Kind) -> None:
    """Sends packets, which ask for further CHILD_SAs, until there are all. PeerError when there are not in time."""
    until = time.monotonic() + WHOLE_S
    while len(gateway.status()["tunnels"][0]["children"]) != kind.children:
        if time.monotonic() > until:
            raise PeerError(f"{kind.name}: not {kind.children} CHILD_SAs in {WHOLE_S:g} s")
        sites.host_a.run("ping", "-n", "-q", "-c", "2", "-i", "0.2", netns.HOST_B[0], check=False)


def measure(sites: TwoSites, kind: Kind, streams: int, seconds: float, found: Figures) -> None:
    with tempfile.TemporaryDirectory(prefix="ipsec-dp-workers-") as made, tunnel(sites, Path(made), kind) as up:
        before = up.processor_seconds() or 0.0
        gbit_s = iperf.gbit_s(sites, seconds, "--parallel", str(streams))
        used = (up.processor_seconds() or 0.0) - before
        found.gbit_s.append(gbit_s)
        found.s_per_gb.append(used / (gbit_s / 8 * seconds))


def _against(values: Sequence[float], base: Sequence[float]) -> str:
    """The median ratio of the rounds, lowest and highest."""
    ratios = [value / one for value, one in zip(values, base, strict=True)]
    return f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(found: dict[Kind, Figures]) -> str:
    base = next(iter(found.values()))
    lines = [f"{'':26}{'Gb/s':>8}  {'÷ one worker':22}{'s/GB':>8}  {'÷ one worker':22}"]
    for kind, of in found.items():
        speed, cost = statistics.median(of.gbit_s), statistics.median(of.s_per_gb)
        speeds, costs = _against(of.gbit_s, base.gbit_s), _against(of.s_per_gb, base.s_per_gb)
        lines.append(f"{kind.name:26}{speed:8.2f}  {speeds:22}{cost:8.2f}  {costs:22}".rstrip())
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=6)
    wanted = parser.parse_args(argv)
    found = {kind: Figures() for kind in kinds(wanted.workers)}
    with netns.Lab() as lab:
        sites = netns.two_sites(lab)
        for number in range(wanted.rounds):
            order = list(found)
            for kind in order[number % len(order) :] + order[: number % len(order)]:
                measure(sites, kind, wanted.streams, wanted.seconds, found[kind])
    load = os.getloadavg()[0]
    print(f"{wanted.streams} streams, {wanted.rounds} rounds of {wanted.seconds:g} s, {os.cpu_count()} processors, load {load:.1f}")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
