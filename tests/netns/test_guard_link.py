"""What the guard lets pass of the host's own link traffic where everything is protected: what a link needs, and no more.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Only gwA has a guard; without it everything leaves (the positive control).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from functools import partial
from ipaddress import ip_address

import pytest

from ipsec_dp.host import MARK
from ipsec_dp.rig import capture, netns
from tests.netns import harness
from tests.netns.test_guard import EVERYTHING, GUARD

REPORT_S = 1.2  # within which a host reports a group that it joined (RFC 3376 §8.11)


@pytest.fixture
def closed(sites):
    """Puts the guard on gwA."""
    return lambda: harness.run(sites.gw_a, lambda: GUARD.apply(EVERYTHING, []))


# Of a host that asks for names and finds its neighbours: destination and UDP ports (from, to).
CHATTER = (
    ("224.0.0.251", 5353, 5353),  # mDNS
    ("224.0.0.252", 5355, 5355),  # LLMNR
    ("ff02::fb", 5353, 5353),
    ("ff02::1:3", 5355, 5355),
    ("169.254.7.7", 5000, 7000),
    ("255.255.255.255", 137, 137),  # NetBIOS
)
LINK_NEEDS = (
    ("255.255.255.255", 68, 67),  # DHCP
    ("ff02::1:2", 546, 547),  # DHCPv6
)


def chatter(namespace, rows):
    """Sends a datagram of each by wan; those that the guard refuses are lost."""

    def send():
        for to, source, port in rows:
            family = socket.AF_INET6 if ":" in to else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sender, contextlib.suppress(PermissionError):
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wan")
                sender.bind(("", source))
                sender.sendto(b"who is there?", (to, port))

    namespace.call(send)


def destinations(path):
    """Addresses that datagrams with that question went to."""
    found = set()
    for _, packet in capture.read(path):
        if b"who is there?" in packet:
            found.add(str(ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])))
    return found


def test_names_asked_for_on_the_link_do_not_leave_and_dhcp_does(sites, closed, tmp_path):
    sites.gw_a.ip("route add 169.254.0.0/16 dev wan")
    sites.gw_a.ip("neigh add 169.254.7.7 lladdr 02:00:00:00:00:01 dev wan")
    harness.crossed(sites.gw_a, "wan", tmp_path / "without", lambda: chatter(sites.gw_a, CHATTER + LINK_NEEDS))
    assert destinations(tmp_path / "without") == {to for to, *_ in CHATTER + LINK_NEEDS}
    closed()
    harness.crossed(sites.gw_a, "wan", tmp_path / "with", lambda: chatter(sites.gw_a, CHATTER + LINK_NEEDS))
    assert destinations(tmp_path / "with") == {to for to, *_ in LINK_NEEDS}


def test_groups_are_joined_and_neighbours_found_all_the_same(sites, closed, tmp_path):
    """IGMP and MLD reports of groups that a program joins; solicitations and answers, both ways."""
    closed()

    def sockets():
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)

    def join(four, six):
        wan = socket.if_nametoindex("wan")
        request = socket.inet_aton("239.1.2.3") + bytes(4) + struct.pack("=i", wan)
        four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        group = socket.inet_pton(socket.AF_INET6, "ff05::1234") + struct.pack("=I", wan)
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)

    four, six = sites.gw_a.call(sockets)
    with four, six, capture.Capture(sites.gw_b, "wan", tmp_path / "joined") as recording:
        sites.gw_a.call(partial(join, four, six))
        harness.settle(sites.gw_b, "wan", REPORT_S)
        recording.stop()
    assert joined(tmp_path / "joined") == {2, 58}
    sites.gw_a.ip("neigh flush dev wan")
    sites.gw_b.ip("neigh flush dev wan")
    for near, far in zip(netns.GW_A_OUTER, netns.GW_B_OUTER, strict=True):
        harness.send_udp(sites.gw_a, (far, 4500), b"sealed, as it were", source_port=4500, mark=MARK)
        assert not harness.pings(sites.gw_b, near), "not answered, but it asks who that is"
        for namespace, address in ((sites.gw_a, far), (sites.gw_b, near)):
            assert "lladdr" in namespace.run("ip", "neigh", "show", "to", address, "dev", "wan").stdout


def joined(path):
    """Protocols of packets to a group, or to all routers that listen for reports: IGMP, and ICMPv6 behind a router alert."""
    found = set()
    for _, packet in capture.read(path):
        if packet[0] >> 4 == 4 and packet[9] == 2:
            found.add(2)
        elif packet[0] >> 4 == 6 and packet[6] == 0 and packet[40] == 58 and packet[48] in (131, 143):
            found.add(58)
    return found
