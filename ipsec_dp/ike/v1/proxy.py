"""Proxy IDs as quick mode carries them: ID payloads of networks (RFC 2407 §4.6.2), and how both sides' pairs differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.traffic_selectors import ANY_PROTOCOL, MAX_PORT, ProxyId, TrafficSelector
from ipsec_dp.ike.v1.payloads import IdPayload
from ipsec_dp.ike.v1.wire import ProxyIdType
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ipsec.addresses import Address

_SHOWN: Final = 8
_OCTETS: Final = {
    ProxyIdType.IPV4: 4,
    ProxyIdType.IPV4_SUBNET: 8,
    ProxyIdType.IPV4_RANGE: 8,
    ProxyIdType.IPV6: 16,
    ProxyIdType.IPV6_SUBNET: 32,
    ProxyIdType.IPV6_RANGE: 32,
}
_OF_VERSION: Final = {
    4: (ProxyIdType.IPV4, ProxyIdType.IPV4_SUBNET, ProxyIdType.IPV4_RANGE),
    6: (ProxyIdType.IPV6, ProxyIdType.IPV6_SUBNET, ProxyIdType.IPV6_RANGE),
}


class ProxyIdError(IkeError):
    """Proxy IDs that cannot be, or that are not ours. `cause` as events have it."""

    cause = Cause.SELECTORS


def id_of(selector: TrafficSelector) -> IdPayload:
    """The ID payload of one side."""
    address, subnet, span = _OF_VERSION[selector.version]
    size = 4 if selector.version == 4 else 16
    first, last = (one.to_bytes(size, "big") for one in (selector.start, selector.end))
    port = selector.start_port if selector.start_port == selector.end_port else 0
    if first == last:
        return IdPayload(address, selector.protocol, port, first)
    mask = _mask(selector, 8 * size)
    if mask is not None:
        return IdPayload(subnet, selector.protocol, port, first + mask.to_bytes(size, "big"))
    return IdPayload(span, selector.protocol, port, first + last)


def _mask(selector: TrafficSelector, bits: int) -> int | None:
    """Of the one prefix that its addresses are; None: they are none."""
    host = selector.start ^ selector.end
    is_prefix = not host & (host + 1) and not selector.start & host
    return host ^ (1 << bits) - 1 if is_prefix else None


def selector_of(payload: IdPayload) -> TrafficSelector:
    """What a side is. ProxyIdError for one that is no network, whose length lies, whose mask has holes or that runs backwards."""
    wanted = _OCTETS.get(ProxyIdType(payload.id_type)) if payload.id_type in list(ProxyIdType) else None
    if wanted != len(payload.data):
        raise ProxyIdError(f"a proxy ID of type {payload.id_type} with {len(payload.data)} octets")
    address, subnet, _ = _OF_VERSION[4 if wanted in (4, 8) else 6]
    version, size = (4, 4) if wanted in (4, 8) else (6, 16)
    start, second = (int.from_bytes(payload.data[at : at + size], "big") for at in (0, size))
    end = start if payload.id_type == address else second
    if payload.id_type == subnet:
        start, end = _network(start, second, 8 * size)
    if start > end:
        raise ProxyIdError("a proxy ID whose addresses run backwards")
    ports = (payload.port, payload.port) if payload.port else (0, MAX_PORT)
    if payload.port and payload.protocol == ANY_PROTOCOL:
        raise ProxyIdError(f"a proxy ID with port {payload.port} and no protocol")
    return TrafficSelector(version, start, end, payload.protocol, *ports)


def _network(address: int, mask: int, bits: int) -> tuple[int, int]:
    host = mask ^ (1 << bits) - 1
    if host & (host + 1):
        raise ProxyIdError("a proxy ID whose mask has holes")
    return address & mask, address & mask | host


def host_pair(local: Address, remote: Address) -> ProxyId:
    """What quick mode without IDs is about (RFC 2409 §5.5)."""
    return ProxyId(*(TrafficSelector.from_prefix(str(one)) for one in (local, remote)))


def pair_of(initiators: IdPayload, responders: IdPayload, *, initiator: bool) -> ProxyId:
    """Both IDs as we have them; `initiator`: we are. ProxyIdError."""
    first, second = selector_of(initiators), selector_of(responders)
    return ProxyId(first, second) if initiator else ProxyId(second, first)


def is_expressible(pair: ProxyId) -> bool:
    """Whether IKEv1 can say it: any port or one of each side, and no later fragments alone."""
    return not pair.mixed and not any(
        side.opaque or (side.asks_ports and (side.start_port != side.end_port or side.start_port == 0)) for side in pair
    )


def explain(ours: Sequence[ProxyId], theirs: ProxyId) -> str:
    """Both sides' pairs, and which part differs in the one that comes closest; one line, from our side."""
    both = f"ours: {named(ours, _SHOWN) or 'none'}; the peer's: {theirs}"
    if not ours:
        return both
    differing = [[name for name, one, other in _parts(mine, theirs) if one != other] for mine in ours]
    closest = min(range(len(ours)), key=lambda place: len(differing[place]))
    if theirs in [ProxyId(mine.remote, mine.local) for mine in ours]:
        return f"{both}; local and remote are exchanged on one side"
    differs = " and ".join(differing[closest])
    return f"{both}; differs from {ours[closest]} in {differs}: IKEv1 wants the very same on both sides, mirrored (proxy_id here)"


def _parts(ours: ProxyId, theirs: ProxyId) -> list[tuple[str, object, object]]:
    found: list[tuple[str, object, object]] = []
    for name, one, other in (("local", ours.local, theirs.local), ("remote", ours.remote, theirs.remote)):
        found += [
            (f"{name} addresses", (one.version, one.start, one.end), (other.version, other.start, other.end)),
            (f"{name} protocol", one.protocol, other.protocol),
            (f"{name} port", (one.start_port, one.end_port), (other.start_port, other.end_port)),
        ]
    return found
