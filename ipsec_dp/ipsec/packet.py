"""The selectors of one packet: what stands first in TSi and TSr when it asks for a CHILD_SA (RFC 7296 §2.9)."""

from __future__ import annotations

from ipaddress import ip_address

from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, ICMP_PROTOCOLS, OPAQUE_PORTS, PORT_PROTOCOLS, Range, SelectorPair

_IPV4_HEADER, _IPV6_HEADER = 20, 40
_ICMP_ERRORS = {1: frozenset({3, 11, 12}), 58: frozenset({1, 2, 3, 4})}
_ICMP_HEADER = 8
_FRAGMENT_OFFSET = 0x1FFF
_IPV6_FRAGMENT, _IPV6_FRAGMENT_HEADER, _IPV6_OFFSET = 44, 8, 0xFFF8


def selectors_of_packet(packet: bytes) -> SelectorPair | None:
    """Single addresses, protocol and ports of the beginning of an inner packet, seen from its sender; None when it is none.

    Ports that are not there are any, those that a later fragment does not show are OPAQUE; the protocol behind IPv6 extension
    headers other than the fragment header is their own number: selectors only hint at what is wanted, and the data plane has
    checked the packet. An ICMP error asks for the traffic that it is about: that of the packet it quotes, which went the other way
    (RFC 4301 §6).
    """
    read = _read(packet)
    if read is None:
        return None
    own, upper = read
    quotes = own.local_ports not in (ANY_PORT, OPAQUE_PORTS) and own.local_ports.low >> 8 in _ICMP_ERRORS.get(own.protocol.low, ())
    quoted = _read(upper[_ICMP_HEADER:]) if quotes else None
    if quoted is None:
        return own
    about = quoted[0]
    return SelectorPair(about.remote, about.local, about.protocol, about.remote_ports, about.local_ports)


def _read(packet: bytes) -> tuple[SelectorPair, bytes] | None:
    """The selectors of a packet, and what lies behind its IP header."""
    if len(packet) >= _IPV4_HEADER and packet[0] >> 4 == 4:
        source, destination, protocol = packet[12:16], packet[16:20], packet[9]
        later = int.from_bytes(packet[6:8], "big") & _FRAGMENT_OFFSET != 0
        upper = packet[(packet[0] & 15) * 4 :]
    elif len(packet) >= _IPV6_HEADER and packet[0] >> 4 == 6:
        source, destination, protocol = packet[8:24], packet[24:40], packet[6]
        later, upper = False, packet[_IPV6_HEADER:]
        if protocol == _IPV6_FRAGMENT and len(upper) >= _IPV6_FRAGMENT_HEADER:
            later = int.from_bytes(upper[2:4], "big") & _IPV6_OFFSET != 0
            protocol, upper = upper[0], upper[_IPV6_FRAGMENT_HEADER:]
    else:
        return None
    local = remote = OPAQUE_PORTS if later and protocol in PORT_PROTOCOLS | ICMP_PROTOCOLS else ANY_PORT
    if not later and protocol in PORT_PROTOCOLS and len(upper) >= 4:
        local, remote = (Range(port, port) for port in (int.from_bytes(upper[:2], "big"), int.from_bytes(upper[2:4], "big")))
    elif not later and protocol in ICMP_PROTOCOLS and len(upper) >= 2:
        local = remote = Range(int.from_bytes(upper[:2], "big"), int.from_bytes(upper[:2], "big"))
    ends = [AddressRange(ip_address(end), ip_address(end)) for end in (source, destination)]
    return SelectorPair(ends[0], ends[1], Range(protocol, protocol), local, remote), upper
