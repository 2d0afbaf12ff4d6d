"""The rig's wire and clock: exactly the faults that were asked for, in the same order each time."""

from __future__ import annotations

import pytest

from ipsec_dp.rig.clock import Clock
from ipsec_dp.rig.wire import Fate, Wire


@pytest.fixture
def wire():
    return Wire()


def send(wire, count, sender="a", receiver="b"):
    return [wire.send(sender, receiver, str(n)) for n in range(1, count + 1)]


def arrived(wire, receiver="b"):
    return [delivery.data for delivery in iter(lambda: wire.take(receiver), None)]


def test_datagrams_arrive_in_order_each_way_by_itself(wire):
    send(wire, 3)
    wire.send("b", "a", "back")
    assert (wire.waiting("a"), wire.waiting("b"), wire.sent("a", "b")) == (1, 3, 3)
    assert arrived(wire) == ["1", "2", "3"]
    delivery = wire.take("a")
    assert (delivery.sender, delivery.receiver, delivery.number, delivery.data) == ("b", "a", 1, "back")
    assert wire.take("a") is None


def test_drop_loses_the_numbered_ones_and_the_log_says_so(wire):
    wire.drop("a", "b", 1, 3)
    assert send(wire, 4) == [Fate.DROPPED, Fate.CARRIED, Fate.DROPPED, Fate.CARRIED]
    assert arrived(wire) == ["2", "4"]
    assert [(delivery.number, fate) for delivery, fate in wire.log] == list(enumerate([Fate.DROPPED, Fate.CARRIED] * 2, 1))


def test_faults_are_of_one_direction(wire):
    wire.drop("b", "a", 1)
    send(wire, 1)
    assert arrived(wire) == ["1"]


def test_double_delivers_twice(wire):
    wire.double("a", "b", 2)
    send(wire, 3)
    assert arrived(wire) == ["1", "2", "2", "3"]


@pytest.mark.parametrize(("by", "order"), [(1, ["2", "1", "3", "4"]), (2, ["2", "3", "1", "4"])])
def test_delay_reorders_by_as_many_as_asked(wire, by, order):
    wire.delay("a", "b", 1, by)
    send(wire, 4)
    assert arrived(wire) == order


def test_hold_keeps_back_until_release(wire):
    wire.hold("a", "b", 2)
    send(wire, 3)
    assert arrived(wire) == ["1", "3"]
    wire.release("a", "b", 2)
    assert arrived(wire) == ["2"]
    with pytest.raises(KeyError):
        wire.release("a", "b", 2)


def test_alter_delivers_what_the_function_makes(wire):
    wire.alter("a", "b", 2, lambda text: text * 3)
    send(wire, 3)
    assert arrived(wire) == ["1", "222", "3"]


def test_cut_loses_everything_until_mend(wire):
    wire.cut("a", "b")
    send(wire, 2)
    wire.mend("a", "b")
    wire.send("a", "b", "later")
    assert arrived(wire) == ["later"]


@pytest.mark.parametrize("name", ["drop", "double", "hold", "delay"])
def test_numbers_begin_at_one(wire, name):
    with pytest.raises(ValueError, match="numbered from 1"):
        getattr(wire, name)("a", "b", 0)


def test_a_delay_needs_another_datagram(wire):
    with pytest.raises(ValueError, match="at least one"):
        wire.delay("a", "b", 1, 0)


def test_the_clock_moves_only_when_told_and_only_forward():
    clock = Clock(5)
    assert (clock.ns, clock(), clock.seconds) == (5_000_000_000, 5.0, 5.0)
    assert clock.advance(0.25) == 5_250_000_000
    with pytest.raises(ValueError, match="go back"):
        clock.advance(-1)
