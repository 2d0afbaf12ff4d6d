"""What is read out of ICMP messages about IKE messages that did not get there: against those of scapy, and of this kernel."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Raw

from ipsec_dp.host.unreachable import Unreachable, read_v4, read_v6
from ipsec_dp.network.reports import KernelReports
from tests.doubles.clock import FakeClock

IKE = bytes(range(1, 9)) + bytes(20)
V4, V6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8:2::1", "2001:db8:2::2")


def v4(payload=IKE, *, code=3, kind=3, sport=500, cut=None, protocol=None, **ip):
    ours = IP(src=V4[0], dst=V4[1], **ip) / UDP(sport=sport, dport=500) / Raw(payload)
    if protocol is not None:
        ours = IP(src=V4[0], dst=V4[1], proto=protocol) / Raw(payload)
    return bytes(IP(src="203.0.113.1", dst=V4[0]) / ICMP(type=kind, code=code) / Raw(bytes(ours)[:cut]))


def v6(payload=IKE, *, code=4, sport=500, cut=None):
    ours = IPv6(src=V6[0], dst=V6[1]) / UDP(sport=sport, dport=500) / Raw(payload)
    return bytes(ICMPv6DestUnreach(code=code) / Raw(bytes(ours)[:cut]))


CLOSED = "port unreachable: no IKE runs on it; start it there"


def test_the_quoted_message_and_its_ends_are_read():
    assert read_v4(v4()) == Unreachable(CLOSED, ip_address(V4[0]), 500, ip_address(V4[1]), 500, IKE)
    assert read_v6(v6()) == Unreachable(CLOSED, ip_address(V6[0]), 500, ip_address(V6[1]), 500, IKE)


def test_on_port_4500_the_marker_is_taken_off_and_esp_is_another_s_concern():
    found = read_v4(v4(bytes(4) + IKE, sport=4500))
    assert found is not None
    assert (found.local_port, found.message) == (4500, IKE)
    assert read_v4(v4(IKE, sport=4500)) is None


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (v4(code=0), "no route"),
        (v4(code=1), "nothing answers"),
        (v4(code=13), "firewall"),
        (v4(code=10), "firewall"),
        (v4(code=2), "no UDP"),
    ],
)
def test_each_code_has_its_words(message, words):
    found = read_v4(message)
    assert found is not None
    assert words in found.reason


def test_of_ipv6_too():
    words = [found.reason for code in (0, 1, 3, 4, 5) if (found := read_v6(v6(code=code))) is not None]
    assert ["route" in words[0], "firewall" in words[1], "nothing answers" in words[2], words[3] == CLOSED] == [True] * 4


@pytest.mark.parametrize(
    "message",
    [v4(code=4), v4(kind=11), v4(sport=53), v4(frag=3), v4(protocol=50), v4(cut=27), v4()[:20], b"", v4(code=15)],
)
def test_what_says_nothing_of_an_ike_message_is_passed_over(message):
    assert read_v4(message) is None


@given(st.binary(max_size=120))
def test_no_octets_raise(octets):
    for read in (read_v4, read_v6):
        read(octets)
        read(v4()[: len(octets)] + octets)


def test_this_kernel_says_that_a_port_is_closed():
    """As for a peer on which no IKE runs."""
    heard: list[Unreachable] = []

    async def life() -> None:
        came = asyncio.Event()

        def take(found: Unreachable) -> None:
            heard.append(found)
            came.set()

        listener = KernelReports(FakeClock()).unreachable(take)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.bind(("127.0.0.1", 500))
            ours.sendto(IKE, ("127.0.0.9", 500))
            await asyncio.wait_for(came.wait(), 10)
        listener.close()

    asyncio.run(life())
    assert heard == [Unreachable(CLOSED, ip_address("127.0.0.1"), 500, ip_address("127.0.0.9"), 500, IKE)]
