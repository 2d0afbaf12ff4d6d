"""What a packet that found no SA asks for (RFC 7296 §2.9)."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from ipsec_dp.ipsec.packet import selectors_of_packet
from ipsec_dp.ipsec.selectors import ANY_PORT, OPAQUE_PORTS, Range

V4: dict[str, Any] = {"src": "10.1.0.5", "dst": "10.2.0.9"}
V6: dict[str, Any] = {"src": "2001:db8:1::5", "dst": "2001:db8:2::9"}
PORT = Range(4711, 4711), Range(443, 443)
ECHO = Range(8 << 8, 8 << 8)


@pytest.mark.parametrize(
    ("packet", "protocol", "ports"),
    [
        (IP(**V4) / TCP(sport=4711, dport=443), 6, PORT),
        (IP(**V4) / UDP(sport=4711, dport=443) / Raw(b"x"), 17, PORT),
        (IP(**V4) / ICMP(), 1, (ECHO, ECHO)),
        (IP(**V4, proto=47) / Raw(b"12345678"), 47, (ANY_PORT, ANY_PORT)),
        (IP(**V4, frag=10, proto=17) / Raw(b"12345678"), 17, (OPAQUE_PORTS, OPAQUE_PORTS)),
        (IP(**V4, frag=10, proto=47) / Raw(b"12345678"), 47, (ANY_PORT, ANY_PORT)),
        (IPv6(**V6) / IPv6ExtHdrFragment(offset=10, nh=17) / Raw(b"12345678"), 17, (OPAQUE_PORTS, OPAQUE_PORTS)),
        (IPv6(**V6) / IPv6ExtHdrFragment(offset=0, m=1) / UDP(sport=4711, dport=443), 17, PORT),
        (IPv6(**V6) / UDP(sport=4711, dport=443), 17, PORT),
        (IPv6(**V6) / ICMPv6EchoRequest(), 58, (Range(128 << 8, 128 << 8), Range(128 << 8, 128 << 8))),
    ],
)
def test_selectors_are_those_of_the_packet_alone(packet, protocol, ports):
    found = selectors_of_packet(bytes(packet))
    assert found is not None
    ends = V4 if packet.version == 4 else V6
    assert (str(found.local.low), str(found.local.high)) == (ends["src"], ends["src"])
    assert (str(found.remote.low), str(found.remote.high)) == (ends["dst"], ends["dst"])
    assert found.protocol == Range(protocol, protocol)
    assert (found.local_ports, found.remote_ports) == ports


@pytest.mark.parametrize("packet", [b"", b"\x45", bytes(19), b"\x45" + bytes(18), b"\x60" + bytes(38), b"\x75" + bytes(60)])
def test_what_is_no_packet_asks_for_nothing(packet):
    assert selectors_of_packet(packet) is None


@pytest.mark.parametrize("octets", range(20, 28))
def test_a_cut_off_upper_header_leaves_ports_open(octets):
    found = selectors_of_packet(bytes(IP(**V4) / UDP(sport=4711, dport=443))[:octets])
    assert found is not None
    assert found.local_ports == (PORT[0] if octets >= 24 else ANY_PORT)


@pytest.mark.parametrize(
    ("packet", "protocol"),
    [
        (IP(src="10.1.0.1", dst="10.2.0.9") / ICMP(type=3) / IP(src="10.2.0.9", dst="10.1.0.5") / UDP(sport=443, dport=4711), 17),
        (
            IPv6(src="2001:db8:1::1", dst="2001:db8:2::9")
            / ICMPv6PacketTooBig()
            / IPv6(src="2001:db8:2::9", dst="2001:db8:1::5")
            / UDP(sport=443, dport=4711),
            17,
        ),
    ],
)
def test_an_icmp_error_asks_for_the_traffic_it_is_about(packet, protocol):
    """RFC 4301 §6: the packet it quotes came the other way."""
    found = selectors_of_packet(bytes(packet))
    assert found is not None
    ends = V4 if packet.version == 4 else V6
    assert (str(found.local.low), str(found.remote.low)) == (ends["src"], ends["dst"])
    assert found.protocol == Range(protocol, protocol)
    assert (found.local_ports, found.remote_ports) == PORT
