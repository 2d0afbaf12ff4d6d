"""Faults that a rig makes on purpose, and that they do what they say: each with the control that it was met."""

from __future__ import annotations

import pytest

from ipsec_dp.rig import RigError, impair
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import DAY, sites

HELLO = udp("10.1.0.5", "10.2.0.5", b"hello")


def crossing(a, b, count=1):
    """Of so many packets from a to b those that arrive, by number."""
    for number in range(count):
        a.inject(udp("10.1.0.5", "10.2.0.5", bytes([number])))
        a.clock.advance(0.1)
    a.clock.advance(1)
    return [packet[-1] for packet in b.received()]


def names(gateway):
    """SPIs of the IKE SA and of the CHILD_SA."""
    ike = gateway.tunnel().ike
    return None if ike is None else ike.spi_i, gateway.sas()[0].spi_in


def kinds(gateway):
    return [str(event.kind) for event in gateway.events()]


@pytest.mark.parametrize("response", [False, True])
def test_a_message_that_is_lost_is_sent_again(response):
    with sites() as (a, _):
        fault = impair.drop(a.network.wire, impair.nth(impair.ike("CREATE_CHILD_SA", response=response), 1))
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        assert fault.hits == 1
        assert a.tunnel().retransmissions >= 1


def test_a_message_that_is_doubled_or_late_or_replayed_changes_nothing():
    with sites() as (a, b):
        wire = a.network.wire
        faults = [
            impair.double(wire, impair.nth(impair.ike(sender="a"), 1)),
            impair.delay(wire, impair.nth(impair.ike(sender="b"), 1), 0.7),
            impair.replay(wire, impair.nth(impair.ike(sender="a"), 2), 3.0, times=4),
        ]
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        a.clock.advance(60)
        assert [fault.hits for fault in faults] == [1, 1, 1]
        assert len(a.sas()) == len(b.sas()) == 1


@pytest.mark.parametrize("fault", ["corrupt", "wrong_icv", "truncate"])
def test_a_message_that_is_damaged_is_as_lost(fault):
    with sites() as (a, b):
        first = impair.nth(impair.ike("CREATE_CHILD_SA", response=False), 1)
        wire = a.network.wire
        made = impair.truncate(wire, first, 60) if fault == "truncate" else getattr(impair, fault)(wire, first)
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        assert made.hits == 1
        assert b.status().ike_counters
        assert kinds(b).count("CHILD_SA rekeyed") == 1


def test_packets_are_lost_replayed_and_damaged_one_by_one():
    with sites() as (a, b):
        wire, packets = a.network.wire, impair.esp(sender="a")
        with impair.drop(wire, impair.nth(packets, 2)) as lost:
            assert crossing(a, b, 3) == [0, 2]
        assert lost.hits == 1
        assert crossing(a, b, 2) == [0, 1], "what has ended does nothing any more"
        with impair.replay(wire, packets, 0.2):
            assert crossing(a, b, 2) == [0, 1]
        assert b.counters()["replay"] == 2
        with impair.wrong_icv(wire, packets):
            assert crossing(a, b, 2) == []
        assert b.counters()["icv"] == 2
        with impair.truncate(wire, impair.esp(spi=int(b.sas()[0].spi_in or "", 16)), 20) as cut:
            assert crossing(a, b) == []
        assert cut.hits == 1


def test_a_refusal_reaches_whoever_asked():
    with sites() as (a, b):
        with impair.refuse(b, "NO_ADDITIONAL_SAS") as refused:
            a.rekey()
            a.clock.advance(10)
        assert refused.hits == 1
        assert "NO_ADDITIONAL_SAS" in "".join(map(str, a.events()))
        a.clock.advance(3600)
        assert a.tunnel().state == "up", "and it goes on"
        with pytest.raises(RigError, match="no notify 'NO'"):
            impair.refuse(b, "NO")


@pytest.mark.parametrize("ike", [False, True])
def test_two_that_rekey_at_once_end_with_one(ike):
    with sites() as (a, b):
        before = names(a)
        impair.collide(a, b, ike=ike)
        a.clock.advance(60)
        assert len(a.sas()) == len(b.sas()) == 1
        assert a.sas()[0].spi_in == b.sas()[0].spi_out
        assert names(a)[not ike] != before[not ike]
        crossed = [sent for sent in a.network.log if "CREATE_CHILD_SA request" in str(sent)]
        assert {sent.passing.sender for sent in crossed[-2:]} == {"a", "b"}
        assert crossing(a, b, 3) == [0, 1, 2]


def test_a_side_that_is_frozen_is_found_dead_and_told_so_when_it_thaws():
    with sites(tables=DAY) as (a, b):
        frozen = impair.freeze(b)
        a.inject(HELLO)
        a.clock.advance(60)
        assert a.network.log
        before = len(b.events())
        a.wait("IKE SA down", timeout=3600)
        assert len(b.events()) == before, "nothing happens in it"
        frozen.end()
        a.wait("up", timeout=3600)
        b.wait("up", timeout=3600)


def test_a_short_freeze_loses_nothing():
    with sites() as (a, b):
        with impair.freeze(b):
            a.inject(HELLO)
            a.clock.advance(3)
            assert b.received() == []
        b.wait("packet")
        assert b.received() == [HELLO]


def test_the_high_half_of_an_esn_changes_without_a_loss():
    """The receiver's window is before it: RFC 4303 appendix A2."""
    with sites() as (a, b):
        impair.used_up(a, impair.SEQUENCE_END - 1100)
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        a.clock.advance(30)
        arrived = 0
        for _ in range(12):
            for _ in range(100):
                a.inject(HELLO)
            a.clock.advance(0.1)
            arrived += len(b.received())
        assert arrived == 1200
        assert a.sas()[0].sequence_out == impair.SEQUENCE_END + 100
        assert b.counters().get("icv", 0) == 0


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda wire: impair.delay(wire, impair.everything, -1), "before it was sent"),
        (lambda wire: impair.replay(wire, impair.everything, 1, 0), "comes again"),
        (lambda wire: impair.truncate(wire, impair.everything, -1), "shorter than empty"),
        (lambda _: impair.nth(impair.everything, 0), "counted from 1"),
        (lambda _: impair.ike("CREATE_CHILD"), "no exchange 'CREATE_CHILD'"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(make, wrong):
    with sites(up=False) as (a, _), pytest.raises(RigError, match=wrong):
        make(a.network.wire)
