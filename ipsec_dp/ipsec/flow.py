"""One flow as a person reads it: "udp 10.1.0.2:5555 -> 10.2.0.2:53"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ipsec.selectors import ICMP_PROTOCOLS, PORT_OPAQUE, PORT_PROTOCOLS, PROTOCOL_OPAQUE

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address

PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 132: "sctp"}


def protocol_text(protocol: int) -> str | None:
    """ "udp", or the number of one without a name here; None: the packet does not show it."""
    return None if protocol == PROTOCOL_OPAQUE else PROTOCOL_NAMES.get(protocol, str(protocol))


def icmp_of(protocol: int, port: int) -> tuple[int, int] | None:
    """ICMP type and code, which stand in both ports; None: no ICMP, or the packet does not show them."""
    return (port >> 8, port & 255) if protocol in ICMP_PROTOCOLS and port != PORT_OPAQUE else None


def port_of(protocol: int, port: int) -> int | None:
    """A port as it is; None: the protocol has none, or the packet does not show it."""
    return port if protocol in PORT_PROTOCOLS and port != PORT_OPAQUE else None


def flow_text(protocol: int, source: Address | None, source_port: int, destination: Address | None, destination_port: int) -> str:
    """Protocol, both ends, and under ICMP type and code. Ports as in a selector: 65536 stands for one that is not shown."""
    left, right = (_end(end, port_of(protocol, port)) for end, port in ((source, source_port), (destination, destination_port)))
    icmp = icmp_of(protocol, source_port)
    kind = f"{protocol_text(protocol) or 'a packet'}" + ("" if icmp is None else f" type {icmp[0]} code {icmp[1]}")
    return f"{kind} {left} -> {right}"


def _end(address: Address | None, port: int | None) -> str:
    if address is None:
        return "?"
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
