"""A gateway hands itself over: what its successor gets, in which order, and what is left here."""

from __future__ import annotations

import errno
import time
from functools import partial
from typing import Any

import pytest

from ipsec_dp.dataplane import Channel
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.upgrade import giving, messages, sas
from ipsec_dp.gateway.upgrade.giving import BrokenOffError, Giving
from ipsec_dp.gateway.upgrade.stream import HandOverChannel
from tests.doubles.giving import GOES_ON, HOST, KEY
from tests.unit.giving_site import (  # noqa: F401 - fixtures
    IKE,
    PEER,
    forwards,
    goes_on,
    made_engine,
    made_given,
    made_gone,
    made_noting,
    made_offered,
    made_parts,
    made_successor,
    on,
)


def test_the_successor_gets_everything_after_the_last_burst_and_nothing_goes_on_here(given, engine, successor, offered, noting):
    noting.unready = 2
    successor.take(forwards, *IKE, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    assert noting.notes == [
        *("paused", "port 500 unread", "finished", "metrics unserved", "flows at 7000000000"),
        *["exported"] * 3,
        "packets that wait",
        "IKE with 1 octet for a key",
        *["a piece"] * 2,
        "IKE stopped",
    ]
    successor.thread.join()
    sas, state, *pieces = successor.states
    assert (sas.records.records, sas.sas, [each.drops for each in sas.counters]) == (bytearray(KEY), None, [{"replay": 2}])
    assert (sas.flows.seed, sas.flows.records) == (5, b"flows")
    assert [(spi, peer.endpoint) for spi, peer in sas.expected] == [(0x1002, PEER)]
    assert (state.pieces, state.host) == (2, HOST)
    assert [piece.ike for piece in pieces] == [b"IKE", b"IKE too"]
    assert state.traffic["to-b"].packets_in == 3
    assert [(one.tunnel, one.interface, bytes(one.packet.packet)) for one in sas.waiting] == [("to-b", "ipsec0", b"clear")]


def test_the_gap_begins_when_the_last_burst_is_done(given, engine, successor, offered):
    """What is left to do then takes its time too, and nobody forwards."""
    begun: list[int] = []
    engine.ike.finish = lambda: begun.append(time.monotonic_ns())
    successor.take(forwards, goes_on)
    given.hand_over(engine, successor, offered)
    assert 0 < successor.states[0].stopped <= begun[0]


@pytest.fixture
def told(engine, noting):
    """What the data plane has to tell, ten at a time; each is noted when it is handled."""
    waiting: list[Any] = []

    def events(channel):
        found = waiting[:10] if channel is Channel.TRUSTED else []
        del waiting[: len(found)]
        return found

    engine.sad.events = events
    engine.events.handle = noting.notes.append
    return waiting


def test_what_waits_is_handled_while_packets_pass_and_the_rest_when_none_does(given, engine, successor, offered, noting, told):
    """Thousands of peers ask whether we live at once where thousands of tunnels came up at once."""
    told += [f"message {number}" for number in range(25)]
    pause = noting.pause_receiving

    def paused():
        pause()
        told.append("the last message")

    noting.pause_receiving = paused
    successor.take(forwards, *IKE, goes_on)
    given.hand_over(engine, successor, offered)
    first = noting.notes.index("paused")
    assert noting.notes[:first] == [f"message {number}" for number in range(25)]
    assert noting.notes[first + 1 : first + 4] == ["port 500 unread", "the last message", "finished"]


def test_who_asks_on_and_on_holds_no_upgrade_up(given, engine, successor, offered, noting, told, monkeypatch):
    monkeypatch.setattr(giving, "CATCH_UP_S", 0.01)
    told.append("asks")
    engine.events.handle = lambda _event: told.append("asks")
    pause = noting.pause_receiving

    def paused():
        pause()
        engine.events.handle = noting.notes.append  # nothing is read any more

    noting.pause_receiving = paused
    successor.take(forwards, *IKE, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    assert noting.notes[:3] == ["paused", "port 500 unread", "asks"]


def test_a_program_that_lays_records_out_otherwise_gets_sas_one_by_one(given, engine, successor, offered, noting):
    successor.take(forwards, *IKE, goes_on)
    assert given.hand_over(engine, successor, offered._replace(layout=bytes(32))) == GOES_ON
    successor.thread.join()
    (sa,) = successor.states[0].sas.sas
    assert (sa.sa.sequence, sa.sa.window, sa.sa.words) == (2**32 + 5, 128, b"\x0f" * 24)
    assert (sa.sa.keymat, successor.states[0].records) == (bytearray(KEY), None)
    assert not any(noting.carried.sas[0].sa.keymat)


@pytest.mark.parametrize("what", ["counters", "flows", "kept"])
@pytest.mark.parametrize("error", [DataPlaneError(errno.EBUSY, "no"), KeyError("a fault")], ids=["refused", "faulty"])
def test_sas_go_along_without_what_cannot_be_had_beside_them(given, engine, successor, offered, noting, what, error, monkeypatch):
    def fails(*_arguments):
        raise error

    monkeypatch.setattr(noting, f"export_{what}", fails)
    successor.take(forwards, *IKE, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    successor.thread.join()
    sas = successor.states[0]
    assert sas.records.records == KEY
    found = {"counters": len(sas.counters), "flows": len(sas.flows.records), "kept": len(sas.waiting)}
    assert found == {"counters": 1, "flows": 5, "kept": 1} | {what: 0}


def test_no_key_is_left_where_a_message_cannot_be_made(given, engine, successor, offered, noting, monkeypatch):
    bodies: list[bytearray] = []

    class Encoder:
        @staticmethod
        def encode_into(_message, body):
            bodies.append(body)
            body += KEY
            raise OverflowError("an integer that is too large")

    monkeypatch.setattr(messages, "ENCODER", Encoder)
    with pytest.raises(BrokenOffError):
        given.hand_over(engine, successor, offered)
    assert len(bodies) == 1
    assert not any((*bodies[0], *noting.records.records, *noting.kept[0].packet))


def test_no_key_is_left_where_they_cannot_be_put_together(given, engine, successor, offered, noting, monkeypatch):
    def fails(**_fields):
        raise MemoryError

    monkeypatch.setattr(sas, "GivenSas", fails)
    with pytest.raises(BrokenOffError):
        given.hand_over(engine, successor, offered)
    assert not any(noting.records.records)


def test_no_key_is_left_here(given, engine, successor, offered, noting):
    successor.take(forwards, *IKE, goes_on)
    given.hand_over(engine, successor, offered)
    assert not any((*noting.records.records, *noting.kept[0].packet))
    assert not any(map(any, noting.pieces))


def test_the_successor_has_time_for_all_that_may_lie_unread(given, engine, successor, offered, noting, monkeypatch):
    """With little of a processor it takes the first piece long after the last was sent."""
    waits, sends, wait, send = [], [], Giving.wait, HandOverChannel.send

    def waited(self, there, seconds, reading):
        waits.append(seconds)
        wait(self, there, seconds, reading)

    def sent(self, *arguments, seconds, waiting):
        sends.append(seconds)
        send(self, *arguments, seconds=seconds, waiting=waiting)

    noting.pieces = [bytearray(b"IKE") for _ in range(25)]
    successor.take(forwards, *[on] * 25, goes_on)
    monkeypatch.setattr(Giving, "wait", waited)
    monkeypatch.setattr(successor.channel, "send", partial(sent, successor.channel))
    given.hand_over(engine, successor, offered)
    patience = [giving.GOES_ON_S + number * giving.PIECE_S for number in range(27)]
    assert waits == [patience[0], patience[-1]]
    assert sends == [giving.SEND_S + seconds for seconds in patience]


def test_the_manager_hears_who_goes_on_before_anything_is_given_away(given, engine, successor, offered, noting):
    """This process may die at any time from then on. Nothing that it says itself is heard any more."""
    given.alive = lambda: noting.notes.append("alive")
    given.hands_over = lambda process: noting.notes.append(f"the service is {process}")
    successor.take(forwards, *IKE, goes_on)
    given.hand_over(engine, successor, offered)
    named = noting.notes.index("the service is 4712")
    assert named < noting.notes.index("exported")
    assert "alive" in noting.notes[:named]
    assert "alive" not in noting.notes[named:]
