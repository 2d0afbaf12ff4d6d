"""Processes as the kernel has them: whether one has ended, and what a gateway's has used of processors and memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.process import GatewayProcess

GONE = (FileNotFoundError, ProcessLookupError)  # before its file was opened, and before that was read
NS_PER_S = 1e9


def ended(process: int) -> bool:
    """Whether nothing of it is left, or nothing but its status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except GONE:
        return True


def process_of(gateway: GatewayProcess) -> int:
    assert gateway.process is not None
    return gateway.process.pid


def threads(gateway: GatewayProcess) -> Iterator[tuple[str, int]]:
    """Of each its name, and for how many ns it has run so far; one that ends meanwhile is none."""
    for task in Path(f"/proc/{process_of(gateway)}/task").iterdir():
        with contextlib.suppress(*GONE):
            yield (task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0])


def waits(gateway: GatewayProcess) -> dict[str, int]:
    """How often its threads of each name have gone to sleep so far. The processor's speed has no part in it, as in time."""
    found: dict[str, int] = {}
    for task in Path(f"/proc/{process_of(gateway)}/task").iterdir():
        with contextlib.suppress(*GONE):
            count = int((task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
            name = (task / "comm").read_text().strip()
            found[name] = found.get(name, 0) + count
    return found


def run_s(gateway: GatewayProcess) -> float:
    """Seconds that its threads have run so far, from the scheduler's own count in nanoseconds."""
    return sum(ns for _, ns in threads(gateway)) / NS_PER_S


def busy_s(gateway: GatewayProcess, thread: int | None = None) -> float:
    """Processor time that it has used until now, with threads that have ended; or one of its threads."""
    process = process_of(gateway)
    path = Path(f"/proc/{process}/stat" if thread is None else f"/proc/{process}/task/{thread}/stat")
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(gateway: GatewayProcess) -> int:
    """Octets of it in memory."""
    return int(Path(f"/proc/{process_of(gateway)}/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024
