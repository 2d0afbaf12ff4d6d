"""Inner packets for rigs: IPv4 and IPv6 with correct checksums, field by field where a test wants one wrong."""

from __future__ import annotations

import ipaddress
import struct

UDP = 17
ICMP = 1
ICMPV6 = 58


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, destination: str, payload: bytes, *, protocol: int = UDP, tos: int = 0, df: bool = False) -> bytes:
    """An IPv4 packet (RFC 791) around `payload`."""
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    head = struct.pack("!BBHHHBB", 0x45, tos, 20 + len(payload), 0, 0x4000 if df else 0, 64, protocol)
    return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + payload


def ipv6(source: str, destination: str, payload: bytes, *, protocol: int = UDP, tos: int = 0) -> bytes:
    """An IPv6 packet (RFC 8200) around `payload`; `tos` is the traffic class."""
    ends = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    return struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, 64) + ends + payload


def udp(
    source: str, destination: str, data: bytes = b"", *, ports: tuple[int, int] = (5000, 6000), tos: int = 0, df: bool = False
) -> bytes:
    """A UDP datagram (RFC 768) in IPv4 or IPv6, as the addresses say. `df` is IPv4's."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    octets = 8 + len(data)
    head = struct.pack("!HHH", *ports, octets)
    total = checksum(ends + struct.pack("!IHBB", octets, 0, 0, UDP) + head + b"\0\0" + data)
    payload = head + struct.pack("!H", total or 0xFFFF) + data
    if ipaddress.ip_address(source).version == 4:
        return ipv4(source, destination, payload, tos=tos, df=df)
    return ipv6(source, destination, payload, tos=tos)


def udp_of_size(source: str, destination: str, octets: int, *, ports: tuple[int, int] = (5000, 6000)) -> bytes:
    """A UDP packet of `octets` in all. Raises ValueError when that does not hold the headers."""
    empty = len(udp(source, destination))
    if octets < empty:
        raise ValueError(f"{octets} octets do not hold headers of {empty}")
    return udp(source, destination, bytes(i & 0xFF for i in range(octets - empty)), ports=ports)
