"""What the kernel says of this process and of its sockets: processor time by thread, and what waits in UDP sockets (proc(5))."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PROC: Final = Path("/proc/self")
OURS: Final = ("esp", "ike-port")  # begins of names that the C core gives its threads
UDP_TABLE_OCTETS: Final = 1 << 20  # that are read of it: some 7000 sockets


class UdpQueue(NamedTuple):
    """Of all sockets of one local port: octets that wait, datagrams that found no room."""

    octets: int
    dropped: int


def cpu_seconds(proc: Path = PROC) -> dict[str, float]:
    """Processor time that was used, by thread: the C core's by name, "control" (the event loop's), and "other"."""
    ticks, used = os.sysconf("SC_CLK_TCK"), Counter[str]()
    for task in _tasks(proc):
        try:
            text = (task / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        main = text.split(" ", 1)[0] == _main(proc)
        used["control" if main else name if name.startswith(OURS) else "other"] += int(fields[11]) + int(fields[12])
    return {name: spent / ticks for name, spent in used.items()}


def _tasks(proc: Path) -> Iterator[Path]:
    try:
        yield from (proc / "task").iterdir()
    except OSError:
        return


def _main(proc: Path) -> str:
    try:
        return (proc / "stat").read_text().split(" ", 1)[0]
    except OSError:
        return ""


def udp_queues(ports: Collection[int], proc: Path = PROC) -> dict[int, UdpQueue]:
    """By local port, of this network namespace; without a port that no socket has."""
    octets, dropped = Counter[int](), Counter[int]()
    for table in ("udp", "udp6"):
        try:
            with (proc / "net" / table).open() as file:
                lines = file.read(UDP_TABLE_OCTETS).splitlines()[1:]
        except OSError:  # this host has no IPv6
            continue
        for line in lines:
            fields = line.split()
            if len(fields) < 13 or (port := int(fields[1].rpartition(":")[2], 16)) not in ports:
                continue
            octets[port] += int(fields[4].partition(":")[2], 16)
            dropped[port] += int(fields[12])
    return {port: UdpQueue(octets[port], dropped[port]) for port in octets}
