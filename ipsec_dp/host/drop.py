"""Privileges that a process gives up for good: user, groups, capabilities (capabilities(7), prctl(2)).

Capabilities are each thread's own, so this comes before the first thread. What does not succeed is said: whoever has less than root
in a container may lack even the right to give up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipsec_dp.host.privilege import BPF, NET_ADMIN, NET_BIND_SERVICE, NET_RAW

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ipsec_dp.util.service_user import ServiceUser

NEEDED: Final = (NET_ADMIN, NET_RAW, NET_BIND_SERVICE)
NEEDED_TO_STEER: Final = (BPF,)  # queues of several workers
INHERITED: Final = (NET_ADMIN,)  # nft

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 8, 23, 24, 38, 47  # <linux/prctl.h>
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CAPABILITY_VERSION_3, CAPABILITIES_MAX = 0x20080522, 64
NICE_LIMIT = 30  # RLIMIT_NICE: 20 less the priority of the control plane

_libc = ctypes.CDLL(None, use_errno=True)


def capabilities_for(workers: int) -> tuple[int, ...]:
    """What a gateway needs while it runs."""
    return (*NEEDED, *(NEEDED_TO_STEER if workers > 1 else ()))


def raise_limits() -> None:
    """What keys and the control plane need and only root may set: locked memory, priority. As far as it goes.

    In containers CAP_SYS_RESOURCE is often missing. Then memory stays limited, and the gateway says when a key is not locked; the
    priority is taken at once, from which `network.workers` frees the loops.
    """
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    for most in (resource.RLIM_INFINITY, hard):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
            break
    try:
        resource.setrlimit(resource.RLIMIT_NICE, (NICE_LIMIT, NICE_LIMIT))
    except (OSError, ValueError):
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, 20 - NICE_LIMIT)


def become(user: ServiceUser | None, keep: Collection[int], inherit: Collection[int] = ()) -> list[str]:
    """Keeps of everything `keep` alone, and for programs that it starts `inherit`; what could not be given up.

    `user` None: stays who it is. Nobody gains privileges from here on, whatever he executes. Where there are
    threads nothing is given up.
    """
    if len(tuple(Path("/proc/self/task").iterdir())) != 1:
        return ["there are threads, each of which would keep its own"]
    left: list[str] = []
    _try(left, "the bounding set", lambda: _bound(keep))
    if user is not None:
        _try(left, f"user 0 for {user.uid}", lambda: _change_user(user))
    _try(left, "capabilities", lambda: _set_capabilities(keep, inherit))
    _try(left, "new privileges", lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1))
    return left


def pass_on(keep: Collection[int]) -> None:
    """Programs that the calling thread starts from now on get these of the capabilities that it has. Raises OSError."""
    _set_capabilities(keep, keep)


def end_with_parent() -> None:
    """This process ends with the thread that made it, at the latest. Raises OSError."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_nobody() -> None:
    """This process no longer ends with the one that made it. Raises OSError."""
    _prctl(PR_SET_PDEATHSIG, 0)


def _try(left: list[str], what: str, step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as error:
        left.append(f"{what}: {os.strerror(error.errno or 0)}")


def _prctl(option: int, *arguments: int) -> int:
    result = int(_libc.prctl(option, *(ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4])))
    if result < 0:
        raise OSError(ctypes.get_errno(), "prctl")
    return result


def _bound(keep: Collection[int]) -> None:
    for capability in range(CAPABILITIES_MAX):
        try:
            there = _prctl(PR_CAPBSET_READ, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the kernel knows no more
                return
            raise
        if there and capability not in keep:
            _prctl(PR_CAPBSET_DROP, capability)


def _change_user(user: ServiceUser) -> None:
    """Permitted capabilities stay until they are set."""
    _prctl(PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    finally:
        _prctl(PR_SET_KEEPCAPS, 0)


def _set_capabilities(keep: Collection[int], inherit: Collection[int]) -> None:
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    if _libc.capget(header, held) < 0:
        raise OSError(ctypes.get_errno(), "capget")
    _, low, _, _, high, _ = struct.unpack("=6I", held.raw)
    mask = sum(1 << each for each in keep) & (high << 32 | low)
    passed = sum(1 << each for each in inherit) & mask
    halves = [each >> shift & 0xFFFFFFFF for shift in (0, 32) for each in (mask, mask, passed)]
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    if _libc.capset(header, struct.pack("=6I", *halves)) < 0:
        raise OSError(ctypes.get_errno(), "capset")
    for capability in inherit:
        if passed >> capability & 1:
            _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
