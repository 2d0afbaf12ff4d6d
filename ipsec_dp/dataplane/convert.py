"""Between Python values and the structures of ``native/dp.h``."""

from __future__ import annotations

import errno
import ipaddress
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.types import (
    DROP_NAMES,
    NO_DROPS,
    Counters,
    Direction,
    DropExample,
    Endpoint,
    OuterPath,
    Punt,
    PuntKind,
    SaFlag,
    SaHandle,
    SaParams,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import Range, SelectorPair

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ipsec_dp.ipsec.addresses import Address


def check(result: int, what: str) -> int:
    """The result, or DataPlaneError for -errno."""
    if result < 0:
        raise DataPlaneError(-result, f"{what}: {os.strerror(-result)}")
    return result


def set_address(c: Any, address: Address) -> None:
    packed = address.packed
    ffi.memmove(c, packed, len(packed))


def set_endpoint(c: Any, endpoint: Endpoint | None) -> None:
    if endpoint is None:
        return
    c.family = endpoint.address.version
    c.port = endpoint.port
    c.scope = endpoint.scope
    set_address(c.ip, endpoint.address)


def endpoint_of(c: Any) -> Endpoint | None:
    return None if c.family == 0 else _endpoint(c.family, bytes(ffi.buffer(c.ip)), c.port, c.scope)


@lru_cache(1024)  # SAs by the thousand have few peers between them, and addresses are slow to make
def _endpoint(family: int, octets: bytes, port: int, scope: int) -> Endpoint:
    return Endpoint(ipaddress.ip_address(octets[:4] if family == 4 else octets), port, scope)


def punt_of(record: bytearray, octets: int) -> Punt:
    """A record of so many octets, as it was read. DataPlaneError when it is none."""
    c, header = ffi.from_buffer("struct dp_punt *", record), ffi.sizeof("struct dp_punt")
    if octets < header or octets != header + c.octets:
        raise DataPlaneError(errno.EPROTO, f"punt record of {octets} octets")
    return Punt(
        PuntKind(c.kind),
        c.link,
        c.tunnel,
        SaHandle(c.sa),
        c.spi,
        SaFlag(c.flags),
        c.interface,
        c.error,
        c.now,
        endpoint_of(c.local),
        endpoint_of(c.remote),
        bytes(record[header:octets]),
    )


def set_path(c: Any, path: OuterPath) -> None:
    set_endpoint(c.local, path.local)
    set_endpoint(c.remote, path.remote)
    c.encapsulation = path.encapsulation
    c.df = path.df
    c.dscp, c.dscp_value = path.dscp, path.dscp_value
    c.hop_limit, c.outer = path.hop_limit, path.outer
    c.link = path.link


def set_selector(c: Any, pair: SelectorPair) -> None:
    c.family = pair.version
    c.protocol_low, c.protocol_high = pair.protocol
    c.local_port_low, c.local_port_high = pair.local_ports
    c.remote_port_low, c.remote_port_high = pair.remote_ports
    set_address(c.local_low, pair.local.low)
    set_address(c.local_high, pair.local.high)
    set_address(c.remote_low, pair.remote.low)
    set_address(c.remote_high, pair.remote.high)


def selector_of(c: Any) -> SelectorPair:
    """The inverse of `set_selector`."""
    octets = 4 if c.family == 4 else 16
    local_low, local_high, remote_low, remote_high = (
        ipaddress.ip_address(bytes(ffi.buffer(each, octets))) for each in (c.local_low, c.local_high, c.remote_low, c.remote_high)
    )
    return SelectorPair(
        AddressRange(local_low, local_high),
        AddressRange(remote_low, remote_high),
        Range(c.protocol_low, c.protocol_high),
        Range(c.local_port_low, c.local_port_high),
        Range(c.remote_port_low, c.remote_port_high),
    )


def selectors_of(pairs: Collection[SelectorPair]) -> Any:
    """Each once and in an order of their own, since they are a set: the core takes CHILD_SAs for alike whose lists are equal
    (`dp_child_add`). So the array may be shorter than `pairs`."""
    unique = list(pairs) if len(pairs) < 2 else sorted(set(pairs), key=_order)
    array = ffi.new("struct dp_selector[]", len(unique))
    for c, pair in zip(array, unique, strict=True):
        set_selector(c, pair)
    return array


def _order(pair: SelectorPair) -> tuple[int, ...]:
    ends = (pair.local.low, pair.local.high, pair.remote.low, pair.remote.high)
    return pair.version, *map(int, ends), *pair.protocol, *pair.local_ports, *pair.remote_ports


def sa_params_of(params: SaParams, worker: int) -> Any:
    """All but keys and selectors, which the core is given beside it."""
    c, suite, limits = ffi.new("struct dp_sa_params *"), params.suite, params.limits
    c.spi, c.tunnel, c.worker = params.spi, params.tunnel, worker
    c.encr, c.integ, c.key_octets, c.esn = suite.encr, suite.integ, suite.key_octets, suite.esn
    c.fragments_also = params.fragments_also
    c.soft_octets, c.hard_octets = limits.soft_octets, limits.hard_octets
    c.soft_packets, c.hard_packets = limits.soft_packets, limits.hard_packets
    if params.path is None:
        c.interface, c.replay_window = params.interface, params.replay_window
        set_endpoint(c.path.remote, params.peer)
    else:
        c.tfc_octets, c.sequence, c.iv = params.tfc_octets, params.sequence, params.iv
        set_path(c.path, params.path)
    return c


NO_NUMBER = 0xFFFFFFFF  # no interface, no tunnel


def example_of(c: Any) -> DropExample:
    octets = 16 if c.family == 6 else 4
    ends = [None if c.family == 0 else ipaddress.ip_address(bytes(ffi.buffer(each, octets))) for each in (c.source, c.destination)]
    interface, tunnel = (None if number == NO_NUMBER else int(number) for number in (c.interface, c.tunnel))
    return DropExample(
        c.now,
        Direction(c.direction),
        ends[0],
        ends[1],
        c.protocol,
        c.source_port,
        c.destination_port,
        interface,
        tunnel,
        c.spi or None,
        bool(c.outer),
    )


_NO_OCTETS: Final = bytes(len(DROP_NAMES) * ffi.sizeof("uint64_t"))


def some_drops_of(array: Any) -> Mapping[str, int]:
    """As `drops_of`; NO_DROPS where nothing was dropped: so it is with most SAs, and thousands are asked."""
    return NO_DROPS if ffi.buffer(array, len(_NO_OCTETS))[:] == _NO_OCTETS else drops_of(array)


def drops_of(array: Any) -> dict[str, int]:
    """By reason, of DP_DROP_COUNT numbers."""
    counts = dict(zip(DROP_NAMES, ffi.unpack(array, len(DROP_NAMES)), strict=True))
    del counts[DROP_NAMES[lib.DP_OK]]
    return counts


def counters_of(c: Any) -> Counters:
    return Counters(
        drops_of(c.drops),
        c.packets_out,
        c.octets_out,
        c.packets_in,
        c.octets_in,
        c.keepalives_in,
        c.ike_in,
        c.punts_limited,
        c.punts_lost,
        c.handed_over,
        c.taken_over,
        c.cookies_sent,
    )
