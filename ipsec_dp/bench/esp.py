"""`ipsec-dp bench` alone: how fast this machine seals and opens ESP, by suite, provider and packet size.

One core, bursts of 64 packets out of numpy arrays, through the functions that the loops call: SA lookup, anti-replay, trailer and
counters are in the figures; TUN and sockets are not. `make bench` measures more, and with statistics.
"""

from __future__ import annotations

import errno
import json as json_module
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ipsec_dp import __version__
from ipsec_dp.dataplane import Batch, Provider
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.plane import Pair, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES = (
    *("aes128gcm16-esn", "aes192gcm16-esn", "aes256gcm16-esn", "chacha20poly1305-esn"),
    *("aes128-sha256-esn", "aes192-sha384-esn", "aes256-sha512-esn", "aes128-sha1-esn"),
)
PROVIDERS = {"intel-ipsec-mb": Provider.IPSEC_MB, "openssl": Provider.OPENSSL}
SIZES = (64, 512, 1420)  # octets of the inner packet
BURST = 64
BURSTS_A_ROUND = 4
ROUNDS_MIN = 5
SECONDS = 5.0  # for everything


@dataclass(frozen=True)
class Row:
    """One measurement: medians over its rounds, in nanoseconds a packet, and the inner octets that this carries on one core."""

    suite: str
    provider: str
    octets: int
    seal_ns: float
    open_ns: float

    @property
    def seal_gbit_s(self) -> float:
        return self.octets * 8 / self.seal_ns

    @property
    def open_gbit_s(self) -> float:
        return self.octets * 8 / self.open_ns


def combinations() -> list[tuple[str, str]]:
    """Suite and provider, where this machine has the provider and the provider the suite."""
    found = []
    for suite in SUITES:
        for name, provider in PROVIDERS.items():
            try:
                pair(suite, provider=provider).close()
            except DataPlaneError as error:
                if error.errno != errno.ENOTSUP:
                    raise
            else:
                found.append((suite, name))
    return found


def _round(site: Pair, plain: Batch, sealed: list[Batch], opened: Batch) -> tuple[int, int]:
    """Seals and opens some bursts; nanoseconds that each took. DataPlaneError (EIO) when a packet was dropped."""
    outbound = site.children["a"].outbound
    if outbound is None:
        raise DataPlaneError(errno.ENOENT, "the rig has no SA to send by")
    sealer, opener = site.a.plane, site.b.plane
    begun = time.perf_counter_ns()
    moved = sum(sealer.seal(outbound, plain, batch) for batch in sealed)
    between = time.perf_counter_ns()
    moved += sum(opener.open(batch, opened) for batch in sealed)
    ended = time.perf_counter_ns()
    if moved != 2 * BURST * len(sealed):
        raise DataPlaneError(errno.EIO, f"{2 * BURST * len(sealed) - moved} packets of the benchmark were dropped")
    return between - begun, ended - between


def measure(suite: str, provider: str, octets: int, seconds: float) -> Row:
    """One row, in about `seconds` or ROUNDS_MIN rounds. Raises DataPlaneError."""
    with pair(suite, provider=PROVIDERS[provider]) as site:
        plain = Batch.of([udp_of_size("10.1.0.1", "10.2.0.1", octets)] * BURST)
        sealed = [Batch(BURST, plain.stride) for _ in range(BURSTS_A_ROUND)]
        opened = Batch(BURST, plain.stride)
        _round(site, plain, sealed, opened)  # caches and pages
        rounds: list[tuple[int, int]] = []
        deadline = time.monotonic() + seconds
        while len(rounds) < ROUNDS_MIN or time.monotonic() < deadline:
            rounds.append(_round(site, plain, sealed, opened))
    packets = BURST * BURSTS_A_ROUND
    seal, open_ = (median(column) / packets for column in zip(*rounds, strict=True))
    return Row(suite, provider, octets, round(seal, 1), round(open_, 1))


def measure_all(seconds: float = SECONDS) -> Iterator[tuple[Row, int]]:
    """Every row, and how many there will be."""
    wanted = [(*combination, octets) for combination in combinations() for octets in SIZES]
    for suite, provider, octets in wanted:
        yield measure(suite, provider, octets, seconds / len(wanted)), len(wanted)


def processor() -> str:
    """The CPU's model as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _table(rows: list[Row]) -> Table:
    table = Table(
        title=f"ESP with ESN on one core, bursts of {BURST}, {processor()}", title_justify="left", show_edge=False, pad_edge=False
    )
    table.add_column("suite", no_wrap=True)
    table.add_column("provider", no_wrap=True)
    for column in ("octets", "seal\nns", "open\nns", "seal\nGb/s", "open\nGb/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        figures = (f"{row.seal_ns:.0f}", f"{row.open_ns:.0f}", f"{row.seal_gbit_s:.2f}", f"{row.open_gbit_s:.2f}")
        table.add_row(row.suite.removesuffix("-esn"), row.provider, str(row.octets), *figures, end_section=row.octets == SIZES[-1])
    return table


def _document(rows: list[Row]) -> dict[str, object]:
    return {
        "schema": 1,
        "version": __version__,
        "processor": processor(),
        "kernel": platform.release(),
        "burst": BURST,
        "rows": [
            {**asdict(row), "seal_gbit_s": round(row.seal_gbit_s, 3), "open_gbit_s": round(row.open_gbit_s, 3)} for row in rows
        ],
    }


def run(*, json: bool = False) -> int:
    """Measures everything and prints a table, or JSON. Progress goes to standard error. 0."""
    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        for row, total in measure_all():
            rows.append(row)
            progress.update(task, completed=len(rows), total=total, description=f"{row.suite} {row.octets}")
    if json:
        sys.stdout.write(json_module.dumps(_document(rows), indent=2) + "\n")
    else:
        Console().print(_table(rows))
    return 0
