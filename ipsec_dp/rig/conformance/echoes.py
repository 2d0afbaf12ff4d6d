"""Echo requests and replies as inner packets (RFC 792, RFC 4443)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from ipsec_dp.rig.packets import ICMP, ICMPV6, checksum, ipv4, ipv6

if TYPE_CHECKING:
    from ipsec_dp.rig.conformance.kit import EchoEnds

REQUEST, REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
IDENTIFIER: Final = 0x6B69
_HEADER: Final = {4: 20, 6: 40}


def request(echo: EchoEnds, number: int) -> bytes:
    """An echo request with that sequence number of ICMP."""
    return _packet(
        echo.source, echo.destination, REQUEST[echo.source.version], struct.pack("!HH", IDENTIFIER, number) + b"conformance"
    )


def _packet(source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, kind: int, rest: bytes) -> bytes:
    body = bytes([kind, 0, 0, 0]) + rest
    if source.version == 4:
        return ipv4(str(source), str(destination), _summed(b"", body), protocol=ICMP)
    pseudo = source.packed + destination.packed + struct.pack("!IHBB", len(body), 0, 0, ICMPV6)
    return ipv6(str(source), str(destination), _summed(pseudo, body), protocol=ICMPV6)


def _summed(pseudo: bytes, body: bytes) -> bytes:
    return body[:2] + checksum(pseudo + body).to_bytes(2, "big") + body[4:]


def replied(packet: bytes) -> int | None:
    """The number of ours that an inner packet is the reply to; None when it is none."""
    version = packet[0] >> 4 if packet else 0
    if version not in REPLY:
        return None
    body = packet[_HEADER[version] :]
    if len(body) < 8 or body[0] != REPLY[version] or int.from_bytes(body[4:6], "big") != IDENTIFIER:
        return None
    return int.from_bytes(body[6:8], "big")


def answer_to(packet: bytes) -> bytes:
    """The reply to an echo request."""
    version = packet[0] >> 4
    rest = packet[_HEADER[version] + 4 :]
    if version == 4:
        return _packet(IPv4Address(packet[16:20]), IPv4Address(packet[12:16]), REPLY[4], rest)
    return _packet(IPv6Address(packet[24:40]), IPv6Address(packet[8:24]), REPLY[6], rest)
