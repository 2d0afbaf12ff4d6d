"""What is read out of ICMP messages about our own packets, against messages that scapy makes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from ipsec_dp.host.too_big import TooBig, read_v4, read_v6

ESP = bytes.fromhex("000010020000002a") + bytes(1440)
V4, V6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8:2::1", "2001:db8:2::2")


def v4(mtu=1400, payload=ESP, *, udp=True, cut=None, code=4, kind=3, sport=4500, **ip):
    ours = IP(src=V4[0], dst=V4[1], proto=50, **ip) / Raw(payload)
    if udp:
        ours = IP(src=V4[0], dst=V4[1], **ip) / UDP(sport=sport, dport=4501) / Raw(payload)
    return bytes(IP(src="203.0.113.1", dst=V4[0]) / ICMP(type=kind, code=code, nexthopmtu=mtu) / Raw(bytes(ours)[:cut]))


def v6(mtu=1400, payload=ESP, *, udp=True, cut=None):
    ours = IPv6(src=V6[0], dst=V6[1], nh=50) / Raw(payload)
    if udp:
        ours = IPv6(src=V6[0], dst=V6[1]) / UDP(sport=4500, dport=4501) / Raw(payload)
    return bytes(ICMPv6PacketTooBig(mtu=mtu) / Raw(bytes(ours)[:cut]))


@pytest.mark.parametrize("udp", [True, False])
def test_the_quoted_spi_and_sequence_number_are_read(udp):
    more = 8 if udp else 0
    assert read_v4(v4(udp=udp)) == TooBig(1400, ip_address(V4[0]), ip_address(V4[1]), udp, 0x1002, 42, 20 + more + len(ESP))
    assert read_v6(v6(udp=udp)) == TooBig(1400, ip_address(V6[0]), ip_address(V6[1]), udp, 0x1002, 42, 40 + more + len(ESP))


def test_eight_octets_behind_the_last_header_are_enough():
    assert read_v4(v4(udp=False, cut=28)) is not None
    assert read_v4(v4(udp=False, cut=27)) is None
    assert read_v4(v4(cut=36)) is not None
    assert read_v4(v4(cut=35)) is None
    assert read_v6(v6(cut=56)) is not None
    assert read_v6(v6(cut=55)) is None


@pytest.mark.parametrize(
    "message",
    [
        v4(code=3),
        v4(kind=11),
        v4(sport=500),
        v4(frag=3),
        v4(mtu=1476),
        v4(mtu=65535),
        v4(payload=bytes(8) + ESP),
        v4()[:20],
        b"",
    ],
    ids=["unreachable", "time-exceeded", "not-our-port", "later-fragment", "takes-it", "absurd", "ike", "cut", "empty"],
)
def test_other_messages_say_nothing(message):
    assert read_v4(message) is None


def test_what_a_hop_takes_it_does_not_complain_about():
    assert read_v6(v6(mtu=1496)) is None
    assert read_v6(v6(mtu=1495)) is not None


@given(cut=st.integers(0, 1500), noise=st.binary(max_size=100), at=st.integers(0, 100))
def test_any_octets_are_read_or_are_not(cut, noise, at):
    for read, whole in ((read_v4, v4()), (read_v6, v6())):
        damaged = whole[:at] + noise + whole[at + len(noise) :]
        for message in (whole[:cut], damaged, noise):
            said = read(message)
            assert said is None or (0 <= said.mtu < said.octets and 0 < said.spi < 2**32)
