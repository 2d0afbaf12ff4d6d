"""A flow in words."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from ipsec_dp.ipsec.flow import flow_text, icmp_of, port_of, protocol_text
from ipsec_dp.ipsec.selectors import PORT_OPAQUE, PROTOCOL_OPAQUE

A, B = ip_address("10.1.0.2"), ip_address("10.2.0.2")
A6, B6 = ip_address("fd00:1::2"), ip_address("fd00:2::2")
ECHO = 8 << 8


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        ((17, A, 5555, B, 53), "udp 10.1.0.2:5555 -> 10.2.0.2:53"),
        ((6, A6, 1, B6, 443), "tcp [fd00:1::2]:1 -> [fd00:2::2]:443"),
        ((1, A, ECHO, B, ECHO), "icmp type 8 code 0 10.1.0.2 -> 10.2.0.2"),
        ((58, A6, 1 << 8 | 4, B6, 1 << 8 | 4), "icmpv6 type 1 code 4 fd00:1::2 -> fd00:2::2"),
        ((17, A, PORT_OPAQUE, B, PORT_OPAQUE), "udp 10.1.0.2 -> 10.2.0.2"),
        ((50, A, PORT_OPAQUE, B, PORT_OPAQUE), "esp 10.1.0.2 -> 10.2.0.2"),
        ((89, A, PORT_OPAQUE, B, PORT_OPAQUE), "89 10.1.0.2 -> 10.2.0.2"),
        ((PROTOCOL_OPAQUE, None, PORT_OPAQUE, None, PORT_OPAQUE), "a packet ? -> ?"),
    ],
)
def test_a_flow_is_one_line(flow, text):
    assert flow_text(*flow) == text


def test_what_a_packet_does_not_show_is_none():
    assert (protocol_text(PROTOCOL_OPAQUE), port_of(17, PORT_OPAQUE), icmp_of(1, PORT_OPAQUE)) == (None, None, None)
    assert (port_of(50, 7), icmp_of(17, ECHO)) == (None, None)
