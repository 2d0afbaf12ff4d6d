"""Traffic selector pairs and rules as the configuration states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ipsec_dp.ipsec.addresses import AddressRange, Network

__all__ = ["ANY_CODES", "ANY_IPV4", "ANY_IPV6", "ANY_PORTS", "Action", "Network", "PortRange", "Rule", "Selector"]

Action = Literal["protect", "bypass", "discard"]


class PortRange(NamedTuple):
    """Ports from `low` to `high`, both included."""

    low: int
    high: int

    def covers(self, other: PortRange) -> bool:
        return self.low <= other.low and other.high <= self.high

    def overlaps(self, other: PortRange) -> bool:
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        if self == ANY_PORTS:
            return "any"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


# What RFC 7296 §3.13.1 sends for any port; packets without visible ports are held by it too.
ANY_PORTS = PortRange(0, 65535)
ANY_CODES = PortRange(0, 255)

ICMP_OF_VERSION = {4: 1, 6: 58}
ICMP_PROTOCOLS = frozenset(ICMP_OF_VERSION.values())


@dataclass(frozen=True, slots=True)
class Selector:
    """Local and remote addresses of one IP version, protocol (None: any), ports on either side.

    Under ICMP both sides' ports are the same and stand for one type with a range of codes, as type << 8 | code (RFC 4301 §4.4.1.1).
    """

    local: AddressRange
    remote: AddressRange
    protocol: int | None = None
    local_ports: PortRange = ANY_PORTS
    remote_ports: PortRange = ANY_PORTS

    @property
    def version(self) -> int:
        return self.local.version

    @property
    def icmp(self) -> tuple[int, PortRange] | None:
        """ICMP type and codes where they are bounded; None: any, or no ICMP at all."""
        if self.protocol not in ICMP_PROTOCOLS or self.local_ports == ANY_PORTS:
            return None
        return self.local_ports.low >> 8, PortRange(self.local_ports.low & 255, self.local_ports.high & 255)

    def covers(self, other: Selector) -> bool:
        """Whether it holds whatever the other holds."""
        return self.local.covers(other.local) and self.remote.covers(other.remote) and self.covers_upper_layer(other)

    def covers_upper_layer(self, other: Selector) -> bool:
        """Whether protocol and ports hold whatever the other's hold."""
        return (
            self.protocol in (None, other.protocol)
            and self.local_ports.covers(other.local_ports)
            and self.remote_ports.covers(other.remote_ports)
        )

    def overlaps(self, other: Selector) -> bool:
        """Whether some packet could be held by both."""
        return (
            self.version == other.version
            and self.local.overlaps(other.local)
            and self.remote.overlaps(other.remote)
            and (self.protocol is None or other.protocol in (None, self.protocol))
            and self.local_ports.overlaps(other.local_ports)
            and self.remote_ports.overlaps(other.remote_ports)
        )

    def __str__(self) -> str:
        text = f"{self.local.prefix_text} <-> {self.remote.prefix_text}"
        if self.protocol is not None:
            text += f" protocol {self.protocol}"
        if self.icmp is not None:
            kind, codes = self.icmp
            text += f" ICMP type {kind}" + (f" code {codes}" if codes != ANY_CODES else "")
        elif self.local_ports != ANY_PORTS or self.remote_ports != ANY_PORTS:
            text += f" ports {self.local_ports} <-> {self.remote_ports}"
        return text


ANY_IPV4 = Selector(AddressRange.of("0.0.0.0/0"), AddressRange.of("0.0.0.0/0"))
ANY_IPV6 = Selector(AddressRange.of("::/0"), AddressRange.of("::/0"))


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy database, in the order of decision.

    `interface` is the TUN interface the rule belongs to, None: every one. `tunnel` is set under protect. `policy` is the index of
    the [[policy]] it comes from, None: a proxy ID of its tunnel, whose index (or None: the tunnel has none) is `proxy_id`.
    """

    selector: Selector
    action: Action
    interface: str | None
    tunnel: str | None
    policy: int | None = None
    proxy_id: int | None = None
