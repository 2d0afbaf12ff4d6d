"""Selectors as proxy IDs, policies and zone rules write them (RFC 4301 §4.4.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.quantities import (
    OPAQUE,
    parse_addresses,
    parse_icmp_code,
    parse_icmp_type,
    parse_ports,
    parse_protocol,
)
from ipsec_dp.ipsec.selectors import (
    ANY_CODE,
    ANY_IPV4,
    ANY_IPV6,
    ANY_PORT,
    ANY_PROTOCOL,
    ICMP_OF_VERSION,
    ICMP_PROTOCOLS,
    OPAQUE_PORTS,
    PORT_PROTOCOLS,
    Range,
    SelectorPair,
)

if TYPE_CHECKING:
    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Place


def resolve_selectors(table: tables.Selectors, place: Place) -> tuple[SelectorPair, ...]:
    """One selector, or one for each IP version when no prefix tells which; empty when something is wrong."""
    before = place.findings.errors
    local = place.optional("local", parse_addresses, table.local)
    remote = place.optional("remote", parse_addresses, table.remote)
    protocol = place.value("protocol", parse_protocol, table.protocol, ANY_PROTOCOL)
    local_ports = place.value("local_ports", parse_ports, table.local_ports, ANY_PORT)
    remote_ports = place.value("remote_ports", parse_ports, table.remote_ports, ANY_PORT)
    icmp = _resolve_icmp(table, protocol, place)
    if place.findings.errors > before:
        return ()
    ports_key = "local_ports" if local_ports != ANY_PORT else "remote_ports"
    if (local_ports, remote_ports) != (ANY_PORT, ANY_PORT) and protocol.single not in PORT_PROTOCOLS:
        place.error(ports_key, f'protocol "{table.protocol}" has no ports', 'write protocol = "tcp" or "udp", or leave ports out')
    if local is not None and remote is not None and local.version != remote.version:
        wrong = f"{remote.prefix_text} is not of the IP version of local = {local.prefix_text}"
        place.error("remote", wrong, "write both as IPv4 or both as IPv6")
    if place.findings.errors > before:
        return ()
    local_ports, remote_ports = _both_opaque(local_ports, remote_ports, place)
    versions = [prefix.version for prefix in (local, remote) if prefix is not None][:1] or [4, 6]
    made = []
    for everything in (ANY_IPV4, ANY_IPV6):
        if everything.version in versions and protocol.single != _foreign_icmp(everything.version):
            left = everything.local if local is None else local
            right = everything.remote if remote is None else remote
            made.append(SelectorPair(left, right, protocol, *((local_ports, remote_ports) if icmp is None else (icmp, icmp))))
    if not made:
        right_one = "icmpv6" if versions == [6] else "icmp"
        place.error("protocol", f'"{table.protocol}" is not of IPv{versions[0]}', f'write "{right_one}"')
    return tuple(made)


def _both_opaque(local: Range, remote: Range, place: Place) -> tuple[Range, Range]:
    """A later fragment shows neither port: who writes "opaque" for one side means both."""
    if OPAQUE_PORTS not in (local, remote):
        return local, remote
    for key, ports in (("local_ports", local), ("remote_ports", remote)):
        if ports not in (ANY_PORT, OPAQUE_PORTS):
            place.error(key, f"{ports} is shown by no packet whose other port is opaque", f'write "{OPAQUE}" for both, or for none')
    return OPAQUE_PORTS, OPAQUE_PORTS


def _foreign_icmp(version: int) -> int:
    return ICMP_OF_VERSION[6 if version == 4 else 4]


def _resolve_icmp(table: tables.Selectors, protocol: Range, place: Place) -> Range | None:
    """Type and codes as they stand in both ports of a selector (RFC 4301 §4.4.1.1); None: any."""
    opaque = table.icmp_type == OPAQUE
    kind = None if opaque else place.value("icmp_type", parse_icmp_type, table.icmp_type, None)
    codes = place.value("icmp_code", parse_icmp_code, table.icmp_code, ANY_CODE)
    if kind is None and codes != ANY_CODE:
        place.error("icmp_code", "means nothing without a type", "write icmp_type too, or leave icmp_code out")
    if kind is None and not opaque:
        return None
    if protocol.single not in ICMP_PROTOCOLS:
        place.error("icmp_type", f'protocol "{table.protocol}" has no ICMP types', 'write protocol = "icmp" or "icmpv6"')
        return None
    return OPAQUE_PORTS if kind is None else Range(kind << 8 | codes.low, kind << 8 | codes.high)
