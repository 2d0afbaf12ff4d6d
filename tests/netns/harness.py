"""What the tests in real namespaces share: a picture of the kernel's network state to compare, and small things to send."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ipsec_dp.rig.netns import Namespace

from ipsec_dp.host import HostError
from ipsec_dp.host.bypass import BypassRules
from ipsec_dp.host.guard_table import Guard
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.routes import RouteTable
from ipsec_dp.host.tun import Tun, configure, make
from ipsec_dp.host.zones import Zones
from ipsec_dp.rig import capture, netns

T = TypeVar("T")

# Per kind of state, the program that lists it. Each row of its answer becomes one line of the picture.
LISTINGS: dict[str, tuple[str, ...]] = {
    "links": ("ip", "-j", "link", "show"),
    "addresses": ("ip", "-j", "address", "show"),
    "routes": ("ip", "-j", "route", "show", "table", "all"),
    "routes6": ("ip", "-6", "-j", "route", "show", "table", "all"),
    "rules": ("ip", "-j", "rule", "show"),
    "rules6": ("ip", "-6", "-j", "rule", "show"),
}
# What changes by itself: router advertisements count down, counters and queues move.
VOLATILE = ("expires", "valid_life_time", "preferred_life_time", "operstate", "flags", "pref")

SILENCE_S = 0.05  # after which nothing is on its way; a packet may wait for its neighbour's address
SETTLED_AT_LAST_S = 2.0  # where something keeps crossing
POLL_S = 0.005
ANSWERED_S = 10.0

# The first words of a command that starts as a shell starts it in the background.
WITH_INTERRUPTS_IGNORED = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")

ENVIRONMENT = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}


def _listing(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True, env=ENVIRONMENT).stdout


def picture() -> dict[str, list[str]]:
    """Links, addresses, routes of all tables, rules and nftables of the namespace that the calling thread is in."""
    state: dict[str, list[str]] = {}
    for name, argv in LISTINGS.items():
        rows = json.loads(_listing(*argv) or "[]")
        state[name] = sorted(json.dumps(_steady(row), sort_keys=True) for row in rows)
    state["nft"] = sorted(_listing("nft", "list", "tables").splitlines())
    return state


def _steady(row: object) -> object:
    if isinstance(row, dict):
        return {key: _steady(value) for key, value in row.items() if key not in VOLATILE}
    return [_steady(value) for value in row] if isinstance(row, list) else row


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What came (+) and went (-), one line each; empty when nothing did."""
    came = [f"+ {name}: {row}" for name in after for row in after[name] if row not in before[name]]
    return came + [f"- {name}: {row}" for name in before for row in before[name] if row not in after[name]]


def run(namespace: Namespace, work: Callable[[], Coroutine[object, object, T]]) -> T:
    """Runs a coroutine inside a namespace, in an event loop of its own."""
    return namespace.call(lambda: asyncio.run(work()))


def pings(namespace: Namespace, address: str, seconds: float = 0.5) -> bool:
    """Whether one echo request to `address` is answered in time: for one that may not be."""
    return namespace.run("ping", "-n", "-c", "1", "-W", f"{seconds:g}", address, check=False).returncode == 0


def reaches(namespace: Namespace, address: str) -> bool:
    """The same for one that is to be answered, however busy the machine is."""
    return pings(namespace, address, ANSWERED_S)


def send_udp(namespace: Namespace, to: tuple[str, int], payload: bytes = b"x", *, source_port: int = 0, mark: int = 0) -> None:
    """Sends one UDP datagram. OSError when the kernel refuses (EPERM: a firewall dropped it on the way out)."""

    def send() -> None:
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sender.bind(("", source_port))
            sender.sendto(payload, to)

    namespace.call(send)


def tun(namespace: Namespace, name: str, addresses: tuple[str, ...] = (), *, vnet_header: bool = False) -> Tun:
    """A TUN interface that is up; the caller closes it."""

    async def configured() -> Tun:
        made = make(name, vnet_header=vnet_header)
        try:
            async with open_netlink() as ipr:
                await configure(ipr, made, addresses, 1400)
        except HostError:
            made.close()
            raise
        return made

    return run(namespace, configured)


def crossings(namespace: Namespace, interface: str) -> int:
    """How many packets an interface has sent and received so far."""
    listing = namespace.call(Path("/proc/thread-self/net/dev").read_text)
    fields = next(line for line in listing.splitlines() if line.strip().startswith(f"{interface}:")).partition(":")[2].split()
    return int(fields[1]) + int(fields[9])


def settle(namespace: Namespace, interface: str, silence_s: float = SILENCE_S) -> None:
    """Lets what is on its way arrive, where nothing tells that it did: until no packet has crossed the interface for so long."""
    last, since, begun = -1, 0.0, time.monotonic()
    while (now := time.monotonic()) - begun < SETTLED_AT_LAST_S + silence_s:
        if (count := crossings(namespace, interface)) != last:
            last, since = count, now
        elif now - since >= silence_s:
            return
        time.sleep(POLL_S)


def crossed(namespace: Namespace, interface: str, path: Path, traffic: Callable[[], object]) -> capture.Scan:
    """What was seen on an interface while `traffic` ran, without what a link needs for itself."""
    with capture.Capture(namespace, interface, path) as recording:
        traffic()
        settle(namespace, interface)
        recording.stop()
    found = capture.scan(path)
    for kind in capture.LINK_KINDS:
        found.packets.pop(kind, None)
    return found


BOTH = tuple(zip(netns.HOST_A, netns.HOST_B, strict=True))  # (hostA, hostB) for IPv4, then IPv6


def open_guard(namespace: Namespace, gateway: str) -> None:
    """Takes away what a killed or closed gateway of this name left: guard, zones, routes and rules."""

    async def remove() -> None:
        await RouteTable(gateway).remove()
        await BypassRules(gateway).remove()
        await Zones(gateway).remove()
        await Guard(gateway).remove()

    run(namespace, remove)
