"""Ranges of IP addresses, as traffic selectors have them (RFC 4301 §4.4.1.1), and their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface  # an address with the length of its prefix
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AddressRange:
    """Addresses `low` to `high`, both included, of one IP version. ValueError when they are not in order or differ in version."""

    low: Address
    high: Address

    def __post_init__(self) -> None:
        if self.low.version != self.high.version or int(self.low) > int(self.high):
            raise ValueError(f"{self.low}-{self.high} is not a range of addresses")

    @classmethod
    def of(cls, text: str | Network) -> AddressRange:
        """From a prefix ("10.1.0.0/24"), an address, or "low-high"."""
        if isinstance(text, str) and "-" in text:
            low, _, high = text.partition("-")
            return cls(ip_address(low.strip()), ip_address(high.strip()))
        network = ip_network(text) if isinstance(text, str) else text
        return cls(network.network_address, network.broadcast_address)

    @property
    def version(self) -> int:
        return self.low.version

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"

    @property
    def prefix_text(self) -> str:
        """As a prefix where the range is one ("10.1.0.0/24"), else "low-high"."""
        bits = self._prefix_bits
        return f"{self.low}-{self.high}" if bits is None else f"{self.low}/{bits}"

    @property
    def _prefix_bits(self) -> int | None:
        """The prefix length of a range that is one prefix."""
        low, differing = int(self.low), int(self.low) ^ int(self.high)
        whole = differing & (differing + 1) == 0 and low & differing == 0
        return self.low.max_prefixlen - differing.bit_length() if whole else None

    @property
    def prefixes(self) -> list[Network]:
        """The fewest prefixes that are the same addresses, in order: 62 of IPv4 at the most, 254 of IPv6."""
        bits = self._prefix_bits
        return list(summarize_address_range(self.low, self.high)) if bits is None else [ip_network((self.low, bits))]

    @property
    def everything(self) -> bool:
        """Whether it is every address of its IP version."""
        return int(self.low) == 0 and int(self.high) == (1 << self.low.max_prefixlen) - 1

    def contains(self, address: Address) -> bool:
        return self.version == address.version and int(self.low) <= int(address) <= int(self.high)

    def covers(self, other: AddressRange) -> bool:
        return self.version == other.version and int(self.low) <= int(other.low) and int(other.high) <= int(self.high)

    def overlaps(self, other: AddressRange) -> bool:
        return self.version == other.version and int(self.low) <= int(other.high) and int(other.low) <= int(self.high)


def _range(version: int, low: int, high: int) -> AddressRange:
    kind = IPv4Address if version == 4 else IPv6Address
    return AddressRange(kind(low), kind(high))


def subtract(whole: AddressRange, holes: Iterable[AddressRange]) -> list[AddressRange]:
    """What is left of `whole` without the holes, in order."""
    left: list[AddressRange] = []
    low, end = int(whole.low), int(whole.high)
    for hole in sorted((hole for hole in holes if hole.overlaps(whole)), key=lambda each: int(each.low)):
        if int(hole.low) > low:
            left.append(_range(whole.version, low, int(hole.low) - 1))
        low = max(low, int(hole.high) + 1)
    if low <= end:
        left.append(_range(whole.version, low, end))
    return left


def merge(ranges: Iterable[AddressRange]) -> list[AddressRange]:
    """The same addresses of one IP version as the fewest ranges, in order."""
    merged: list[AddressRange] = []
    for each in sorted(ranges, key=lambda item: (int(item.low), int(item.high))):
        if merged and int(each.low) <= int(merged[-1].high) + 1:
            merged[-1] = _range(each.version, int(merged[-1].low), max(int(merged[-1].high), int(each.high)))
        else:
            merged.append(each)
    return merged
