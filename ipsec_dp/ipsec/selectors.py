"""Traffic selector pairs with address ranges, as SAs negotiate them and the data plane checks them (RFC 7296 §3.13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ipsec_dp.ipsec.addresses import AddressRange

PROTOCOL_OPAQUE = 256  # what a packet has whose protocol cannot be seen (RFC 4301 §4.4.1.1)
PORT_OPAQUE = 65536


class Range(NamedTuple):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int


ANY_PROTOCOL = Range(0, PROTOCOL_OPAQUE)
ANY_PORT = Range(0, PORT_OPAQUE)


@dataclass(frozen=True, slots=True)
class SelectorPair:
    """What one SA may carry, or one rule is about.

    Protocol 256 and port 65536 stand for OPAQUE, which "any" includes. ICMP type and code lie in both ports as type << 8 | code.
    """

    local: AddressRange
    remote: AddressRange
    protocol: Range = ANY_PROTOCOL
    local_ports: Range = ANY_PORT
    remote_ports: Range = ANY_PORT

    @property
    def version(self) -> int:
        return self.local.low.version

    def _side(self, addresses: AddressRange, ports: Range) -> str:
        text = addresses.prefix_text
        if self.protocol != ANY_PROTOCOL or ports != ANY_PORT:
            text += f"[{_numbers(self.protocol, ANY_PROTOCOL)}/{_numbers(ports, ANY_PORT)}]"
        return text

    @property
    def local_text(self) -> str:
        """As `status` prints it: prefix or range, with [protocol/ports] where they are bounded."""
        return self._side(self.local, self.local_ports)

    @property
    def remote_text(self) -> str:
        return self._side(self.remote, self.remote_ports)


def _numbers(value: Range, everything: Range) -> str:
    if value == everything:
        return "any"
    return str(value.low) if value.low == value.high else f"{value.low}-{value.high}"
