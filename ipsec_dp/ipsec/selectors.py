"""Selectors (RFC 4301 §4.4.1.1): what a rule is about and what an SA may carry, from the configuration down to the data plane.

They have other forms at two edges only: `ike.traffic_selectors` (RFC 7296 §3.13) and ``struct dp_selector`` (`dataplane.convert`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.ipsec.addresses import AddressRange

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address

PROTOCOL_OPAQUE = 256  # what a packet has whose protocol cannot be seen (RFC 4301 §4.4.1.1)
PORT_OPAQUE = 65536


class Range(NamedTuple):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    @property
    def single(self) -> int | None:
        """The one number that is in it; None: several are."""
        return self.low if self.low == self.high else None

    def contains(self, number: int) -> bool:
        return self.low <= number <= self.high

    def overlaps(self, other: Range) -> bool:
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


ANY_PROTOCOL = Range(0, PROTOCOL_OPAQUE)
ANY_PORT = Range(0, PORT_OPAQUE)
ANY_CODE = Range(0, 255)
OPAQUE_PORTS = Range(PORT_OPAQUE, PORT_OPAQUE)

PORT_PROTOCOLS = frozenset({6, 17, 33, 132, 136})  # TCP, UDP, DCCP, SCTP, UDP-Lite: their headers begin with two ports
ICMP_OF_VERSION = {4: 1, 6: 58}
ICMP_PROTOCOLS = frozenset(ICMP_OF_VERSION.values())


@dataclass(frozen=True, slots=True)
class SelectorPair:
    """Local and remote addresses of one IP version (ValueError: of two), protocol, and ports on either side.

    Protocol 256 and port 65536 stand for OPAQUE, which "any" includes; so ports 0 to 65535 are fewer than any. OPAQUE_PORTS on both
    sides hold later fragments and nothing else (RFC 4301 §7.2). Under ICMP both sides' ports are the same and stand for one type
    with a range of codes, as type << 8 | code.
    """

    local: AddressRange
    remote: AddressRange
    protocol: Range = ANY_PROTOCOL
    local_ports: Range = ANY_PORT
    remote_ports: Range = ANY_PORT

    def __post_init__(self) -> None:
        if self.local.low.version != self.remote.low.version:
            raise ValueError(f"{self.local} and {self.remote} are of different IP versions")

    @property
    def version(self) -> int:
        return self.local.low.version

    @property
    def asks_ports(self) -> bool:
        """Whether ports (or an ICMP type) are bounded, so that it holds no packet that does not show them: no later fragment."""
        return not self.local_ports == self.remote_ports == ANY_PORT and not self.opaque

    @property
    def opaque(self) -> bool:
        """Whether it is for later fragments, which show no ports, and nothing else."""
        return self.local_ports == self.remote_ports == OPAQUE_PORTS

    @property
    def icmp(self) -> tuple[int, Range] | None:
        """ICMP type and codes where they are bounded; None: any, or no ICMP at all."""
        if not self._bounds_icmp(self.local_ports):
            return None
        return self.local_ports.low >> 8, Range(self.local_ports.low & 255, self.local_ports.high & 255)

    def _bounds_icmp(self, ports: Range) -> bool:
        return self.protocol.single in ICMP_PROTOCOLS and ports not in (ANY_PORT, OPAQUE_PORTS)

    def holds(
        self,
        local: Address,
        remote: Address,
        protocol: int = PROTOCOL_OPAQUE,
        local_port: int = PORT_OPAQUE,
        remote_port: int = PORT_OPAQUE,
    ) -> bool:
        """Whether a packet is one of these, as the data plane decides it. OPAQUE: what it does not show."""
        return (
            self.local.contains(local)
            and self.remote.contains(remote)
            and self.protocol.contains(protocol)
            and self.local_ports.contains(local_port)
            and self.remote_ports.contains(remote_port)
        )

    def overlaps(self, other: SelectorPair) -> bool:
        """Whether some packet could be held by both."""
        return (
            self.local.overlaps(other.local)
            and self.remote.overlaps(other.remote)
            and self.protocol.overlaps(other.protocol)
            and self.local_ports.overlaps(other.local_ports)
            and self.remote_ports.overlaps(other.remote_ports)
        )

    def _side(self, addresses: AddressRange, ports: Range) -> str:
        text = addresses.prefix_text
        if self._bounds_icmp(ports):
            text += f"[{self.protocol}/{icmp_text(ports)}]"
        elif self.protocol != ANY_PROTOCOL or ports != ANY_PORT:
            text += f"[{_numbers(self.protocol, ANY_PROTOCOL)}/{_numbers(ports, ANY_PORT)}]"
        return text

    @property
    def local_text(self) -> str:
        """As `status` prints it: prefix or range, with [protocol/ports] where they are bounded; ICMP has type and code there."""
        return self._side(self.local, self.local_ports)

    @property
    def remote_text(self) -> str:
        return self._side(self.remote, self.remote_ports)

    def __str__(self) -> str:
        """As findings and `policy explain` write it."""
        text = f"{self.local.prefix_text} <-> {self.remote.prefix_text}"
        if self.protocol != ANY_PROTOCOL:
            text += f" protocol {self.protocol}"
        if self.icmp is not None:
            text += f" ICMP {icmp_text(self.local_ports)}"
        elif self.opaque:
            text += " ports opaque"
        elif self.local_ports != ANY_PORT or self.remote_ports != ANY_PORT:
            text += f" ports {_numbers(self.local_ports, ANY_PORT)} <-> {_numbers(self.remote_ports, ANY_PORT)}"
        return text


def icmp_text(ports: Range) -> str:
    """What ports are under ICMP: "type 8", "type 3 code 0-4", "type 3-5"; of others "type 3 code 1 to type 5 code 0"."""
    (first, low), (last, high) = divmod(ports.low, 256), divmod(ports.high, 256)
    if (low, high) == ANY_CODE:
        return f"type {Range(first, last)}"
    return f"type {first} code {Range(low, high)}" if first == last else f"type {first} code {low} to type {last} code {high}"


def _numbers(value: Range, everything: Range) -> str:
    return "any" if value == everything else "opaque" if value == OPAQUE_PORTS else str(value)


ANY_IPV4 = SelectorPair(AddressRange.of("0.0.0.0/0"), AddressRange.of("0.0.0.0/0"))
ANY_IPV6 = SelectorPair(AddressRange.of("::/0"), AddressRange.of("::/0"))
