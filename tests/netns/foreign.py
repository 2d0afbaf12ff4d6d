"""What others do to a host on which a gateway runs, by the programs that do it; and what leaves or comes in clear meanwhile.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Outbound a stream of hostA's, inbound frames that somebody on the outer link forges in hostB's name.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from ipsec_dp.rig import capture
from tests.netns import harness
from tests.netns.traffic import between_sites, mac, stream, until, until_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace, TwoSites
    from ipsec_dp.rig.process import GatewayProcess

TABLE = "ipsec_dp_gwA"
PROTOCOL = "229"

# Debian's /etc/nftables.conf, which nftables.service loads by `nft -f`.
DEBIAN_NFTABLES = """#!/usr/sbin/nft -f

flush ruleset

table inet filter {
	chain input {
		type filter hook input priority filter;
	}
	chain forward {
		type filter hook forward priority filter;
	}
	chain output {
		type filter hook output priority filter;
	}
}
"""
# What firewalld does with its own table when it reloads (itself in foreign_programs.py), and Docker when it starts: tables of their
# own, and nothing of ours.
FIREWALLD = """
add table inet firewalld
delete table inet firewalld
table inet firewalld {
	chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; }
	chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state established,related accept; }
}
"""
DOCKER = """
table ip nat {
	chain DOCKER { }
	chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
		ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
	chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump DOCKER; }
}
table ip filter {
	chain FORWARD { type filter hook forward priority filter; policy accept; }
}
"""


def nft(gateway: Namespace, text: str) -> None:
    gateway.run("nft", text)


def delete_rules(gateway: Namespace) -> None:
    for version in "46":
        gateway.run("ip", f"-{version}", "rule", "flush", "protocol", PROTOCOL)


def delete_routes(gateway: Namespace) -> None:
    for version in "46":
        gateway.run("ip", f"-{version}", "route", "flush", "table", "all", "proto", PROTOCOL)


def delete_everything(gateway: Namespace) -> None:
    nft(gateway, "flush ruleset\n")
    delete_rules(gateway)
    delete_routes(gateway)


def networkd_starts(gateway: Namespace) -> None:
    """What systemd-networkd removes, rules and routes that are not its own, with a flush of each.

    It starts by itself in foreign_programs.py; but it takes a second to begin, too long for twenty measured runs.
    """
    delete_rules(gateway)
    delete_routes(gateway)


# What is done, and the parts that have to be made again.
EVENTS: dict[str, tuple[Callable[[Namespace], None], set[str]]] = {
    "flush ruleset": (partial(nft, text="flush ruleset\n"), {"guard"}),
    "flush of only our table": (partial(nft, text=f"flush table inet {TABLE}\n"), {"guard"}),
    "our table deleted": (partial(nft, text=f"delete table inet {TABLE}\n"), {"guard"}),
    "a rule put before ours": (partial(nft, text=f"insert rule inet {TABLE} outbound accept\n"), {"guard"}),
    "our table asleep": (partial(nft, text=f"add table inet {TABLE} {{ flags dormant; }}\n"), {"guard"}),
    "rules deleted": (delete_rules, {"rules"}),
    "routes deleted": (delete_routes, {"routes"}),
    "everything": (delete_everything, {"guard", "rules", "routes"}),
    "nftables.service restarted": (partial(nft, text=DEBIAN_NFTABLES), {"guard"}),
    "networkd-like": (networkd_starts, {"rules", "routes"}),
    "firewalld-like": (partial(nft, text=FIREWALLD), set()),
    "docker-like": (partial(nft, text=DOCKER), set()),
}

FORGE = """
import socket, sys, time
interface, to, *packets = sys.argv[1:]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
while True:
    for packet in map(bytes.fromhex, packets):
        raw.sendto(packet, (interface, 0x0800 if packet[0] >> 4 == 4 else 0x86DD, 0, 0, bytes.fromhex(to)))
    time.sleep(0.001)
"""


@contextmanager
def forged(sites: TwoSites) -> Iterator[None]:
    """Cleartext in hostB's name to hostA comes to gwA's outer interface, IPv4 and IPv6, about a thousand packets a second."""
    four, six = ((IP, IPv6)[":" in near](src=far, dst=near) / UDP(sport=9, dport=9) / capture.MARKER for near, far in harness.BOTH)
    arguments = ("wan", mac(sites.gw_a, "wan").hex(), bytes(four).hex(), bytes(six).hex())
    process = sites.gw_b.spawn(sys.executable, "-c", FORGE, *arguments, stderr=None)
    try:
        yield
        assert process.poll() is None, "the forger ended by itself"
    finally:
        process.kill()
        process.wait()


@dataclass
class Clear:
    """Packets in clear: when each crossed, in ns, and how ("out4", "in6")."""

    rows: list[tuple[int, str]]
    inner: set[str]  # what the same moments show on the inner side: the capture sees what there is

    def kinds(self, since: int = 0) -> set[str]:
        return {kind for when, kind in self.rows if when >= since}

    def open_ms(self, since: int) -> float:
        """Until the last packet in clear, in ms; 0 without any."""
        return max((when - since for when, _ in self.rows if when >= since), default=0) / 1e6


class Crossing:
    """What crosses gwA in clear in both directions, until `end`."""

    def __init__(self, sites: TwoSites, directory: Path, name: str) -> None:
        self._sites = sites
        self._files = [directory / f"{name}-{side}.pcapng" for side in ("lan", "wan")]
        self._captures = [capture.Capture(sites.gw_a, side, file) for side, file in zip(("lan", "wan"), self._files, strict=True)]

    def __enter__(self) -> Self:
        for each in self._captures:
            each.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._captures:
            each.__exit__(None, None, None)

    def end(self) -> Clear:
        until_sent(self._sites.host_a, 100)
        for each in self._captures:
            assert each.stop().lost == 0
        lan, wan = self._files
        outward = [(when, f"out{packet[0] >> 4}") for when, packet in capture.read(wan) if between_sites(packet)]
        inward = [(when, f"in{packet[0] >> 4}") for when, packet in capture.read(lan) if _is_forged(packet)]
        inner = {f"out{packet[0] >> 4}" for _, packet in capture.read(lan) if between_sites(packet)}
        inner |= {f"in{packet[0] >> 4}" for _, packet in capture.read(wan) if _is_forged(packet)}
        return Clear(sorted(outward + inward), inner)


def _is_forged(packet: bytes) -> bool:
    """Not what hostB itself answers through the tunnel."""
    return between_sites(packet, back=True) and capture.kind(packet) == "udp"


EVERY_WAY = {"out4", "out6", "in4", "in6"}


@contextmanager
def both_ways(sites: TwoSites) -> Iterator[None]:
    """Traffic of hostA's, and forged traffic in hostB's name."""
    with stream(sites.host_a, harness.BOTH), forged(sites):
        yield


def leaks_without_us(sites: TwoSites, directory: Path) -> bool:
    with Crossing(sites, directory, "control") as crossing:
        kinds = crossing.end().kinds()
    print(f"in clear without a gateway: {sorted(kinds)}")
    return kinds == EVERY_WAY


def sealed(gateway: GatewayProcess) -> int:
    return sum(child["packets_out"] for child in gateway.status()["tunnels"][0]["children"])


def flows_again(gateway: GatewayProcess) -> float:
    """Waits until traffic enters the tunnel (more than what was on its way); how long that took, in s."""
    began, before = time.monotonic(), sealed(gateway)
    until(lambda: sealed(gateway) > before + 100, "traffic in the tunnel")
    return time.monotonic() - began


def until_restored(gateway: GatewayProcess, before: dict[str, int], parts: set[str]) -> dict[str, Any]:
    """Waits until each of these parts was made again since `before`; the status then."""

    def found() -> dict[str, Any] | None:
        status = gateway.status()
        return status if all(status["restored"][part] > before[part] for part in parts) else None

    return until(found, f"{parts} made again")


def spread(values: list[float]) -> str:
    return f"median {statistics.median(values):.1f}, worst {max(values):.1f} of {len(values)}"
