"""ICMP messages that an IKE message of ours did not get there, with the part of it that they quote (RFC 792, RFC 4443 §3.1).

Read from raw ICMP sockets, as `too_big` says why. Anybody may have made them, and nothing here believes anything: whether the
quoted message was sent is for who sent it to say.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from ipsec_dp.host import HostError
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.host.too_big import BUFFER_OCTETS, ICMP_FILTER, ICMPV6_FILTER, IPPROTO_ICMPV6, SOL_RAW, UDP

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address

ICMP_UNREACHABLE, ICMPV6_UNREACHABLE = 3, 1
NON_ESP_MARKER = bytes(4)  # RFC 3948 §2.2
_REJECTED: Final = "a firewall rejects it"
_NO_ROUTE: Final = "there is no route to it"
_SILENT: Final = "nothing answers there on its own network"
_CLOSED: Final = "port unreachable: no IKE runs on it; start it there"
REASONS: Final[dict[int, dict[int, str]]] = {  # by IP version and code; "packet too big" is another's concern
    4: {
        0: _NO_ROUTE,
        1: _SILENT,
        2: "it takes no UDP",
        3: _CLOSED,
        6: _NO_ROUTE,
        7: _SILENT,
        9: _REJECTED,
        10: _REJECTED,
        13: _REJECTED,
    },
    6: {0: _NO_ROUTE, 1: _REJECTED, 3: _SILENT, 4: _CLOSED, 5: _REJECTED, 6: _REJECTED},
}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """`reason` in words. The rest is of the datagram of ours that is quoted; `message`: what is left of the IKE message in it."""

    reason: str
    local: Address
    local_port: int
    remote: Address
    remote_port: int
    message: bytes


def read_v4(packet: bytes) -> Unreachable | None:
    """What a raw IPv4 socket gave, IP header first. None: no such message, or it quotes no IKE message of ours."""
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    icmp = packet[(packet[0] & 15) * 4 :]
    if len(icmp) < 8 or icmp[0] != ICMP_UNREACHABLE:
        return None
    quoted = icmp[8:]
    header = (quoted[0] & 15) * 4 if quoted else 0
    if header < 20 or len(quoted) < header or quoted[0] >> 4 != 4 or quoted[9] != UDP or int.from_bytes(quoted[6:8]) & 0x1FFF:
        return None
    return _datagram(REASONS[4].get(icmp[1]), quoted[header:], IPv4Address(quoted[12:16]), IPv4Address(quoted[16:20]))


def read_v6(message: bytes) -> Unreachable | None:
    """What a raw ICMPv6 socket gave, ICMP header first. As `read_v4`."""
    quoted = message[8:]
    if len(message) < 8 or message[0] != ICMPV6_UNREACHABLE or len(quoted) < 40 or quoted[0] >> 4 != 6 or quoted[6] != UDP:
        return None
    return _datagram(REASONS[6].get(message[1]), quoted[40:], IPv6Address(quoted[8:24]), IPv6Address(quoted[24:40]))


def _datagram(reason: str | None, udp: bytes, local: Address, remote: Address) -> Unreachable | None:
    if reason is None or len(udp) < 8:
        return None
    ports, message = struct.unpack_from("!HH", udp), udp[8:]
    if ports[0] == NAT_PORT and message.startswith(NON_ESP_MARKER):
        message = message[len(NON_ESP_MARKER) :]
    elif ports[0] != IKE_PORT:
        return None
    return Unreachable(reason, local, ports[0], remote, ports[1], message)


READERS = {4: read_v4, 6: read_v6}


def open_socket(version: int) -> socket.socket:
    """A raw socket that gets no other ICMP messages, non-blocking, in the namespace of the calling thread. HostError."""
    family, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, IPPROTO_ICMPV6)
    try:
        made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        if version == 4:
            made.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 << ICMP_UNREACHABLE) & 0xFFFFFFFF))
        else:
            blocked = struct.pack("8I", ~(1 << ICMPV6_UNREACHABLE) & 0xFFFFFFFF, *[0xFFFFFFFF] * 7)
            made.setsockopt(IPPROTO_ICMPV6, ICMPV6_FILTER, blocked)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
    except OSError as error:
        raise HostError(f"raw ICMP socket for IPv{version}: {error.strerror}") from error
    return made
