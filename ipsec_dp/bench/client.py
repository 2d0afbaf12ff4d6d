"""`ipsec-dp bench client HOST`: what `make bench-tunnel` measures of a tunnel, measured of the path to a real machine."""

from __future__ import annotations

import json as json_module
import platform
import secrets
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ipsec_dp import __version__
from ipsec_dp.bench.names import MEASURES
from ipsec_dp.bench.search import Attempt, loss_free_rate
from ipsec_dp.bench.server import sink_octets, source_octets
from ipsec_dp.bench.statistics import percentile, times_us
from ipsec_dp.bench.traffic import DRAIN_S, LOSS, TRAFFIC, cold_guess, send_run
from ipsec_dp.bench.wire import RUN_OCTETS, VERSION, BenchError, Lines, busy_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE_S = 15.0
STREAMS = 8
PING_INTERVAL_S = 0.002  # the shortest that is allowed without root
GB = 1e9
COST_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of a TCP stream and of one UDP step, echo requests, octets for the CPU's cost."""

    tcp_s: float = 3.0
    step_s: float = 2.0
    replies: int = 2000
    octets: int = 256_000_000


class Path:
    """The control connection to a server and what is done over it. BenchError from everything."""

    def __init__(self, host: str, port: int, effort: Effort) -> None:
        self.host, self.port, self.effort = host, port, effort
        try:
            self._lines = Lines(socket.create_connection((host, port), timeout=PATIENCE_S))
        except OSError as error:
            raise BenchError(
                f"{host} port {port}: {error.strerror or error}; run `ipsec-dp bench server` there, and let its firewall admit us"
            ) from error
        self.family: int = self._lines.connection.family
        self.address: str = self._lines.connection.getpeername()[0]
        self.source: str = self._lines.connection.getsockname()[0]
        self._token = str(self.ask(hello=VERSION)["token"])

    def close(self) -> None:
        self._lines.connection.close()

    def ask(self, **message: Any) -> dict[str, Any]:
        """The server's answer to a request by the control connection. BenchError where it has none, or refuses."""
        try:
            self._lines.send(**message)
            answer = self._lines.receive()
        except OSError as error:
            raise BenchError(f"{self.host}: {error.strerror or error}; is the path still there?") from error
        if answer is None:
            raise BenchError(f"{self.host}: the server has closed the connection; it says why")
        if "error" in answer:
            raise BenchError(f"{self.host}: {answer['error']}")
        return answer

    def _stream(self, **asked: Any) -> Lines:
        lines = Lines(socket.create_connection((self.address, self.port), timeout=PATIENCE_S))
        lines.send(data=self._token, **asked)
        return lines

    def up(self, seconds: float, limit: float = float("inf")) -> float:
        """One stream to the server for so long or so many octets; Gb/s that arrived there."""
        try:
            lines = self._stream(way="up")
            with lines.connection:
                lines.receive()
                source_octets(lines.connection, seconds, limit)
                answer = lines.receive()
        except OSError as error:
            raise BenchError(f"{self.host}: a stream broke off: {error.strerror or error}") from error
        if not answer or not answer["seconds"]:
            raise BenchError(f"{self.host}: a stream arrived incomplete")
        return float(answer["octets"]) * 8 / float(answer["seconds"]) / GB

    def down(self, seconds: float) -> float:
        """One stream from the server; Gb/s that arrived here."""
        try:
            lines = self._stream(way="down", seconds=seconds)
            with lines.connection:
                octets, spent = sink_octets(lines.connection)
        except OSError as error:
            raise BenchError(f"{self.host}: a stream broke off: {error.strerror or error}") from error
        if not spent:
            raise BenchError(f"{self.host}: nothing arrived by a stream")
        return octets * 8 / spent / GB

    def step(self, name: str, rate: float) -> Attempt:
        """Sends one measure's traffic at a rate, and asks what arrived."""
        run = secrets.token_bytes(RUN_OCTETS)
        self.ask(do="count", run=run.hex())
        sent, spent = send_run((self.address, self.port), self.family, TRAFFIC[name], run, rate, self.effort.step_s)
        time.sleep(DRAIN_S)
        lost = sent - int(self.ask(do="counted")["received"])
        return Attempt(sent / spent, loss_free=sent > 0 and lost <= sent * LOSS)

    def busy(self) -> float:
        """CPU seconds that both machines have been busy."""
        return busy_seconds() + float(self.ask(do="cpu")["busy_s"])

    def round_trips(self) -> list[float]:
        """In µs. BenchError when fewer than 99 of 100 requests are answered."""
        count = self.effort.replies
        command = ("ping", "-n", "-i", f"{PING_INTERVAL_S}", "-c", str(count), "-W", "2", self.address)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=count * 0.05 + 30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"ping: {error}; round trips need iputils-ping") from error
        times = times_us(done.stdout)
        if len(times) < count * 0.99:
            raise BenchError(
                f"{len(times)} of {count} echo requests were answered; {done.stderr.strip() or 'is ICMP let through?'}"
            )
        return times


# ---- the measures -------------------------------------------------------------------------------------------------------------


def _sum_of(streams: Iterable[Callable[[float], float]], seconds: float) -> float:
    with ThreadPoolExecutor() as pool:
        return sum(done.result() for done in [pool.submit(stream, seconds) for stream in streams])


def _udp(name: str) -> Callable[[Path], dict[str, float]]:
    return lambda path: {name: loss_free_rate(lambda rate: path.step(name, rate), cold_guess(TRAFFIC[name]), warm=False)}


def _idle(path: Path) -> dict[str, float]:
    times = path.round_trips()
    return {"rtt_p50": percentile(times, 50), "rtt_p99": percentile(times, 99)}


def _loaded(path: Path) -> dict[str, float]:
    seconds = path.effort.replies * PING_INTERVAL_S + 2
    with ThreadPoolExecutor() as pool:
        stream = pool.submit(path.up, seconds)
        threading.Event().wait(min(0.5, seconds / 4))  # slow start is over
        times = path.round_trips()
        stream.result()
    return {"rtt_p99_loaded": percentile(times, 99)}


def _cost(path: Path) -> dict[str, float]:
    before = path.busy()
    path.up(COST_S_MAX, path.effort.octets)
    return {"cpu_s_per_gb": (path.busy() - before) / (path.effort.octets / GB)}


class Probe(NamedTuple):
    measures: tuple[str, ...]
    measure: Callable[[Path], dict[str, float]]


PROBES = (
    Probe(("rtt_p50", "rtt_p99"), _idle),
    Probe(("tcp_1",), lambda path: {"tcp_1": path.up(path.effort.tcp_s)}),
    Probe(("tcp_8",), lambda path: {"tcp_8": _sum_of([path.up] * STREAMS, path.effort.tcp_s)}),
    Probe(("tcp_bidir",), lambda path: {"tcp_bidir": _sum_of([path.up, path.down], path.effort.tcp_s)}),
    Probe(("rtt_p99_loaded",), _loaded),
    Probe(("cpu_s_per_gb",), _cost),
    *(Probe((name,), _udp(name)) for name in TRAFFIC),
)
MEASURED = tuple(name for probe in PROBES for name in probe.measures)


# ---- the answer ---------------------------------------------------------------------------------------------------------------


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(path: Path, found: dict[str, float], failed: dict[str, str]) -> Table:
    table = Table(title=f"{path.source} to {path.address}", title_justify="left", show_edge=False, pad_edge=False)
    for column, justify in (("measure", "left"), ("", "right"), ("unit", "left"), ("what", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for name in MEASURED:
        if name in found or name in failed:
            measure = MEASURES[name]
            text = _figure(found[name]) if name in found else "failed"
            title = "CPU time of both machines" if name == "cpu_s_per_gb" else measure.title
            table.add_row(name, text, measure.unit, failed.get(name, title))
    return table


def run(host: str, port: int, names: tuple[str, ...], *, json: bool = False, effort: Effort | None = None) -> int:
    """Measures what is named (nothing: everything) and prints a table, or JSON. 0, or 1 when a measure failed. BenchError."""
    probes = [probe for probe in PROBES if not names or set(names) & set(probe.measures)]
    path = Path(host, port, Effort() if effort is None else effort)
    found: dict[str, float] = {}
    failed: dict[str, str] = {}
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("measuring", total=len(probes))
            for probe in probes:
                progress.update(task, description=" ".join(probe.measures))
                try:
                    found |= probe.measure(path)
                except BenchError as error:
                    failed |= dict.fromkeys(probe.measures, str(error))
                progress.advance(task)
    finally:
        path.close()
    if json:
        answer = {"schema": 1, "version": __version__, "host": host, "from": path.source, "to": path.address}
        answer |= {"kernel": platform.release(), "measures": found, "failed": failed}
        sys.stdout.write(json_module.dumps(answer, indent=2) + "\n")
    else:
        Console().print(_table(path, found, failed))
    return 1 if failed else 0
