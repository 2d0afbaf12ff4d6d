"""Processor time of a tunnel's own processes, from /proc: whether they worked as hard as they could."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ipsec_dp.rig.peers import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PARENT = 1  # fields of /proc/PID/stat after the name; proc(5) counts from 1, the name being the second
SPENT = slice(11, 15)  # user and system, of all threads; then of the children that ended


def _fields(proc: Path, pid: int) -> list[int] | None:
    """Without the state, which is a letter; None without such a process."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    return [0, *(int(field) for field in text.rpartition(")")[2].split()[1:])]


def _descendants(table: dict[int, list[int]], pids: Iterable[int]) -> Iterator[int]:
    wanted = set(pids)
    while wanted:
        yield from wanted
        wanted = {pid for pid, fields in table.items() if fields[PARENT] in wanted}


def seconds_of(pids: Iterable[int], proc: Path = PROC) -> float:
    """Processor seconds of these processes and of all that they started, in all threads. PeerError when one of `pids` has ended."""
    pids = set(pids)
    every = (int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())
    table = {pid: fields for pid in every if (fields := _fields(proc, pid)) is not None}
    if ended := pids - table.keys():
        raise PeerError(f"process {min(ended)} has ended")
    return sum(sum(table[pid][SPENT]) for pid in _descendants(table, pids)) / TICKS
