"""Traffic selector pairs as the configuration states them, and the search for rules that can never be reached."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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


@dataclass(frozen=True, slots=True)
class Selector:
    """Local and remote prefix of one IP version, protocol (None: any), ports on either side."""

    local: Network
    remote: Network
    protocol: int | None = None
    local_ports: PortRange = ANY_PORTS
    remote_ports: PortRange = ANY_PORTS

    @property
    def version(self) -> int:
        return self.local.version

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
        text = f"{self.local} <-> {self.remote}"
        if self.protocol is not None:
            text += f" protocol {self.protocol}"
        if self.local_ports != ANY_PORTS or self.remote_ports != ANY_PORTS:
            text += f" ports {self.local_ports} <-> {self.remote_ports}"
        return text


ANY_IPV4 = Selector(ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv4Network("0.0.0.0/0"))
ANY_IPV6 = Selector(ipaddress.IPv6Network("::/0"), ipaddress.IPv6Network("::/0"))


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


class _Shape(NamedTuple):
    """What rules of one interface have in common that one look-up by masked addresses can find."""

    version: int
    local_length: int
    remote_length: int


def _bits(selector: Selector, shape: _Shape) -> tuple[int, int]:
    """Both prefixes' leading bits, as many as the shape looks at."""
    width = selector.local.max_prefixlen
    local, remote = int(selector.local.network_address), int(selector.remote.network_address)
    return local >> (width - shape.local_length), remote >> (width - shape.remote_length)


def find_shadowed(rules: Sequence[Rule]) -> Iterable[tuple[Rule, Rule]]:
    """Pairs (rule, the first earlier rule that holds all it holds), in order.

    Instead of comparing all pairs, it looks for each rule among earlier ones by every combination of prefix lengths in use that
    is no longer than its own: with n rules and a few lengths it takes n look-ups.
    """
    seen: dict[str | None, dict[_Shape, dict[tuple[int, int], list[int]]]] = {}
    for index, rule in enumerate(rules):
        selector = rule.selector
        earlier: list[int] = []
        for interface in {None, rule.interface}:
            for shape, by_bits in seen.get(interface, {}).items():
                if (
                    shape.version != selector.version
                    or shape.local_length > selector.local.prefixlen
                    or shape.remote_length > selector.remote.prefixlen
                ):
                    continue
                found = by_bits.get(_bits(selector, shape), ())
                earlier.extend(other for other in found if rules[other].selector.covers_upper_layer(selector))
        if earlier:
            yield rule, rules[min(earlier)]
        own = _Shape(selector.version, selector.local.prefixlen, selector.remote.prefixlen)
        seen.setdefault(rule.interface, {}).setdefault(own, {}).setdefault(_bits(selector, own), []).append(index)
