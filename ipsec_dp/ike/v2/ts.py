"""Traffic selectors: wire form (RFC 7296 §3.13), text, and narrowing (RFC 7296 §2.9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network, summarize_address_range
from typing import Final, Self

from ipsec_dp.ike.v2.wire import MAX_SELECTORS, IkeSyntaxError, Reader, Writer

TS_IPV4_ADDR_RANGE: Final = 7
TS_IPV6_ADDR_RANGE: Final = 8
_ADDRESS_OCTETS: Final = {TS_IPV4_ADDR_RANGE: 4, TS_IPV6_ADDR_RANGE: 16}
_TYPE_OF_VERSION: Final = {4: TS_IPV4_ADDR_RANGE, 6: TS_IPV6_ADDR_RANGE}
_HEAD: Final = 8  # octets before the two addresses
_SHOWN: Final = 16  # selectors a text shows

ANY_PROTOCOL: Final = 0
MAX_PORT: Final = 65_535
PROTOCOL_NAMES: Final = {"any": 0, "icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
_NAME_OF_PROTOCOL: Final = {number: name for name, number in PROTOCOL_NAMES.items()}


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
        """True for a selector of packets whose ports cannot be seen (RFC 4301 §4.4.1.1)."""
        return self.start_port > self.end_port

    def intersection(self, other: "TrafficSelector") -> "TrafficSelector | None":
        """What both hold, or None.

        An OPAQUE selector meets nothing: no packet path here could honour it, so it is never agreed to.
        """
        if self.version != other.version or self.opaque or other.opaque:
            return None
        if self.protocol != other.protocol and ANY_PROTOCOL not in (self.protocol, other.protocol):
            return None
        start, end = max(self.start, other.start), min(self.end, other.end)
        start_port, end_port = max(self.start_port, other.start_port), min(self.end_port, other.end_port)
        if start > end or start_port > end_port:
            return None
        return TrafficSelector(self.version, start, end, self.protocol or other.protocol, start_port, end_port)

    def covers(self, other: "TrafficSelector") -> bool:
        """True when every packet of `other` is one of ours."""
        return self.intersection(other) == other

    def __str__(self) -> str:
        """ "10.1.0.0/24", "10.1.0.1-10.1.0.9", with "[tcp/443]" or "[17/5000-5010]" appended where restricted."""
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
        return f"/{self.start_port}" if self.start_port == self.end_port else f"/{self.start_port}-{self.end_port}"


ANY: Final = (TrafficSelector.from_prefix("0.0.0.0/0"), TrafficSelector.from_prefix("::/0"))
"""What an unset proxy ID stands for."""


def parse_selectors(reader: Reader) -> tuple[TrafficSelector, ...]:
    """The body of a TS payload: 1..255 selectors. Types other than IPv4 and IPv6 ranges are passed over."""
    count = reader.u8()
    reader.octets(3)  # reserved, ignored
    if count == 0:
        raise IkeSyntaxError("TS payload without selectors")
    selectors = [_parse_selector(reader) for _ in range(count)]
    reader.end("TS payload")
    return tuple(selector for selector in selectors if selector is not None)


def _parse_selector(reader: Reader) -> TrafficSelector | None:
    ts_type, protocol, length = reader.u8(), reader.u8(), reader.u16()
    body = reader.sub(length - 4)
    size = _ADDRESS_OCTETS.get(ts_type)
    if size is None:
        return None
    if length != _HEAD + 2 * size:
        raise IkeSyntaxError(f"traffic selector of type {ts_type} with {length} octets")
    start_port, end_port = body.u16(), body.u16()
    start, end = (int.from_bytes(body.octets(size), "big") for _ in range(2))
    if start > end or (start_port > end_port and (start_port, end_port) != (MAX_PORT, 0)):
        raise IkeSyntaxError("traffic selector whose range ends before it starts")
    return TrafficSelector(4 if size == 4 else 6, start, end, protocol, start_port, end_port)


def build_selectors(writer: Writer, selectors: Sequence[TrafficSelector]) -> None:
    """The body of a TS payload."""
    writer.u8(len(selectors))
    writer.octets(bytes(3))
    for selector in selectors:
        ts_type = _TYPE_OF_VERSION[selector.version]
        size = _ADDRESS_OCTETS[ts_type]
        writer.u8(ts_type)
        writer.u8(selector.protocol)
        writer.u16(_HEAD + 2 * size)
        writer.u16(selector.start_port)
        writer.u16(selector.end_port)
        writer.octets(selector.start.to_bytes(size, "big"))
        writer.octets(selector.end.to_bytes(size, "big"))


def narrow(ours: Sequence[TrafficSelector], offered: Sequence[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """The responder's answer: what both hold, at most 64 selectors in the order offered; empty means TS_UNACCEPTABLE.

    The initiator's first selector may be that of the packet which asked for the SA (RFC 7296 §2.9); it is part of what both hold
    whenever our policy admits the packet, so the packet always finds an SA.
    """
    found: list[TrafficSelector] = []
    for theirs in offered:
        for mine in ours:
            both = mine.intersection(theirs)
            if both is not None and not any(known.covers(both) for known in found):
                found = [known for known in found if not both.covers(known)]
                found.append(both)
            if len(found) == MAX_SELECTORS:
                return tuple(found)
    return tuple(found)


def is_narrowing(offered: Sequence[TrafficSelector], answered: Sequence[TrafficSelector]) -> bool:
    """True when `answered` is a non-empty subset of what we offered: all an initiator may accept (RFC 7296 §2.9)."""
    return bool(answered) and all(any(mine.covers(theirs) for mine in offered) for theirs in answered)


def text(selectors: Sequence[TrafficSelector]) -> str:
    """For people: the first 16 selectors separated by commas, "(none)" when there is none."""
    more = [f"and {len(selectors) - _SHOWN} more"] if len(selectors) > _SHOWN else []
    return ", ".join([*map(str, selectors[:_SHOWN]), *more]) or "(none)"


def explain_mismatch(
    ours: tuple[Sequence[TrafficSelector], Sequence[TrafficSelector]],
    theirs: tuple[Sequence[TrafficSelector], Sequence[TrafficSelector]],
) -> str:
    """Both sides' (local, remote as we see it) selectors and what has nothing in common, as one line for an event."""
    sides = [name for name, mine, other in zip(("local", "remote"), ours, theirs, strict=True) if not narrow(mine, other)]
    differs = f"no common {' and no common '.join(sides)} selector" if sides else "both sides have selectors in common"
    return (
        f"ours: local {text(ours[0])} remote {text(ours[1])}; peer's: local {text(theirs[0])} remote {text(theirs[1])}; {differs}"
    )
