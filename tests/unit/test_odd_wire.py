"""The odd peer's sockets: which port is which, how fast, from where, and what is said when nobody is there."""

from __future__ import annotations

import socket

import pytest

from ipsec_dp.rig.odd_wire import UdpPayload, UdpWire, UnreachableError

PATIENCE_S = 5.0


@pytest.fixture
def gateway():
    """Two bound sockets, IKE's and ESP's."""
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for each in made:
        each.bind(("127.0.0.1", 0))
        each.settimeout(PATIENCE_S)
    yield made
    for each in made:
        each.close()


def ports(gateway):
    first, second = (each.getsockname()[1] for each in gateway)
    return first, second


@pytest.mark.parametrize("natt", [False, True])
def test_each_port_has_a_socket(gateway, natt):
    with UdpWire("127.0.0.1", ports(gateway)) as wire:
        wire.send(b"there", natt=natt)
        octets, sender = gateway[natt].recvfrom(100)
        assert octets == b"there"
        gateway[natt].sendto(b"back", sender)
        assert wire.receive(PATIENCE_S) == UdpPayload(b"back", natt)
        assert wire.receive(0) is None


def test_somebody_else_is_not_heard(gateway):
    with UdpWire("127.0.0.1", ports(gateway)) as wire:
        wire.send(b"there", natt=False)
        _, sender = gateway[0].recvfrom(100)
        gateway[1].sendto(b"forged", sender)
        gateway[0].sendto(b"right", sender)
        assert wire.receive(PATIENCE_S) == UdpPayload(b"right", False)


def test_it_moves_to_other_ports(gateway):
    with UdpWire("127.0.0.1", ports(gateway)) as wire:
        wire.send(b"", natt=True)
        _, before = gateway[1].recvfrom(100)
        wire.move()
        wire.send(b"", natt=True)
        _, after = gateway[1].recvfrom(100)
    assert before != after


def test_what_proves_nothing_goes_no_faster_than_it_may(gateway):
    with UdpWire("127.0.0.1", ports(gateway), rate=50.0) as wire:
        began = wire.now()
        for _ in range(6):
            wire.pace()
        assert wire.now() - began >= 5 / 50.0


def test_the_source_port_is_the_one_given(gateway):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    with UdpWire("127.0.0.1", ports(gateway), (free, 0)) as wire:
        wire.send(b"", natt=False)
        assert gateway[0].recvfrom(100)[1] == ("127.0.0.1", free)
        assert wire.path.local.port == free


def test_a_port_that_is_taken_is_said(gateway):
    with pytest.raises(UnreachableError, match="is the port free"):
        UdpWire("127.0.0.1", ports(gateway), (ports(gateway)[0], 0)).close()


def test_nobody_there_is_said():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    with UdpWire("127.0.0.1", (free, free)) as wire:
        wire.send(b"", natt=False)
        with pytest.raises(UnreachableError, match=f"127.0.0.1 port {free}: Connection refused; is the gateway up"):
            wire.receive(PATIENCE_S)
