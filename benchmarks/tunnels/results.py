"""What one run leaves: benchmarks/results/tunnel.json, and the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.tunnels import statistics
from benchmarks.tunnels.bars import verdicts
from benchmarks.tunnels.compare import Comparison, compare
from benchmarks.tunnels.judging import JUDGED_BY, Judged, judge, sound_rounds, void_reasons
from benchmarks.tunnels.names import OURS, PLAIN
from ipsec_dp.rig import netns

ROOT = Path(__file__).resolve().parents[2]


# Of the processor's flags, those that the ciphers, checksums and copies of any contender may use.
FLAGS = "sse4_2 avx2 avx512f avx512bw avx512vl aes vaes pclmulqdq vpclmulqdq gfni sha_ni erms fsrm hypervisor".split()


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def commit() -> str:
    """The commit that is measured, marked when the tree differs from it; "unknown" outside of a repository."""
    head = _output("git", "rev-parse", "HEAD")
    if not head:
        return "unknown"
    return head + ("-dirty" if _output("git", "status", "--porcelain", "--untracked-files=no") else "")


def _of_processor(key: str) -> str:
    """Of the first one in /proc/cpuinfo; "" where it has no such line."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")


def _default_congestion_control() -> str:
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown"


def environment() -> dict[str, Any]:
    """The machine and what is the same for all contenders."""
    return {
        "kernel": platform.release(),
        "processor": _of_processor("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "iperf3": _output("iperf3", "--version").partition("\n")[0],
        "congestion_control": netns.CONGESTION_CONTROL,
        "flags": [flag for flag in FLAGS if flag in _of_processor("flags").split()],
        "default_congestion_control": _default_congestion_control(),
        "outer_mtu": 1500,
        "pinning": "none",
    }


@dataclass
class Results:
    """The figures of a run as they come in, and what follows from them."""

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    commit: str = field(default_factory=commit)
    environment: dict[str, Any] = field(default_factory=environment)
    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    taken: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # the round, from 1, of each figure in `rounds`
    cores: dict[str, list[float | None]] = field(default_factory=dict)  # used by the processes, for each figure of `tcp_1`
    absent: dict[str, dict[str, str]] = field(default_factory=dict)  # measure -> contender -> why it lacks one
    failures: list[str] = field(default_factory=list)
    matched_gbit_s: list[float] = field(default_factory=list)  # of each round: what the stream of `rtt_p99_matched` is paced to
    interrupted: bool = False
    compared_with: str = ""  # the contender that is another tree
    samples: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)  # measure -> contender -> each round's, in µs

    def add(self, contender: str, figures: dict[str, float], number: int | None = None, cores: float | None = None) -> None:
        """What one probe found in a round (None: the next); `cores` with `tcp_1`."""
        for measure, value in figures.items():
            values = self.rounds.setdefault(measure, {}).setdefault(contender, [])
            values.append(value)
            self.taken.setdefault(measure, {}).setdefault(contender, []).append(number or len(values))
            if measure == JUDGED_BY:
                self.cores.setdefault(contender, []).append(cores)

    def add_samples(self, contender: str, samples: dict[str, list[float]]) -> None:
        """Single round-trip times of one round."""
        for measure, times in samples.items():
            self.samples.setdefault(measure, {}).setdefault(contender, []).append(times)

    def lacks(self, contender: str, measures: tuple[str, ...], why: str) -> None:
        """These have no figure."""
        for measure in measures:
            self.absent.setdefault(measure, {})[contender] = why

    def has(self, contender: str, measure: str, number: int) -> bool:
        """Whether there is a figure of that round."""
        return number in self.taken.get(measure, {}).get(contender, ())

    def earlier(self, contender: str) -> dict[str, float]:
        """A contender's last value of each measure."""
        return {measure: row[contender][-1] for measure, row in self.rounds.items() if row.get(contender)}

    def contenders(self) -> list[str]:
        """Who has figures, in the order of coming in."""
        return list(dict.fromkeys(name for row in self.rounds.values() for name in row))

    def judged(self) -> list[Judged]:
        """Whether peers worked as hard as they could."""
        return judge(self.rounds, self.cores)

    def medians(self) -> statistics.Table:
        """Medians over the rounds that stand; the plain path's CPU time is taken off the others' (and has none of its own then)."""
        of = statistics.medians(sound_rounds(self.rounds, self.judged()))
        if base := of.get("cpu_s_per_gb", {}).pop(PLAIN, 0.0):
            of["cpu_s_per_gb"] = {name: value - base for name, value in of["cpu_s_per_gb"].items()}
        return of

    def comparisons(self) -> list[Comparison]:
        """This tree beside the other, where there was one."""
        return compare(self.rounds, self.taken, OURS, self.compared_with)

    def best_peer_gbit_s(self) -> float | None:
        """What the best userspace peer carries by itself; None before one was measured."""
        peers = {one.peer for one in self.judged()}
        return max((value for name, value in self.medians().get(JUDGED_BY, {}).items() if name in peers), default=None)

    def as_json(self) -> dict[str, Any]:
        of, judged = self.medians(), self.judged()
        avx512 = "avx512f" in self.environment.get("flags", ["avx512f"])
        return {
            "started": self.started,
            "commit": self.commit,
            "environment": self.environment,
            "rounds": self.rounds,
            "medians": of,
            "spread": statistics.spread(self.rounds),
            "ratios": statistics.ratios(of),
            "taken": self.taken,
            "cores": self.cores,
            "void": {
                "reasons": void_reasons(judged),
                "rounds": {one.peer: [self.taken[JUDGED_BY][one.peer][at] for at in one.void] for one in judged if one.void},
            },
            "bars": [{**asdict(verdict), "met": verdict.met} for verdict in verdicts(of, avx512=avx512)],
            "absent": self.absent,
            "failures": self.failures,
            "matched_gbit_s": self.matched_gbit_s,
            "interrupted": self.interrupted,
            "compared_with": self.compared_with,
            "compare": [one._asdict() | {"verdict": one.verdict} for one in self.comparisons()],
        }

    def write(self, path: Path) -> None:
        """Replaces the file in one step, so that a reader never sees half of it; single round trips go into one beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(self.as_json(), indent=2) + "\n")
        if self.samples:
            _replace(samples_file(path), json.dumps(self.samples, separators=(",", ":")) + "\n")


def samples_file(path: Path) -> Path:
    """Where the single round trips of the run in `path` are."""
    return path.with_name(f"{path.stem}-samples.json")


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


KEPT = ("started", "commit", "environment", "rounds")
ADDED = ("taken", "cores", "absent", "failures", "matched_gbit_s", "interrupted", "compared_with")  # an older file has none of them


def read(path: Path) -> Results:
    """A run that was written. ValueError, KeyError: something else is in the file."""
    found = json.loads(path.read_text())
    results = Results(**{name: found[name] for name in KEPT}, **{name: found[name] for name in ADDED if name in found})
    if "taken" not in found:
        results.taken = {
            measure: {name: list(range(1, len(values) + 1)) for name, values in row.items()}
            for measure, row in results.rounds.items()
        }
    if samples_file(path).exists():
        results.samples = json.loads(samples_file(path).read_text())
    return results
