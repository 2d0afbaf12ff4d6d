"""What this process may do to the host: its effective capabilities (capabilities(7))."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# <linux/capability.h>
CHOWN: Final = 0
DAC_OVERRIDE: Final = 1
DAC_READ_SEARCH: Final = 2
FOWNER: Final = 3
NET_BIND_SERVICE: Final = 10
NET_ADMIN: Final = 12
NET_RAW: Final = 13
SYS_RESOURCE: Final = 24
BPF: Final = 39


def effective(status: str) -> int:
    """The bits of CapEff in the text of /proc/PID/status; none where it does not say."""
    rows = (line.split() for line in status.splitlines())
    return int(next((row[1] for row in rows if row[0] == "CapEff:"), "0"), 16)


def has(capability: int) -> bool:
    """Whether this process has it. What cannot be read is taken as had: what the kernel then says is told."""
    try:
        return bool(effective(Path("/proc/self/status").read_text()) >> capability & 1)
    except OSError:
        return True
