"""The checksum of IP, TCP, UDP and ICMP (RFC 1071)."""

from __future__ import annotations


def internet_checksum(data: bytes) -> int:
    """As it is written into a header whose own field holds zero; an odd octet is padded with zero."""
    whole = int.from_bytes(data + bytes(len(data) % 2), "big")
    # The ones' complement sum of 16-bit words is the number itself modulo 2^16 - 1, of which only zero has two forms.
    total = whole % 0xFFFF or (0xFFFF if whole else 0)
    return ~total & 0xFFFF
