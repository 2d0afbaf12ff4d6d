"""What the gateway says by itself is in a capture too: COOKIE answers of the data plane, keepalives, ICMP to a packet's sender."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import DataPlane, Endpoint, MemoryDatagram, TunnelSettings
from ipsec_dp.dataplane.tap import Tap, TappedTunnel
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import PlaneRig, pair
from tests.unit.ike_gate_peer import COOKIES, ELSEWHERE, MARKER, PEER, RATES, request
from tests.unit.sites import HOST
from tests.unit.test_tap import INBOUND, INNER, OUTBOUND, OUTER, capture, seen

UDP_PAYLOAD = 28  # octets before it in a captured datagram of IPv4
LOOPBACK = ip_address("127.0.0.1")


def asked(gateway, source=PEER):
    """Requests until one is answered with a cookie; that answer."""
    message = MARKER + request()
    while not (sent := gateway.sent()):
        gateway.arrive(MemoryDatagram(message, gateway.endpoint, source))
        gateway.step()
    return sent[0].data


@pytest.fixture
def gateway():
    with PlaneRig("b", "192.0.2.2", stranger_rate=1, stranger_burst=4, ike=RATES) as made:
        made.plane.set_cookie_secret(COOKIES.secret)
        yield made


def test_a_cookie_from_the_port_of_esp_stands_behind_what_it_answers(gateway):
    tap = capture(gateway)
    answer = asked(gateway)
    *_, came, left = seen(tap)
    assert (came.data[UDP_PAYLOAD:], came.comment, came.direction) == (MARKER + request(), None, INBOUND)
    assert (left.data[UDP_PAYLOAD:], left.comment, left.direction, left.interface) == (answer, None, OUTBOUND, OUTER)
    assert left.data[12:20] == gateway.endpoint.address.packed + PEER.address.packed


def test_of_one_tunnel_only_those_to_its_peer(gateway):
    for peer, count in ((PEER, 1), (ELSEWHERE, 0)):
        tap = capture(gateway, tunnel=TappedTunnel(0, 0, (peer.address,)))
        asked(gateway)
        assert sum(each.direction == OUTBOUND for each in seen(tap)) == count
        tap.close()


def test_a_cookie_from_port_500():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
        DataPlane(sa_slots=256, tunnels=1, interfaces=1, stranger_rate=1, stranger_burst=4, ike=RATES) as plane,
    ):
        plane.set_cookie_secret(COOKIES.secret)
        ours.bind((str(LOOPBACK), 0))
        theirs.bind((str(LOOPBACK), 0))
        theirs.settimeout(5)
        here, there = ours.getsockname(), theirs.getsockname()
        plane.attach_ike(Endpoint(LOOPBACK, here[1]), ours.fileno())
        tap = Tap(plane, inner=False, outer=True)
        for _ in range(RATES.begin + 1):
            theirs.sendto(request(), here)
        plane.step_ike(10**12)
        answer = theirs.recv(2000)
        *came, left = seen(tap)
        assert [each.data[UDP_PAYLOAD:] for each in came] == [request()] * (RATES.begin + 1)
        assert (left.data[UDP_PAYLOAD:], left.comment, left.direction) == (answer, None, OUTBOUND)
        assert left.data[20:24] == here[1].to_bytes(2) + there[1].to_bytes(2)


def test_a_keepalive(gateway):
    tap = capture(gateway)
    gateway.plane.keepalive_sent(gateway.endpoint, PEER)
    (left,) = seen(tap)
    assert (left.data[UDP_PAYLOAD:], left.direction, left.interface) == (b"\xff", OUTBOUND, OUTER)
    assert left.data[20:24] == (4500).to_bytes(2) * 2
    tap.close()
    gateway.plane.keepalive_sent(gateway.endpoint, PEER)  # nobody captures


def test_what_the_sender_of_a_packet_is_told():
    with pair("aes128gcm16") as site:
        site.a.plane.set_tunnel(0, TunnelSettings(mtu=1000))
        tap = capture(site.a)
        site.a.push(udp(HOST[4, "a"], HOST[4, "b"], bytes(1200), df=True))
        site.a.step()
        told, dropped = seen(tap)
        assert (told.data, told.direction, told.interface, told.comment) == (*site.a.pulled(), INBOUND, INNER, None)
        assert dropped.comment.startswith("dropped: mtu: ")
