"""The packet that `policy explain` is asked about, from what a person wrote."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ipsec_dp.config.quantities import parse_icmp_code, parse_icmp_type, parse_ports, parse_protocol
from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.selectors import ICMP_PROTOCOLS, PORT_OPAQUE, PORT_PROTOCOLS, PROTOCOL_OPAQUE

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Address


@dataclass(frozen=True, slots=True)
class PacketQuestion:
    """A packet. `local` is its source, or under `inbound` its destination; so with ports. OPAQUE: not given.

    `iif`: the interface by which an outbound packet comes from another host; "": found out.
    """

    local: Address
    remote: Address
    protocol: int = PROTOCOL_OPAQUE
    local_port: int = PORT_OPAQUE
    remote_port: int = PORT_OPAQUE
    inbound: bool = False
    iif: str = ""


def question_of(
    source: str,
    destination: str,
    protocol: str | None,
    sport: str | None,
    dport: str | None,
    *,
    inbound: bool = False,
    iif: str | None = None,
) -> PacketQuestion:
    """From what a person wrote; under ICMP `sport` is the type and `dport` the code. Raises BadValueError."""
    ends = [_address(text) for text in (source, destination)]
    if ends[0].version != ends[1].version:
        raise BadValueError(f"{source} and {destination} are of different IP versions", "give two addresses of one")
    named = "icmpv6" if protocol == "icmp" and ends[0].version == 6 else protocol
    number = None if named is None else parse_protocol(named).single
    number = PROTOCOL_OPAQUE if number is None else number
    ports = (PORT_OPAQUE, PORT_OPAQUE)
    if sport is not None and number in ICMP_PROTOCOLS:
        kind = parse_icmp_type(sport)
        code = 0 if dport is None else parse_icmp_code(dport).low
        ports = (PORT_OPAQUE, PORT_OPAQUE) if kind is None else (kind << 8 | code,) * 2
    elif sport is not None or dport is not None:
        if number not in PORT_PROTOCOLS:
            raise BadValueError(f'protocol "{protocol}" has no ports', "give tcp or udp, or leave the ports out")
        ports = (_port(sport), _port(dport))
    if inbound:
        ends, ports = ends[::-1], (ports[1], ports[0])
    if inbound and iif:
        raise BadValueError("a packet from a peer comes out of a tunnel interface", "leave the interface out")
    return PacketQuestion(ends[0], ends[1], number, ports[0], ports[1], inbound, iif or "")


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise BadValueError(f'"{text}" is not an IP address', "give e.g. 10.1.0.5") from error


def _port(text: str | None) -> int:
    if text is None or text == "any":
        return PORT_OPAQUE
    port = parse_ports(text).single
    if port is None:
        raise BadValueError(f'"{text}" is no one port', "give the port of one packet")
    return port
