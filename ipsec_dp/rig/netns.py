"""Network namespaces for demonstrations and tests: made, wired with veth pairs, entered, and taken away again.

A `Lab` owns everything it makes. Interfaces are created inside its namespaces only, so removing the namespaces removes all of it
and the host's own interfaces, routes and firewall are never touched. Namespaces carry their owner's process id and start time in
their name; `sweep` removes those whose owner is gone (a run that was killed) together with the processes still inside.

Programs run through `ip netns exec`; Python functions run in a thread of this process that has entered the namespace (`call`).
Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

PREFIX = "ipsdp-"
RUN_NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # <linux/sched.h>
LEFT_INDEX = 1000
STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL

# Every namespace starts from the same state, whatever the host has set: no strict reverse path filter (a test that wants one says
# so), no waiting for duplicate address detection, no router solicitations.
SYSCTLS: tuple[tuple[str, str], ...] = (
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
)
FORWARDING: tuple[tuple[str, str], ...] = (("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1"))

Result = subprocess.CompletedProcess[str]
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_owned_name = re.compile(re.escape(PREFIX) + r"(\d+)-(\d+)-[0-9a-f]+-")


class NetnsError(Exception):
    """A namespace could not be made, or a program in it failed; the text holds the program's own message."""


def _tool(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise NetnsError(f"{name} is not installed: apt-get install iproute2")
    return path


def _ip(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run([_tool("ip"), *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise NetnsError(f"ip {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks after boot, None without such a process: tells a reused pid from its first owner."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def _enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(descriptor)


@dataclass
class Namespace:
    """One network namespace of a lab. `label` is its role ("gwA"), `name` what `ip netns` knows it by."""

    label: str
    name: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def path(self) -> Path:
        return RUN_NETNS / self.name

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in here; `ip netns exec` replaces itself, so the process id is the program's."""
        return [_tool("ip"), "netns", "exec", self.name, *argv]

    def run(self, *argv: str, timeout: float = 20.0, check: bool = True, stdin: str = "") -> Result:
        """Runs a program to its end. NetnsError when it fails (unless `check` is off) or takes longer than `timeout` seconds."""
        try:
            done = subprocess.run(self.argv(*argv), input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as late:
            raise NetnsError(f"{self.label}: {' '.join(argv)}: no end after {timeout:g} s") from late
        if check and done.returncode != 0:
            raise NetnsError(
                f"{self.label}: {' '.join(argv)}: exit status {done.returncode}: {(done.stderr or done.stdout).strip()}"
            )
        return done

    def spawn(
        self,
        *argv: str,
        stdin: int | IO[bytes] | None = None,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a program in its own session (a terminal's Ctrl-C does not reach it); the lab ends it at the latest."""
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            self.argv(*argv),
            stdin=null if stdin is None else stdin,
            stdout=null if stdout is None else stdout,
            stderr=null if stderr is None else stderr,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def call(self, function: Callable[[], T], timeout: float = 60.0) -> T:
        """Runs a Python function in a thread that has entered this namespace, and returns what it returns or raises what it raises.

        Sockets, netlink, /proc/sys/net and programs started from that thread belong to the namespace; /sys does not.
        """
        outcome: list[T] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                _enter(self.path)
                outcome.append(function())
            except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, whatever it is
                failure.append(error)

        thread = threading.Thread(target=body, name=f"netns-{self.label}", daemon=True)
        thread.start()
        thread.join(timeout)
        if failure:
            raise failure[0]
        if not outcome:
            raise NetnsError(f"{self.label}: a call had no end after {timeout:g} s")
        return outcome[0]

    def sysctl(self, *settings: tuple[str, str]) -> None:
        """Writes sysctls of this namespace: pairs of a path below /proc/sys and a value."""

        def write() -> None:
            for path, value in settings:
                Path("/proc/sys", path).write_text(value)

        self.call(write)

    def ip(self, *commands: str) -> None:
        """Runs `ip` commands (each without the leading "ip") in one batch; NetnsError names the first that fails."""
        _ip("-n", self.name, "-batch", "-", stdin="\n".join(commands) + "\n")

    def pids(self) -> list[int]:
        """What runs in here, whoever started it."""
        return _pids(self.name)

    def stop(self) -> None:
        """Ends the programs started here: SIGTERM, then SIGKILL to what is left of each program's session."""
        running = [process for process in self.processes if process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()


@dataclass(frozen=True)
class Port:
    """One end of a link: an interface name and its addresses with prefix length ("10.1.0.1/24", "fd00:1::1/64")."""

    namespace: Namespace
    interface: str
    addresses: Sequence[str] = ()


class Lab:
    """Namespaces and the links between them, taken away on exit whatever happened. A context manager."""

    def __init__(self) -> None:
        self.namespaces: list[Namespace] = []
        self._links = 0
        self._name = f"{PREFIX}{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(3)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def namespace(self, label: str, *, forwarding: bool = False) -> Namespace:
        """A new namespace with its loopback up; with `forwarding` it routes both IP versions."""
        namespace = Namespace(label, f"{self._name}-{label}")
        self.namespaces.append(namespace)  # first, so that a failure half way is cleaned up too
        _ip("netns", "add", namespace.name)
        namespace.sysctl(*(FORWARDING if forwarding else ()), *SYSCTLS)
        namespace.ip("link set lo up")
        return namespace

    def link(self, left: Port, right: Port, *, mtu: int = 1500) -> None:
        """A veth pair between two namespaces, addresses set, up at both ends."""
        # Two ends with the same interface index are taken for one device, and their carrier then comes up to a second late.
        self._links += 1
        peer = f"peer name {right.interface} netns {right.namespace.name} mtu {mtu}"
        left.namespace.ip(f"link add {left.interface} index {LEFT_INDEX + self._links} mtu {mtu} type veth {peer}")
        for port in (left, right):
            addresses = (f"address add {a} dev {port.interface}{' nodad' if ':' in a else ''}" for a in port.addresses)
            port.namespace.ip(*addresses, f"link set {port.interface} up")

    def close(self) -> None:
        """Ends every program and removes every namespace. Safe to call twice."""
        for namespace in self.namespaces:
            namespace.stop()
        for namespace in self.namespaces:
            if namespace.path.exists():
                _remove(namespace.name)
        self.namespaces.clear()


def _pids(name: str) -> list[int]:
    return [int(pid) for pid in _ip("netns", "pids", name).split()]


def _remove(name: str) -> None:
    """Kills what still runs in a namespace, waits until it is gone (its TUN interfaces go with it), and deletes the namespace."""
    deadline = time.monotonic() + STOP_SECONDS
    while (pids := _pids(name)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    _ip("netns", "delete", name)


def owned(pid: int | None = None) -> list[str]:
    """Names of the namespaces that this process (or the process `pid`) made and that still exist."""
    owner = str(os.getpid() if pid is None else pid)
    return [name for name in _present() if (match := _owned_name.match(name)) and match[1] == owner]


def _present() -> list[str]:
    return sorted(entry.name for entry in RUN_NETNS.iterdir()) if RUN_NETNS.is_dir() else []


def sweep() -> list[str]:
    """Removes the namespaces of runs whose process is gone, with the programs left in them; their names."""
    stale = [name for name in _present() if (match := _owned_name.match(name)) and _started(int(match[1])) != match[2]]
    for name in stale:
        _remove(name)
    return stale


@dataclass(frozen=True)
class TwoSites:
    """hostA - gwA = gwB - hostB, addressed with IPv4 and IPv6.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

    Each gateway's default route is the other one: what leaves a gateway in clear does arrive, so a leak shows.
    """

    host_a: Namespace
    gw_a: Namespace
    gw_b: Namespace
    host_b: Namespace


# Per site: inner IPv4 and IPv6 network (host ::2, gateway ::1), the gateway's outer addresses.
SITE_A_NETS = ("10.1.0.0/24", "fd00:1::/64")
SITE_B_NETS = ("10.2.0.0/24", "fd00:2::/64")
HOST_A = ("10.1.0.2", "fd00:1::2")
HOST_B = ("10.2.0.2", "fd00:2::2")
GW_A_INNER = ("10.1.0.1", "fd00:1::1")
GW_B_INNER = ("10.2.0.1", "fd00:2::1")
GW_A_OUTER = ("192.0.2.1", "2001:db8:2::1")
GW_B_OUTER = ("192.0.2.2", "2001:db8:2::2")
LENGTHS = (24, 64)  # of every network above, IPv4 and IPv6
# Not every kernel lets a namespace choose its own default (it must be on the host's list of allowed ones); a route may always ask.
CONGESTION_CONTROL = "cubic"


def _masked(addresses: tuple[str, str]) -> tuple[str, ...]:
    return tuple(f"{address}/{length}" for address, length in zip(addresses, LENGTHS, strict=True))


def _default(gateway: tuple[str, str]) -> tuple[str, ...]:
    return tuple(f"route add default via {address} congctl {CONGESTION_CONTROL}" for address in gateway)


def two_sites(lab: Lab, *, outer_mtu: int = 1500, inner_mtu: int = 1500) -> TwoSites:
    """Builds the topology of `TwoSites` with the addresses of this module."""
    sites = TwoSites(
        lab.namespace("hostA"), lab.namespace("gwA", forwarding=True), lab.namespace("gwB", forwarding=True), lab.namespace("hostB")
    )
    lab.link(Port(sites.host_a, "eth0", _masked(HOST_A)), Port(sites.gw_a, "lan", _masked(GW_A_INNER)), mtu=inner_mtu)
    lab.link(Port(sites.gw_a, "wan", _masked(GW_A_OUTER)), Port(sites.gw_b, "wan", _masked(GW_B_OUTER)), mtu=outer_mtu)
    lab.link(Port(sites.gw_b, "lan", _masked(GW_B_INNER)), Port(sites.host_b, "eth0", _masked(HOST_B)), mtu=inner_mtu)
    sites.host_a.ip(*_default(GW_A_INNER))
    sites.gw_a.ip(*_default(GW_B_OUTER))
    sites.gw_b.ip(*_default(GW_A_OUTER))
    sites.host_b.ip(*_default(GW_B_INNER))
    return sites
