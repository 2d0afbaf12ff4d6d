"""TS payloads: the wire form of traffic selectors (RFC 7296 §3.13) and their narrowing (RFC 7296 §2.9)."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.proxy_ids import ProxyIds
from ipsec_dp.ike.traffic_selectors import ANY_PROTOCOL, MAX_PORT, ProxyId, TrafficSelector, text
from ipsec_dp.ike.v2.wire import MAX_SELECTORS

TS_IPV4_ADDR_RANGE: Final = 7
TS_IPV6_ADDR_RANGE: Final = 8
_ADDRESS_OCTETS: Final = {TS_IPV4_ADDR_RANGE: 4, TS_IPV6_ADDR_RANGE: 16}
_TYPE_OF_VERSION: Final = {4: TS_IPV4_ADDR_RANGE, 6: TS_IPV6_ADDR_RANGE}
_HEAD: Final = 8  # octets before the two addresses


def parse_selectors(reader: Reader) -> tuple[tuple[TrafficSelector, ...], tuple[int, ...]]:
    """The body of a TS payload, 1..255 selectors; types other than IPv4 and IPv6 ranges, which are passed over."""
    count = reader.u8()
    reader.octets(3)  # reserved, ignored
    if count == 0:
        raise IkeSyntaxError("TS payload without selectors")
    found = [_parse_selector(reader) for _ in range(count)]
    reader.end("TS payload")
    unknown = dict.fromkeys(each for each in found if isinstance(each, int))
    return tuple(each for each in found if isinstance(each, TrafficSelector)), tuple(unknown)


def _parse_selector(reader: Reader) -> TrafficSelector | int:
    """The type of one that is not known."""
    ts_type, protocol, length = reader.u8(), reader.u8(), reader.u16()
    body = reader.sub(length - 4)
    size = _ADDRESS_OCTETS.get(ts_type)
    if size is None:
        return ts_type
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
    """What both sides of one end hold, at most 64 selectors in the order offered; empty: nothing, which `explain_mismatch` puts in
    words. What is agreed on are pairs: `permitted`."""
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


def explain_mismatch(
    ours: tuple[Sequence[TrafficSelector], Sequence[TrafficSelector]],
    theirs: tuple[Sequence[TrafficSelector], Sequence[TrafficSelector]],
) -> str:
    """Both sides' (local, remote as we see it) selectors and what has nothing in common, as one line for an event."""
    sides = [name for name, mine, other in zip(("local", "remote"), ours, theirs, strict=True) if not _meet(mine, other)]
    differs = f"no common {' and no common '.join(sides)} selector" if sides else "both sides have selectors in common"
    return (
        f"ours: local {text(ours[0])} remote {text(ours[1])}; peer's: local {text(theirs[0])} remote {text(theirs[1])}; {differs}"
    )


def _meet(ours: Sequence[TrafficSelector], theirs: Sequence[TrafficSelector]) -> bool:
    """Whether any of them have something in common. Most of many are told apart by their addresses alone."""
    ordered = sorted(set(theirs))
    starts = [(one.version, one.start) for one in ordered]
    ends = list(accumulate(((one.version, one.end) for one in ordered), max))

    def may_meet(mine: TrafficSelector) -> bool:
        before = bisect_right(starts, (mine.version, mine.end))
        return before > 0 and ends[before - 1] >= (mine.version, mine.start)

    return any(mine.intersection(one) is not None for mine in set(ours) if may_meet(mine) for one in ordered)


def permitted(
    configured: Sequence[ProxyId], local: Sequence[TrafficSelector], remote: Sequence[TrafficSelector], most: int
) -> tuple[ProxyId, ...]:
    """What of `local` × `remote` is configured: TS payloads multiply, a configuration lists pairs. At most `most` of them.

    Each side is cut down first, and only what can stand together is multiplied: it costs as much as the payloads are long.
    """
    found: dict[ProxyId, None] = {}
    for proxy_id in configured.near(local, remote) if isinstance(configured, ProxyIds) else configured:
        lefts, rights = _common(proxy_id.local, local), _common(proxy_id.remote, remote)
        fitting: dict[tuple[int, int], list[TrafficSelector]] = {}
        for right in rights:
            fitting.setdefault((right.version, right.protocol), []).append(right)
        for left in lefts:
            for right in _beside(left, rights, fitting):
                pair = ProxyId(left, right)
                if not pair.mixed:
                    found[pair] = None
                if len(found) == most:
                    return tuple(found)
    return tuple(found)


def _common(mine: TrafficSelector, offered: Sequence[TrafficSelector]) -> list[TrafficSelector]:
    """What is in both, each once."""
    return list(dict.fromkeys(both for theirs in offered if (both := mine.intersection(theirs)) is not None))


def _beside(
    left: TrafficSelector, rights: list[TrafficSelector], fitting: dict[tuple[int, int], list[TrafficSelector]]
) -> list[TrafficSelector]:
    """Those of the same IP version and a protocol that agrees."""
    if left.protocol == ANY_PROTOCOL:
        return [right for right in rights if right.version == left.version]
    return [right for protocol in (left.protocol, ANY_PROTOCOL) for right in fitting.get((left.version, protocol), ())]
