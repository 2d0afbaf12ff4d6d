"""What this kernel offers, found out by asking it: on throwaway devices and sockets that are gone again at once."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ipsec_dp.host import HostError, tun

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # <linux/sched.h>
TUNSETOFFLOAD = 0x400454D0  # <linux/if_tun.h>
# Offload name and the bits it is asked for with: each needs those before it of its kind.
TUN_OFFLOADS = (("checksum", 0x01), ("tso4", 0x03), ("tso6", 0x05), ("uso", 0x61), ("udp_tunnel", 0x187))
UDP_OFFLOADS = (("udp_segment", 103), ("udp_gro", 104))  # <linux/udp.h>

_libc = ctypes.CDLL(None, use_errno=True)


def _apart(function: Callable[[], T]) -> T:
    """Runs a function in a thread that has a network namespace of its own, where we may make one; else where we are."""
    outcome: list[T] = []
    failure: list[OSError | HostError] = []

    def body() -> None:
        _libc.unshare(CLONE_NEWNET)  # not permitted in some containers: the throwaway device then lives among the others
        try:
            outcome.append(function())
        except (OSError, HostError) as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="probe")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def own_network() -> None:
    """The calling process, which has one thread, is in a new network namespace from now on. Without the privilege it is in a new
    user namespace, too. OSError: neither is permitted."""
    if _libc.unshare(CLONE_NEWNET) == 0 or _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))


def tun_offloads() -> dict[str, bool]:
    """The offloads that a TUN device takes, by TUN_OFFLOADS. HostError: no TUN device can be made, and why."""

    def probe() -> dict[str, bool]:
        made = tun.make(f"probe{os.getpid()}"[:15])
        try:
            return {name: _takes(made.descriptors[0], bits) for name, bits in TUN_OFFLOADS}
        finally:
            made.close()

    return _apart(probe)


def _takes(descriptor: int, bits: int) -> bool:
    try:
        fcntl.ioctl(descriptor, TUNSETOFFLOAD, bits)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True


def udp_offloads() -> dict[str, bool]:
    """Whether a UDP socket takes UDP_SEGMENT and UDP_GRO."""
    found: dict[str, bool] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, option in UDP_OFFLOADS:
            try:
                probe.setsockopt(socket.IPPROTO_UDP, option, 0)
                found[name] = True
            except OSError:
                found[name] = False
    return found


def udp_port_free(port: int) -> bool:
    """Whether this UDP port is free, on any address of this host, IPv4 or IPv6."""
    for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - bound for a moment, to learn if it can be
        try:
            probe = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            continue  # a kernel without IPv6
        with probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((anywhere, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                raise
    return True


def udp_port_owners(port: int, proc: Path = Path("/proc")) -> list[str]:
    """Who has this UDP port, as "name (pid 123)"; without root only one's own processes are seen."""
    inodes: set[str] = set()
    for table in ("udp", "udp6"):
        with contextlib.suppress(OSError):
            rows = (line.split() for line in (proc / "thread-self/net" / table).read_text().splitlines()[1:])
            inodes |= {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    if not inodes:
        return []
    return [f"{_name(process)} (pid {process.name})" for process in proc.glob("[0-9]*") if _open_files(process) & inodes]


def _open_files(process: Path) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):  # it ended, or is not ours to look at
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(descriptor.readlink()))
    return found


def _name(process: Path) -> str:
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_text().split("\0")
        if any(word.rpartition("/")[2] in ("ipsec-dp", "ipsec_dp") for word in words):
            return "ipsec-dp"
        return (process / "comm").read_text().strip()
    return "a program that has just ended"
