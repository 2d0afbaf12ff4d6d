"""Packets that wait for an SA: kept, decided again in order, bounded in octets and time."""

from __future__ import annotations

import pytest

from ipsec_dp.databases.sad_events import Acquire
from ipsec_dp.dataplane import Action, Direction, PolicyRule
from ipsec_dp.rig.plane import pair, selectors_of
from tests.unit.sites import to_b

HELD = 4096
WAIT_S = 10.0


@pytest.fixture
def site():
    """Two gateways whose first packets wait: a's CHILD has no outbound SA."""
    with pair(hold_octets=HELD) as made:
        made.a.sad.switch(made.children["a"], None)
        yield made


def open_again(site):
    """The CHILD gets its outbound SA, the only one a has."""
    site.a.sad.switch(site.children["a"], outbound_of(site))


def outbound_of(site):
    (handle,) = (handle for handle, record in site.a.sad.records.items() if record.direction is Direction.OUTBOUND)
    return handle


def test_packets_that_wait_are_delivered_in_order_once_there_is_an_sa(site):
    packets = [to_b(bytes([n]) * 10) for n in range(5)]
    assert site.transfer(packets) == []
    assert site.a.drops == {}
    open_again(site)
    assert site.transfer([to_b(b"new")]) == [*packets, to_b(b"new")]
    assert site.a.drops == {}


def test_what_does_not_fit_is_dropped_and_what_waits_stays(site):
    packets = [to_b(bytes([n]) * 972) for n in range(6)]
    assert len(packets[0]) == 1000
    assert site.transfer(packets) == []
    assert site.a.drops == {"no_sa": 2}
    open_again(site)
    assert site.transfer([]) == packets[:4]


def test_a_packet_that_waited_too_long_is_dropped(site):
    site.transfer([to_b(b"old")])
    site.clock.advance(WAIT_S)
    open_again(site)
    assert site.transfer([]) == []
    assert site.a.drops == {"no_sa": 1}


def test_an_old_packet_makes_room_for_a_new_one(site):
    site.transfer([to_b(bytes(3972))])
    site.clock.advance(WAIT_S)
    site.transfer([to_b(bytes(3000))])
    open_again(site)
    assert site.transfer([]) == [to_b(bytes(3000))]


def test_waiting_does_not_count_from_anew_when_the_sa_is_another_tunnels(site):
    site.transfer([to_b(b"old")])
    for _ in range(3):
        site.clock.advance(WAIT_S / 2 - 1)
        child = site.a.sad.add_child(0, selectors_of("b"))  # holds other packets than the one that waits
        site.a.sad.switch(child, outbound_of(site))
        assert site.transfer([]) == []
    assert site.a.drops == {"no_sa": 1}


def test_a_packet_that_waits_asks_again_when_another_child_gets_an_sa(site):
    """Each proxy ID is asked for by its own packet, at once: a tunnel's sticky flag is only for one question at a time."""
    packet = to_b(b"x")
    site.transfer([packet])
    assert site.a.events() == [Acquire(0, 0, packet)]
    assert site.transfer([]) == site.a.events() == []
    child = site.a.sad.add_child(0, selectors_of("b"))  # holds other packets than the one that waits
    site.a.sad.switch(child, outbound_of(site))
    site.transfer([])
    assert site.a.events() == [Acquire(0, 0, packet)]


def test_a_packet_that_waited_is_decided_anew(site):
    site.transfer([to_b(b"x")])
    site.a.set_policy([PolicyRule(pair_, Action.DISCARD, 0) for pair_ in selectors_of("a")])
    open_again(site)
    assert site.transfer([]) == []
    assert site.a.drops == {"policy_discard": 1}


def test_one_tunnel_does_not_take_the_others_room(site):
    first, second = selectors_of("a")
    site.a.set_policy([PolicyRule(first, Action.PROTECT, 0, 0), PolicyRule(second, Action.PROTECT, 0, 1)])
    site.transfer([to_b(bytes(3972)), to_b(bytes(3972)), to_b(bytes(100), version=6)])
    assert site.a.drops == {"no_sa": 1}


def test_nothing_waits_by_default():
    with pair() as site:
        site.a.sad.switch(site.children["a"], None)
        site.transfer([to_b()])
        assert site.a.drops == {"no_sa": 1}
