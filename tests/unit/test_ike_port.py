"""Port 500 as the data plane reads it for the control plane: by a thread of its own, through a gate of its own."""

from __future__ import annotations

import select
import socket
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import DataPlane, Endpoint
from ipsec_dp.errors import DataPlaneError
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
        plane.attach_ike(Endpoint(ip_address("127.0.0.1"), ours.getsockname()[1]), ours.fileno())
        yield plane, ours, theirs


def read(plane):
    """What passes of all that came."""
    seen = plane.step_ike(10**12)
    return list(iter(plane.read_ike, None)), seen


def test_port_500_has_a_gate_of_its_own(port):
    plane, ours, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=False)
    for message in (request(), request(), request(), peer.message(0), spoiled(peer.message(1), -1), peer.message(1)):
        theirs.send(message)
    found, seen = read(plane)
    assert (len(found), seen) == (4, 6)
    sender = Endpoint(ip_address("127.0.0.1"), theirs.getsockname()[1])
    here = Endpoint(ip_address("127.0.0.1"), ours.getsockname()[1])
    assert {(each.remote, each.local, each.link) for each in found} == {(sender, here, 0)}
    assert found[-1].payload == message
    assert parse_message(theirs.recv(2000)).notify(NotifyType.COOKIE) is not None
    counters = plane.counters()
    assert (counters.drops["ike_icv"], counters.cookies_sent) == (1, 1)


def test_an_ike_sa_is_checked_at_the_port_that_its_messages_come_to(port):
    """Its key is used by one thread; at the other port its messages are strangers' and the control plane checks them."""
    plane, _, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=True)
    for message_id in range(10):
        theirs.send(peer.message(message_id))
    assert len(read(plane)[0]) == RATES.other


def test_what_the_control_plane_does_not_read_in_time_is_lost_and_counted(port):
    plane, _, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=False)
    message_id, seen = 0, 0
    while plane.counters().drops["punt_full"] == 0:
        theirs.send(peer.message(message_id))
        seen += plane.step_ike(10**12)
        message_id += 1
    assert len(list(iter(plane.read_ike, None))) == seen - 1


def test_a_socket_that_is_detached_is_read_no_more_and_its_number_is_given_again(port):
    plane, ours, theirs = port
    plane.detach_ike(0)
    theirs.send(b"nobody")
    assert read(plane) == ([], 0)
    with pytest.raises(DataPlaneError):
        plane.detach_ike(0)
    assert plane.attach_ike(Endpoint(ip_address("127.0.0.1"), 500), ours.fileno()) == 0
    assert read(plane)[1] == 1


def test_its_thread_reads_while_nobody_else_does_anything(port):
    plane, _, theirs = port
    peer = Peer()
    peer.known_to(plane, natt=False)
    plane.start_ike()
    for message_id in range(100):
        theirs.send(peer.message(message_id))
        assert select.select([plane.ike_descriptor()], [], [], 10)[0]
        (found,) = iter(plane.read_ike, None)
        assert parse_message(found.payload).header.message_id == message_id
    plane.stop()
    theirs.send(peer.message(200))
    assert plane.read_ike() is None
