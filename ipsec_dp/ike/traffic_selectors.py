"""Traffic selectors as IKE negotiates them (RFC 7296 §3.13.1), proxy IDs, text, and the form in which the data plane has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network, summarize_address_range
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, ICMP_PROTOCOLS, OPAQUE_PORTS, Range, SelectorPair, icmp_text
from ipsec_dp.ipsec.selectors import ANY_PROTOCOL as ANY_RANGE
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANY_PROTOCOL: Final = 0
MAX_PORT: Final = 65_535
OPAQUE: Final = (MAX_PORT, 0)  # start and end port
PROTOCOL_NAMES: Final = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
_NAME_OF_PROTOCOL: Final = {number: name for name, number in PROTOCOL_NAMES.items()}
_SHOWN: Final = 16  # selectors a text shows


@dataclass(frozen=True, slots=True, order=True)
class TrafficSelector:
    """Addresses `start`..`end` of one IP version, protocol (0: any), ports `start_port`..`end_port`, all inclusive.

    ICMP type and code stand in the ports as type * 256 + code. `start_port` 65535 with `end_port` 0 is OPAQUE.
    """

    version: int
    start: int
    end: int
    protocol: int = ANY_PROTOCOL
    start_port: int = 0
    end_port: int = MAX_PORT

    @classmethod
    def from_prefix(cls, prefix: str, protocol: int = ANY_PROTOCOL, ports: tuple[int, int] = (0, MAX_PORT)) -> Self:
        """A selector for `prefix` ("10.1.0.0/24", "2001:db8::1"); ValueError when that is no prefix or the ports no range."""
        network = ip_network(prefix)
        if not 0 <= ports[0] <= ports[1] <= MAX_PORT:
            raise ValueError(f"ports {ports[0]}-{ports[1]}")
        return cls(network.version, int(network[0]), int(network[-1]), protocol, *ports)

    @property
    def opaque(self) -> bool:
        """True for a selector of packets whose ports cannot be seen (RFC 4301 §4.4.1.1): later fragments alone (§7.2)."""
        return self.start_port > self.end_port

    @property
    def asks_ports(self) -> bool:
        """True when it holds no packet that does not show its ports: no later fragment."""
        return not self.opaque and (self.start_port, self.end_port) != (0, MAX_PORT)

    def intersection(self, other: TrafficSelector) -> TrafficSelector | None:
        """What both hold, or None.

        An OPAQUE selector meets OPAQUE ones alone: an SA for later fragments is an SA apart (RFC 4301 §7.2), and one for any ports
        needs none beside it.
        """
        if self.version != other.version or self.opaque != other.opaque:
            return None
        if self.protocol != other.protocol and ANY_PROTOCOL not in (self.protocol, other.protocol):
            return None
        start, end = max(self.start, other.start), min(self.end, other.end)
        start_port, end_port = max(self.start_port, other.start_port), min(self.end_port, other.end_port)
        if self.opaque:
            start_port, end_port = OPAQUE
        elif start_port > end_port:
            return None
        if start > end:
            return None
        return TrafficSelector(self.version, start, end, self.protocol or other.protocol, start_port, end_port)

    def covers(self, other: TrafficSelector) -> bool:
        """True when every packet of `other` is one of ours: their `intersection` is `other`, which is not made for it."""
        if self.version != other.version or self.opaque != other.opaque or self.protocol not in (ANY_PROTOCOL, other.protocol):
            return False
        if not self.start <= other.start <= other.end <= self.end:
            return False
        if self.opaque:
            return (other.start_port, other.end_port) == OPAQUE
        return self.start_port <= other.start_port and other.end_port <= self.end_port

    def __str__(self) -> str:
        """ "10.1.0.0/24", "10.1.0.1-10.1.0.9", with "[tcp/443]", "[17/5000-5010]" or "[icmp/type 8]" appended where restricted."""
        address = IPv4Address if self.version == 4 else IPv6Address
        first, last = address(self.start), address(self.end)
        prefixes = list(summarize_address_range(first, last))
        where = str(prefixes[0]) if len(prefixes) == 1 else f"{first}-{last}"
        if (self.protocol, self.start_port, self.end_port) == (ANY_PROTOCOL, 0, MAX_PORT):
            return where
        protocol = _NAME_OF_PROTOCOL.get(self.protocol, str(self.protocol))
        return f"{where}[{protocol}{self._port_text()}]"

    def _port_text(self) -> str:
        if self.opaque:
            return "/opaque"
        if (self.start_port, self.end_port) == (0, MAX_PORT):
            return ""
        if self.protocol in ICMP_PROTOCOLS:
            return f"/{icmp_text(Range(self.start_port, self.end_port))}"
        return f"/{self.start_port}" if self.start_port == self.end_port else f"/{self.start_port}-{self.end_port}"


ANY: Final = (TrafficSelector.from_prefix("0.0.0.0/0"), TrafficSelector.from_prefix("::/0"))
"""What an unset proxy ID stands for."""


def ask_ports(*sides: Iterable[TrafficSelector]) -> bool:
    """True when any of these selectors asks for ports."""
    return any(selector.asks_ports for side in sides for selector in side)


class ProxyId(NamedTuple):
    """One pair of selectors as configured: what is ours and what is the peer's, of one IP version and one protocol."""

    local: TrafficSelector
    remote: TrafficSelector

    def __str__(self) -> str:
        return f"{self.local} <-> {self.remote}"

    @property
    def opaque(self) -> bool:
        """True when it is for later fragments."""
        return self.local.opaque

    @property
    def mixed(self) -> bool:
        """True when it shows the port of one end and not the other's: no packet does."""
        return self.local.opaque != self.remote.opaque

    def covers(self, other: ProxyId) -> bool:
        """True when it holds all of `other`."""
        return self.local.covers(other.local) and self.remote.covers(other.remote)


def text(selectors: Sequence[TrafficSelector]) -> str:
    """For people: the first 16 selectors separated by commas, "(none)" when there is none."""
    return named(selectors, _SHOWN) or "(none)"


# --- as the data plane has them ----------------------------------------------------------------------------------------


def selector_pair(pair: ProxyId) -> SelectorPair:
    """A pair of traffic selectors as the data plane checks it: "any" there holds OPAQUE too."""
    protocol = pair.local.protocol or pair.remote.protocol
    return SelectorPair(
        _addresses(pair.local),
        _addresses(pair.remote),
        ANY_RANGE if protocol == ANY_PROTOCOL else Range(protocol, protocol),
        _ports(pair.local),
        _ports(pair.remote),
    )


def selector_pairs(pairs: Iterable[ProxyId]) -> tuple[SelectorPair, ...]:
    """`selector_pair` of each."""
    return tuple(map(selector_pair, pairs))


def _addresses(selector: TrafficSelector) -> AddressRange:
    address = IPv4Address if selector.version == 4 else IPv6Address
    return AddressRange(address(selector.start), address(selector.end))


def _ports(selector: TrafficSelector) -> Range:
    ports = (selector.start_port, selector.end_port)
    if selector.opaque:
        return OPAQUE_PORTS
    return ANY_PORT if ports == (0, MAX_PORT) else Range(*ports)


def proxy_id_of(selector: SelectorPair) -> ProxyId:
    """In the form that is negotiated: what is configured, or the packet that asks for an SA (RFC 7296 §2.9, see `asked_by`)."""
    low, high = selector.protocol
    protocol = low if low == high and low <= 0xFF else ANY_PROTOCOL
    local, remote = (selector.local, selector.local_ports), (selector.remote, selector.remote_ports)
    return ProxyId(*(_one_side(addresses, protocol, ports) for addresses, ports in (local, remote)))


def go_apart(pairs: Iterable[ProxyId], configured: Iterable[ProxyId]) -> bool:
    """True when later fragments of all that `pairs` carry by their ports have an SA of their own configured (RFC 4301 §7.2), so
    that there is nothing to agree on (§7.3)."""
    opaque = [one for one in configured if one.opaque]
    return all(any(one.covers(_hidden(pair)) for one in opaque) for pair in pairs if ask_ports(pair))


def _hidden(pair: ProxyId) -> ProxyId:
    """Its later fragments."""
    return ProxyId(*(replace(end, start_port=OPAQUE[0], end_port=OPAQUE[1]) for end in pair))


def asked_by(packet: SelectorPair, configured: Iterable[ProxyId]) -> ProxyId:
    """What a packet asks for (RFC 7296 §2.9): a later fragment for an SA for such alone where one is configured, else for one for
    any ports."""
    asked = proxy_id_of(packet)
    if asked.opaque and not any(one.covers(asked) for one in configured):
        return proxy_id_of(replace(packet, local_ports=ANY_PORT, remote_ports=ANY_PORT))
    return asked


def of_one_kind(pairs: Iterable[ProxyId], opaque: bool) -> tuple[ProxyId, ...]:
    """Those for later fragments, or the others; where there are none of that kind, the others. One CHILD_SA has no two kinds."""
    kinds: tuple[list[ProxyId], list[ProxyId]] = ([], [])
    for pair in pairs:
        kinds[pair.opaque].append(pair)
    return tuple(kinds[opaque] or kinds[not opaque])


def _one_side(addresses: AddressRange, protocol: int, ports: Range) -> TrafficSelector:
    version, first, last = addresses.low.version, int(addresses.low), int(addresses.high)
    if ports == OPAQUE_PORTS and protocol != ANY_PROTOCOL:
        return TrafficSelector(version, first, last, protocol, *OPAQUE)
    if ports.high > MAX_PORT or protocol == ANY_PROTOCOL:
        return TrafficSelector(version, first, last, protocol)
    return TrafficSelector(version, first, last, protocol, ports.low, ports.high)
