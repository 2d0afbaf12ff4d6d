"""Port 500 as the data plane reads it for the control plane: through a gate of its own, so much at once."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import DataPlane, Endpoint
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.wire import NotifyType
from tests.unit.ike_gate_peer import COOKIES, RATES, Peer, request, spoiled


@pytest.fixture
def port():
    """A socket that stands for port 500, one that asks, and a data plane."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
        DataPlane(sa_slots=256, tunnels=1, interfaces=1, stranger_rate=1, stranger_burst=4, ike=RATES) as plane,
    ):
        plane.set_cookie_secret(COOKIES.secret)
        ours.bind(("127.0.0.1", 0))
        theirs.bind(("127.0.0.1", 0))
        theirs.connect(ours.getsockname())
        theirs.settimeout(5)
        yield plane, ours, theirs


def read(plane, ours, budget=100, passes=100, now=10**12):
    local = Endpoint(ip_address("127.0.0.1"), ours.getsockname()[1])
    return plane.receive_ike(ours.fileno(), local, now, budget, passes)


def test_port_500_has_a_gate_of_its_own(port):
    plane, ours, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=False)
    for message in (request(), request(), request(), peer.message(0), spoiled(peer.message(1), -1), peer.message(1)):
        theirs.send(message)
    found = read(plane, ours)
    assert found.seen == 6
    assert len(found.messages) == 4
    assert {remote for _, remote in found.messages} == {Endpoint(ip_address("127.0.0.1"), theirs.getsockname()[1])}
    assert parse_message(theirs.recv(2000)).notify(NotifyType.COOKIE) is not None
    counters = plane.counters()
    assert (counters.drops["ike_icv"], counters.cookies_sent) == (1, 1)


def test_of_port_500_only_so_much_is_read_at_once(port):
    plane, ours, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=False)
    for message_id in range(10):
        theirs.send(peer.message(message_id))
    for _ in range(20):
        theirs.send(b"nobody")
    found = [read(plane, ours, passes=7), read(plane, ours, 5), read(plane, ours)]
    assert [(len(each.messages), each.seen) for each in found] == [(7, 7), (5, 5), (RATES.other - 2, 18)]
    assert read(plane, ours) == ([], 0)


def test_an_ike_sa_is_checked_at_the_port_that_its_messages_come_to(port):
    """Its key is used by one thread; at the other port its messages are strangers' and the control plane checks them."""
    plane, ours, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=True)
    for message_id in range(10):
        theirs.send(peer.message(message_id))
    assert len(read(plane, ours).messages) == RATES.other
