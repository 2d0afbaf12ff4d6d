"""What flow the data plane sees in an inner packet, against packets that scapy makes.

The only rule discards exactly the flow expected, so the drop reason tells whether the packet was read as that flow, as another
(policy_none), or refused (inner_version, inner_length, inner_header).
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from ipsec_dp.dataplane import Action, DataPlane, Policy, PolicyRule
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, PORT_OPAQUE, PROTOCOL_OPAQUE, Range, SelectorPair

OPAQUE = (PORT_OPAQUE, PORT_OPAQUE)
REFUSED = {"inner_version", "inner_length", "inner_header"}
GRE = 47


@pytest.fixture(scope="module")
def plane():
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1) as made:
        made.attach_memory_tun(0)
        yield made


def dropped(plane: DataPlane, packet: bytes, selector: SelectorPair) -> str:
    """Why the packet was dropped, when `selector` is discarded and nothing else is known."""
    plane.install_policy(Policy([PolicyRule(selector, Action.DISCARD, 0)]))
    before = plane.counters().drops
    plane.push_tun(0, packet)
    assert plane.step_outbound(0) == 1
    after = plane.counters().drops
    plane.reclaim()
    (reason,) = [name for name in after if after[name] != before[name]]
    return reason


def exactly(local: str, remote: str, protocol: int, ports: tuple[int, int]) -> SelectorPair:
    local_ports, remote_ports = (Range(port, port) for port in ports)
    return SelectorPair(AddressRange.of(local), AddressRange.of(remote), Range(protocol, protocol), local_ports, remote_ports)


TCP_NUMBER = 6
PORT = st.integers(0, 65535)
ADDRESS = {
    4: st.integers(0x01000000, 0xDFFFFFFF).map(lambda value: str(ipaddress.IPv4Address(value))),
    6: st.integers(0x2000 << 112, (0x4000 << 112) - 1).map(lambda value: str(ipaddress.IPv6Address(value))),
}


@st.composite
def uppers(draw: st.DrawFn, version: int):
    """An upper layer, its protocol and what it shows as ports."""
    ports = draw(PORT), draw(PORT)
    number, code = draw(st.integers(0, 255)), draw(st.integers(0, 255))
    echo = (ICMP(type=number, code=code), 1) if version == 4 else (ICMPv6EchoRequest(type=number, code=code), 58)
    return draw(
        st.sampled_from(
            [
                (TCP(sport=ports[0], dport=ports[1]), 6, ports),
                (UDP(sport=ports[0], dport=ports[1]) / Raw(b"data"), 17, ports),
                (SCTP(sport=ports[0], dport=ports[1]), 132, ports),
                (Raw(bytes(echo[0])[:8]), echo[1], (number << 8 | code,) * 2),
                (Raw(b"\0\0\0\0\0\0\0\0"), GRE, OPAQUE),
                (Raw(b"\x12\x34\x56"), TCP_NUMBER, OPAQUE),
            ]
        )
    )


def reason_for(protocol: int, ports: tuple[int, int], offset: int | None) -> str:
    """A rule for OPAQUE ports is for later fragments and protocols without any, and holds no header that is cut off."""
    return "policy_none" if protocol == TCP_NUMBER and ports == OPAQUE and not offset else "policy_discard"


@given(data=st.data())
def test_ipv4_flows_are_read_behind_options_and_in_fragments(plane, data):
    source, destination = data.draw(ADDRESS[4]), data.draw(ADDRESS[4])
    upper, protocol, ports = data.draw(uppers(4))
    options = [IPOption(b"\x01" * 4)] * data.draw(st.integers(0, 9))
    offset = data.draw(st.sampled_from([0, 0, 1, 185, 8191]))
    flags = data.draw(st.sampled_from(["", "DF", "MF"]))
    packet = bytes(IP(src=source, dst=destination, proto=protocol, options=options, flags=flags, frag=offset) / upper)
    selector = exactly(source, destination, protocol, OPAQUE if offset else ports)
    padding = b"\0" * data.draw(st.integers(0, 40))
    assert dropped(plane, packet + padding, selector) == reason_for(protocol, ports, offset)


EXTENSIONS = {
    0: lambda: IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
    43: lambda: IPv6ExtHdrRouting(addresses=["2001:db8::9"]),
    60: lambda: IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
}


@given(data=st.data())
def test_ipv6_flows_are_read_behind_extension_headers_and_in_fragments(plane, data):
    source, destination = data.draw(ADDRESS[6]), data.draw(ADDRESS[6])
    upper, protocol, ports = data.draw(uppers(6))
    kinds = ([0] if data.draw(st.booleans()) else []) + data.draw(st.lists(st.sampled_from([43, 60]), max_size=4))
    headers = [(kind, EXTENSIONS[kind]()) for kind in kinds]
    if (offset := data.draw(st.sampled_from([None, 0, 1, 8191]))) is not None:
        headers.append((44, IPv6ExtHdrFragment(offset=offset, m=1)))
    numbers = [number for number, _ in headers] + [protocol]
    packet = IPv6(src=source, dst=destination, nh=numbers[0], tc=data.draw(st.integers(0, 255)))
    for (_, header), following in zip(headers, numbers[1:], strict=True):
        header.nh = following
        packet /= header
    selector = exactly(source, destination, protocol, OPAQUE if offset else ports)
    assert dropped(plane, bytes(packet / upper), selector) == reason_for(protocol, ports, offset)


def test_a_later_fragment_of_an_extension_header_shows_no_protocol(plane):
    packet = IPv6(src="2001:db8::1", dst="2001:db8::2", nh=44) / IPv6ExtHdrFragment(offset=9, m=0, nh=60) / Raw(b"\x11" * 16)
    selector = exactly("2001:db8::1", "2001:db8::2", PROTOCOL_OPAQUE, OPAQUE)
    assert dropped(plane, bytes(packet), selector) == "policy_discard"


def everything(version: int) -> SelectorPair:
    whole = AddressRange.of("0.0.0.0/0" if version == 4 else "::/0")
    return SelectorPair(whole, whole, ANY_PROTOCOL, ANY_PORT, ANY_PORT)


@given(data=st.data(), version=st.sampled_from([4, 6]))
def test_a_packet_cut_anywhere_is_refused(plane, data, version):
    upper, protocol, _ = data.draw(uppers(version))
    source, destination = data.draw(ADDRESS[version]), data.draw(ADDRESS[version])
    network = IP(src=source, dst=destination, proto=protocol) if version == 4 else IPv6(src=source, dst=destination, nh=protocol)
    packet = bytes(network / upper)
    cut = data.draw(st.integers(1, len(packet) - 1))
    assert dropped(plane, packet[:cut], everything(version)) == "inner_length"


@given(packet=st.binary(min_size=1, max_size=200), version=st.sampled_from([0x45, 0x4F, 0x60, None]))
def test_any_octets_are_refused_or_are_some_flow(plane, packet, version):
    if version is not None:
        packet = bytes([version]) + packet[1:]
    reason = dropped(plane, packet, everything(4 if packet[0] >> 4 == 4 else 6))
    assert reason in REFUSED | {"policy_discard"}
    assert (reason == "inner_version") == (packet[0] >> 4 not in (4, 6))
