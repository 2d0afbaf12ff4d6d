"""The SSH session that this process was started in, if any: `sudo` and `su` hide it from the environment, not from the parents'."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SSH_CONNECTION"  # sshd(8): the client's address and port, the server's address and port
PARENTS_MAX = 32


def connection(root: Path = Path("/proc")) -> str | None:
    """SSH_CONNECTION of this process, else of the nearest parent that has it; None: there is none, or it cannot be seen."""
    if text := os.environ.get(VARIABLE):
        return text
    pid = os.getppid()
    for _ in range(PARENTS_MAX):
        if pid <= 1:
            return None
        try:
            environment = (root / str(pid) / "environ").read_bytes()
            status = (root / str(pid) / "stat").read_text()
        except OSError:
            return None
        for entry in environment.split(b"\0"):
            name, _, value = entry.decode(errors="replace").partition("=")
            if name == VARIABLE:
                return value
        pid = int(status.rpartition(")")[2].split()[1])
    return None
