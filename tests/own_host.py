"""A host of their own for the tests of one process: a network namespace with loopback alone, and a private, empty /run.

Tests compare the host's links, routes, rules and nftables before and after: two runs at once would see each other. So every process
that runs tests as root begins with `enter`. What it makes goes with the processes in it, and those that a killed run left are found
by a variable of their environment, which names the process that entered.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from pathlib import Path

VARIABLE = "IPSEC_DP_TESTS_OF"  # process id and start time of the process that entered: "4711-1234567"

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000  # <linux/sched.h>
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # <linux/mount.h>
LOOPBACK_UP = ("ip", "link", "set", "lo", "up")
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def enter() -> None:
    """Moves this thread, and every thread and process that it starts from now on, to a host of its own.

    PermissionError when it may not. Other threads stay where they are: they have nothing to do with the network or with /run.
    """
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
    _check(_libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755"), "mount /run")
    subprocess.run(LOOPBACK_UP, check=True, env=os.environ | {"PATH": PATH})
    os.environ[VARIABLE] = f"{os.getpid()}-{_started(os.getpid())}"


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks after boot, None without such a process: tells a reused pid from its first owner."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def _owner(process: Path) -> tuple[int, str] | None:
    """Which process entered the host that this one was started in, None when it was none."""
    try:
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return None
    for entry in entries:
        name, _, value = entry.decode(errors="replace").partition("=")
        if name == VARIABLE:
            pid, _, started = value.partition("-")
            return int(pid), started
    return None


def sweep() -> list[int]:
    """Kills the processes of runs that were killed themselves; their ids. The namespaces that they were in go with them."""
    killed = []
    for process in Path("/proc").glob("[0-9]*"):
        owner = _owner(process)
        if owner is not None and _started(owner[0]) != owner[1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(int(process.name))
    return killed
