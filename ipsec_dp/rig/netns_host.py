"""Around a gateway in a network namespace: hosts behind it, and what passes its outer interfaces.

`InnerHosts` is one hop away from the gateway, by a TUN interface of the rig's, and takes the place of all hosts that its local
selectors name. That hop is not counted: packets have the same hop limit as where they were made.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from ipsec_dp.dataplane import Endpoint
from ipsec_dp.host.tun import make
from ipsec_dp.rig.capture import BUFFER_OCTETS, LINK_KINDS, SO_RCVBUFFORCE, kind
from ipsec_dp.rig.memory_links import OuterDatagram
from ipsec_dp.rig.packets import UDP, checksum

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.config import Config
    from ipsec_dp.host.tun import Tun
    from ipsec_dp.ipsec.addresses import Address, Network
    from ipsec_dp.rig.netns import Namespace

INTERFACE: Final = "rig0"  # of the hosts behind a gateway
PACKET_MAX: Final = 1 << 17
ESP: Final = 50
ETH_P_ALL: Final = 3
PACKET_OUTGOING: Final = 4  # <linux/if_packet.h>
SO_TIMESTAMPNS: Final = 35  # <asm-generic/socket.h>
NS_PER_S: Final = 1_000_000_000
LIMIT_MAX: Final = 255


def nearer(packet: bytes) -> bytes:
    """The packet with a hop limit that is one more, as before the hop that it has crossed or is to cross."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes((min(packet[7] + 1, LIMIT_MAX),)) + packet[8:]
    octets = (packet[0] & 15) * 4
    head = packet[:8] + bytes((min(packet[8] + 1, LIMIT_MAX), packet[9], 0, 0)) + packet[12:octets]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + packet[octets:]


def local_prefixes(config: Config) -> set[Network]:
    """Whose hosts are behind a gateway: what its tunnels' local selectors name, but for everything there is."""
    found: set[Network] = set()
    for tunnel in config.tunnels:
        for pair in tunnel.selectors:
            found.update(prefix for prefix in pair.local.prefixes if prefix.prefixlen)
    return found


class InnerHosts:
    """All hosts behind the gateway of a namespace. Prefixes that the namespace has a route for already are left to it."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._routed: set[Network] = set()
        self._tun: Tun = namespace.call(lambda: make(INTERFACE, vnet_header=False))
        (self._descriptor,) = self._tun.descriptors
        os.set_blocking(self._descriptor, False)
        namespace.call(self._quiet)
        namespace.ip(f"link set {INTERFACE} up")

    @staticmethod
    def _quiet() -> None:
        """The kernel sends nothing of its own making by it."""
        for name, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("router_solicitations", "0")):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{INTERFACE}/{name}", "w") as setting:
                setting.write(value)

    def route(self, config: Config) -> None:
        """Brings the routes to the hosts behind it up to date."""
        wanted = local_prefixes(config)
        for prefix in self._routed - wanted:
            self._namespace.ip(f"route del {prefix} dev {INTERFACE}")
        self._routed &= wanted
        new = wanted - self._routed
        taken = self._taken() if new else set()
        fresh = {prefix for prefix in new if prefix not in taken}
        if fresh:
            self._namespace.ip(*(f"route add {prefix} dev {INTERFACE}" for prefix in sorted(map(str, fresh))))
        self._routed |= fresh

    def _taken(self) -> set[Network]:
        rows = [
            row for option in ("-4", "-6") for row in json.loads(self._namespace.run("ip", option, "-j", "route").stdout or "[]")
        ]
        return {ip_network(row["dst"]) for row in rows if row["dst"] != "default"}

    def send(self, packet: bytes) -> None:
        """One of them does."""
        os.write(self._descriptor, nearer(packet))

    def received(self) -> list[bytes]:
        """What they got since the last call."""
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = os.read(self._descriptor, PACKET_MAX)
                if kind(packet) not in LINK_KINDS:
                    got.append(nearer(packet))
        return got

    def close(self) -> None:
        self._tun.close()


class OuterTap:
    """What passes the interfaces that have the gateway's outer addresses, as a packet socket sees it, with the kernel's times."""

    def __init__(self, namespace: Namespace, addresses: Iterable[Address]) -> None:
        self._addresses = set(addresses)
        self.log: list[tuple[int, bool, bytes]] = []  # ns since 1970, whether it left, IP packet
        self._sockets = namespace.call(lambda: [self._open(name) for name in self._interfaces(namespace)])

    def _interfaces(self, namespace: Namespace) -> list[str]:
        rows = json.loads(namespace.run("ip", "-j", "address", "show").stdout)
        return [
            row["ifname"]
            for row in rows
            if any(ip_address(each["local"]) in self._addresses for each in row.get("addr_info", ()) if "local" in each)
        ]

    @staticmethod
    def _open(interface: str) -> socket.socket:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_OCTETS)
        tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        tap.bind((interface, ETH_P_ALL))
        return tap

    def read(self) -> None:
        """Brings `log` up to date."""
        for tap in self._sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet, ancillary, _, address = tap.recvmsg(PACKET_MAX, 64)
                    self._note(packet, ancillary[0][2] if ancillary else b"", left=address[2] == PACKET_OUTGOING)

    def _note(self, packet: bytes, stamp: bytes, *, left: bool) -> None:
        if not packet or packet[0] >> 4 not in (4, 6) or kind(packet) in LINK_KINDS:
            return
        at, octets = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
        ends = {ip_address(packet[at : at + octets]), ip_address(packet[at + octets : at + 2 * octets])}
        if ends & self._addresses:
            seconds, nanoseconds = struct.unpack("qq", stamp) if len(stamp) == 16 else (time.time_ns() // NS_PER_S, 0)
            self.log.append((seconds * NS_PER_S + nanoseconds, left, packet))

    def close(self) -> None:
        for tap in self._sockets:
            tap.close()


def datagram_of(packet: bytes) -> OuterDatagram | None:
    """What an outer IP packet carries; None: it is neither UDP nor ESP, or a later fragment."""
    version = packet[0] >> 4
    start = (packet[0] & 15) * 4 if version == 4 else 40
    at, octets = (12, 4) if version == 4 else (8, 16)
    source, destination = (ip_address(packet[at + n * octets : at + (n + 1) * octets]) for n in (0, 1))
    protocol = packet[9] if version == 4 else packet[6]
    if protocol == ESP:
        return OuterDatagram(Endpoint(source, 0), Endpoint(destination, 0), packet[start:], udp=False)
    if protocol != UDP or len(packet) < start + 8 or (version == 4 and int.from_bytes(packet[6:8]) & 0x1FFF):
        return None
    ports = struct.unpack_from("!HH", packet, start)
    return OuterDatagram(Endpoint(source, ports[0]), Endpoint(destination, ports[1]), packet[start + 8 :])
