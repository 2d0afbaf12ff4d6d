"""What one run leaves: benchmarks/results/tunnel.json, and the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.tunnels import statistics
from benchmarks.tunnels.names import PLAIN
from ipsec_dp.rig import netns

ROOT = Path(__file__).resolve().parents[2]


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


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def environment() -> dict[str, Any]:
    """The machine and what is the same for all contenders."""
    return {
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "iperf3": _output("iperf3", "--version").partition("\n")[0],
        "congestion_control": netns.CONGESTION_CONTROL,
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

    def add(self, contender: str, figures: dict[str, float]) -> None:
        """What one probe found in one round."""
        for measure, value in figures.items():
            self.rounds.setdefault(measure, {}).setdefault(contender, []).append(value)

    def earlier(self, contender: str) -> dict[str, float]:
        """A contender's last value of each measure."""
        return {measure: row[contender][-1] for measure, row in self.rounds.items() if row.get(contender)}

    def contenders(self) -> list[str]:
        """Who has figures, in the order of coming in."""
        return list(dict.fromkeys(name for row in self.rounds.values() for name in row))

    def medians(self) -> statistics.Table:
        """Medians over the rounds; the plain path's CPU time is taken off the others' (and has no figure of its own then)."""
        of = statistics.medians(self.rounds)
        if base := of.get("cpu_s_per_gb", {}).pop(PLAIN, 0.0):
            of["cpu_s_per_gb"] = {name: value - base for name, value in of["cpu_s_per_gb"].items()}
        return of

    def as_json(self) -> dict[str, Any]:
        of = self.medians()
        return {
            "started": self.started,
            "commit": self.commit,
            "environment": self.environment,
            "rounds": self.rounds,
            "medians": of,
            "spread": statistics.spread(self.rounds),
            "ratios": statistics.ratios(of),
        }

    def write(self, path: Path) -> None:
        """Replaces the file in one step, so that a reader never sees half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.as_json(), indent=2) + "\n")
        new.replace(path)


def read(path: Path) -> Results:
    """A run that was written. ValueError, KeyError: something else is in the file."""
    found = json.loads(path.read_text())
    return Results(found["started"], found["commit"], found["environment"], found["rounds"])
