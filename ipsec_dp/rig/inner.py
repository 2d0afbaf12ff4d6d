"""Hosts behind the gateways of a rig: they send inner packets, get those for their address, and answer pings."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ipsec_dp.rig import packets

if TYPE_CHECKING:
    from ipsec_dp.rig.memory_gateway import Gateway

ECHO: Final = {packets.ICMP: (8, 0), packets.ICMPV6: (128, 129)}  # request and reply, by protocol (RFC 792, RFC 4443)
_IPV4, _IPV6 = 20, 40  # octets of the headers that rigs make


class InnerHost:
    """A host behind `gateway`, with one address. It answers pings until `silent` is set."""

    def __init__(self, gateway: Gateway, address: str) -> None:
        self.gateway, self.address = gateway, str(ip_address(address))
        self.silent = False
        self._got: list[bytes] = []
        self._sequence = 0
        gateway.site.hosts.append(self)

    @property
    def _protocol(self) -> int:
        return packets.ICMP if ip_address(self.address).version == 4 else packets.ICMPV6

    def send(self, destination: str, data: bytes = b"", ports: tuple[int, int] = (5000, 6000)) -> None:
        """A UDP datagram. RigError: no route of its gateway leads there."""
        self.gateway.inject(packets.udp(self.address, destination, data, ports=ports))

    def ping(self, destination: str, timeout: float = 1.0) -> bool:
        """Whether an answer to an echo request comes within `timeout` seconds of the clock."""
        self._sequence += 1
        wanted = struct.pack("!HH", 1, self._sequence)
        self.gateway.inject(self._echo(destination, ECHO[self._protocol][0], wanted))
        before = len(self._got)
        network = self.gateway.network
        return network.run_asking(lambda: any(self._is_reply(packet, wanted) for packet in self._got[before:]), timeout)

    def received(self) -> list[bytes]:
        """The packets that it got since the last call, pings and answers among them."""
        got, self._got = self._got, []
        return got

    def is_for(self, packet: bytes) -> bool:
        """Whether a packet that comes out of the gateway's tunnels is for this host."""
        return _ends(packet)[1] == self.address

    def take(self, packet: bytes) -> None:
        """It gets one."""
        source = _ends(packet)[0]
        self._got.append(packet)
        request, reply = ECHO[self._protocol]
        if not self.silent and _payload(packet)[:1] == bytes((request,)) and _protocol_of(packet) == self._protocol:
            self.gateway.inject(self._echo(source, reply, _payload(packet)[4:]))

    def _echo(self, destination: str, kind: int, rest: bytes) -> bytes:
        if self._protocol == packets.ICMP:
            body = struct.pack("!BBH", kind, 0, 0) + rest
            return packets.ipv4(
                self.address, destination, body[:2] + struct.pack("!H", packets.checksum(body)) + body[4:], protocol=packets.ICMP
            )
        body = struct.pack("!BBH", kind, 0, 0) + rest
        pseudo = ip_address(self.address).packed + ip_address(destination).packed + struct.pack("!II", len(body), packets.ICMPV6)
        return packets.ipv6(
            self.address,
            destination,
            body[:2] + struct.pack("!H", packets.checksum(pseudo + body)) + body[4:],
            protocol=packets.ICMPV6,
        )

    def _is_reply(self, packet: bytes, wanted: bytes) -> bool:
        payload = _payload(packet)
        return _protocol_of(packet) == self._protocol and payload[0] == ECHO[self._protocol][1] and payload[4:8] == wanted


def _ends(packet: bytes) -> tuple[str, str]:
    at, octets = (12, 4) if packet[0] >> 4 == 4 else (8, 16)
    return str(ip_address(packet[at : at + octets])), str(ip_address(packet[at + octets : at + 2 * octets]))


def _payload(packet: bytes) -> bytes:
    return packet[_IPV4 if packet[0] >> 4 == 4 else _IPV6 :]


def _protocol_of(packet: bytes) -> int:
    return packet[9] if packet[0] >> 4 == 4 else packet[6]
