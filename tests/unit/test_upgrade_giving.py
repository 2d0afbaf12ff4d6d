"""A gateway hands itself over: what fails before the point of no return changes nothing, what fails after it ends this process.

The data plane, the SAD and IKE are doubles that note what is asked of them; the channel to the successor is a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ipsec_dp.databases.sad_shape import ToldSad
from ipsec_dp.dataplane import Channel, Endpoint
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import ControlError, DataPlaneError
from ipsec_dp.gateway.ike_counts import CarriedCounts
from ipsec_dp.gateway.upgrade import executable, giving, messages, sas
from ipsec_dp.gateway.upgrade.giving import BrokenOffError, Giving, Offered, Places, shape_of
from ipsec_dp.gateway.upgrade.launch import SuccessorProcess
from ipsec_dp.gateway.upgrade.messages import (
    Forwards,
    GivenIke,
    GivenSas,
    GivenState,
    HelperOffer,
    MessageKind,
    Ready,
    SasPrepared,
    UpgradeRefused,
    body_of,
    message_of,
)
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from ipsec_dp.services.path_mtu import CarriedMtus
from tests.doubles.giving import GOES_ON, HOST, KEY, GivenHost, Gone, Noting

GIVEN: tuple[type[Any], ...] = (GivenSas, GivenState, GivenIke, UpgradeRefused)
PEER = Endpoint(ip_address("192.0.2.2"), 4500)


@pytest.fixture
def noting():
    return Noting()


@pytest.fixture
def engine(noting):
    return SimpleNamespace(
        plane=noting,
        sad=SimpleNamespace(
            export_all=noting.export_all,
            export=noting.export_each,
            events=noting.events,
            records={},
            children={},
            expected={0x1002: PEER},
        ),
        events=SimpleNamespace(handle=None),
        ike=SimpleNamespace(finish=noting.finish, export=noting.export_ike, export_findings=dict, stop=noting.stop),
        children=SimpleNamespace(spis=lambda: ()),
        core=None,
        reloader=SimpleNamespace(incomplete=False, tell_files=lambda: noting.notes.append("which files are needed")),
    )


@pytest.fixture
def parts(engine, noting):
    return SimpleNamespace(
        engine=engine,
        host=noting,
        spd=SimpleNamespace(tunnel_numbers={"to-b": 0}, tunnel_names={0: "to-b"}, interface_names={1: "ipsec0"}),
        mtus=SimpleNamespace(export=lambda: CarriedMtus([], {"to-b": 1400})),
        monitors=SimpleNamespace(export=dict),
        counts=SimpleNamespace(export=lambda: CarriedCounts([], [], {})),
        metrics=noting.metrics,
        config=SimpleNamespace(name="a", workers=1),
        confirmation=SimpleNamespace(waits_for=None),
        clock=SimpleNamespace(now=lambda: 7.0),
    )


@pytest.fixture
def gone():
    return Gone()


@pytest.fixture
def given(parts, gone, noting, monkeypatch):
    made = Giving(
        parts,
        control=lambda: (Path("a.sock"), -1),
        stopping=lambda: gone.stopping,
        gone=gone.left_to.append,
        lost=gone.lost.append,
    )
    noting.links = SimpleNamespace(read_ike=lambda: None)
    monkeypatch.setattr(giving, "LinuxHost", Noting)
    return made


@pytest.fixture
def offered(noting):
    places = Places()
    return Offered(noting.inherited(places), places.inodes, noting, record_layout())


@pytest.fixture
def successor():
    """Our end; `says` is what the other end does when it has the state."""
    ours, theirs = HandOverChannel.pair()
    there = HandOverChannel(theirs)
    made = SimpleNamespace(channel=ours, has_ended=False, there=there, states=[])

    def take(*answers):
        def run():
            with contextlib.suppress(HandOverError):
                for answer in answers:
                    got = there.receive(seconds=5.0)
                    made.states.append(message_of(got.kind, got.body, *GIVEN))
                    answer(there)

        made.thread = threading.Thread(target=run)
        made.thread.start()

    made.take = take
    yield made
    if hasattr(made, "thread"):
        made.thread.join()
    ours.close()
    there.close()


def forwards(there):
    there.send(MessageKind.FORWARDS, body_of(Forwards(1)), seconds=5.0)


def on(_there):
    """It takes what came, and says nothing."""


IKE = (on, on)  # STATE, and the first of two pieces


def goes_on(there):
    there.send(MessageKind.GOES_ON, body_of(GOES_ON), seconds=5.0)


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


def busy(noting, _successor, _gone):
    noting.idle = False


def changed(noting, _successor, _gone):
    tun = msgspec.structs.replace(HOST.tuns[0], index=8)
    noting.host = msgspec.structs.replace(HOST, tuns=[tun])


def dead(_noting, successor, _gone):
    successor.has_ended = True


def closed(_noting, successor, _gone):
    successor.there.close()


@pytest.mark.parametrize("how", [busy, changed, dead, closed], ids=lambda how: how.__name__)
def test_what_fails_before_the_export_has_this_process_read_on(given, engine, successor, offered, noting, gone, how, monkeypatch):
    monkeypatch.setattr(giving, "IDLE_S", 0.01)
    how(noting, successor, gone)
    with pytest.raises(HandOverError):
        given.hand_over(engine, successor, offered)
    assert noting.notes[-2:] == ["resumed", "port 500 read"]
    assert "exported" not in noting.notes
    assert "IKE stopped" not in noting.notes


def test_a_gateway_that_stops_hands_nothing_over(given, engine, successor, offered, noting, gone):
    gone.stopping = True
    with pytest.raises(HandOverError, match="stopping"):
        given.hand_over(engine, successor, offered)
    assert noting.notes == []


def silent(_there):
    pass


def refusing(there):
    there.send(MessageKind.REFUSED, body_of(UpgradeRefused("no")), seconds=5.0)


@pytest.mark.parametrize("before", [(), (forwards,), (forwards, *IKE)], ids=["with the SAs", "with IKE", "with a piece of it"])
@pytest.mark.parametrize("answer", [silent, refusing, HandOverChannel.close], ids=["hangs", "refuses", "ends"])
def test_after_the_export_this_process_never_goes_on(given, engine, successor, offered, noting, answer, before, monkeypatch):
    for patience in ("GOES_ON_S", "PIECE_S"):
        monkeypatch.setattr(giving, patience, 0.1)
    successor.take(*before, answer)
    with pytest.raises(BrokenOffError, match="stays closed"):
        given.hand_over(engine, successor, offered)
    assert "resumed" not in noting.notes
    assert noting.notes[-1] == "IKE stopped"


def test_a_successor_that_has_gone_on_without_this_process_is_left_alone(given, engine, successor, offered):
    """This process stood still, and comes late with IKE."""

    def alone(there):
        forwards(there)
        goes_on(there)
        there.close()

    exported = engine.ike.export

    def late(*arguments):
        successor.thread.join()
        return exported(*arguments)

    engine.ike.export = late
    successor.take(alone)
    assert given.hand_over(engine, successor, offered) == GOES_ON


def test_a_successor_that_forwards_goes_on_where_ike_could_not_be_exported(given, engine, successor, offered, noting):
    """It hears why, and negotiates anew."""
    noting.refusal = RuntimeError("a fault")
    successor.take(forwards, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    successor.thread.join()
    assert successor.states[1] == UpgradeRefused("a fault")
    assert "resumed" not in noting.notes


def test_a_piece_that_cannot_be_exported_leaves_those_before_it(given, engine, successor, offered, noting):
    noting.pieces[1] = RuntimeError("a fault")
    successor.take(forwards, *IKE, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    successor.thread.join()
    assert (successor.states[2].ike, successor.states[3]) == (bytearray(b"IKE"), UpgradeRefused("a fault"))


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


def test_a_successor_that_hangs_with_the_pieces_unread_is_waited_for_no_longer_than_for_one(
    given, engine, successor, offered, noting, monkeypatch
):
    """However many there are."""
    monkeypatch.setattr(giving, "ALIVE_S", 0.01)
    monkeypatch.setattr(giving, "PIECE_S", 0.3)
    noting.pieces = [bytearray(b"IKE") for _ in range(1000)]
    successor.take(forwards, on)
    with pytest.raises(BrokenOffError, match="the other process reads nothing any more; what is protected stays closed"):
        given.hand_over(engine, successor, offered)
    assert successor.states[1].pieces == 1000


def test_the_manager_hears_of_the_gateway_before_and_after_each_piece_is_taken(given, engine, successor, offered, noting):
    beats: list[str] = []
    given.alive = lambda: beats.append(noting.notes[-1] if noting.notes else "")
    successor.take(forwards, *IKE, goes_on)
    given.hand_over(engine, successor, offered)
    assert beats.count("a piece") == 4


# ---- who may, and when


def asked(given):
    return asyncio.run(given.upgrade(None))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _, parts, __: setattr(parts, "engine", None), "starting or stopping"),
        (lambda _, __, gone: setattr(gone, "stopping", True), "starting or stopping"),
        (lambda given, *_: setattr(given, "hindrance", "it is the first of its container"), "first of its container"),
        (lambda _, parts, __: setattr(parts, "host", GivenHost()), "no sockets or interfaces"),
        (lambda _, parts, __: setattr(parts.confirmation, "waits_for", "this start"), "not confirmed yet"),
        (lambda _, parts, __: setattr(parts.engine.reloader, "incomplete", True), "reload first"),
    ],
)
def test_a_gateway_that_cannot_be_handed_over_says_why_and_goes_on(given, parts, gone, noting, change, says, caplog):
    change(given, parts, gone)
    with pytest.raises(ControlError, match=f"not upgraded.*: .*{says}"):
        asked(given)
    assert [(record.event, says in record.message) for record in caplog.records] == [("upgrade_refused", True)]
    assert (noting.notes, gone.lost, gone.left_to) == ([], [], [])


@pytest.fixture
def started(given, noting, successor, offered, monkeypatch):
    """The successor, started and ready; what `given` asks of it is noted."""
    successor.pid = 4711
    for what in ("kill", "end", "leave"):
        setattr(successor, what, lambda what=what: noting.notes.append(what))

    async def ready(_successor):
        return offered

    noting.changing = asyncio.Lock()
    monkeypatch.setattr(given, "offer", ready)
    monkeypatch.setattr(executable, "command_for", lambda _path: ("ipsec-dp",))
    monkeypatch.setattr(executable, "ask", lambda _command: SimpleNamespace(version="9"))
    monkeypatch.setattr(SuccessorProcess, "start", lambda _command, _keep: successor)
    return successor


def test_nobody_changes_the_host_of_a_process_that_goes_on(given, gone, noting, started):
    started.take(forwards, goes_on)
    assert asked(given).process == 4711
    assert (gone.left_to, gone.lost) == ([4711], [])
    assert noting.changing.locked(), "who waited for it goes on with nothing"


def test_a_signal_is_passed_on_to_a_successor_that_is_alone_and_to_no_other(given, started):
    heard: list[signal.Signals] = []
    started.pass_on = heard.append
    started.take(forwards, goes_on)
    assert not given.pass_on(signal.SIGHUP)
    asked(given)
    assert given.pass_on(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_a_refused_upgrade_lets_others_change_the_host(given, gone, noting, started):
    started.has_ended = True
    with pytest.raises(ControlError, match="goes on as before"):
        asked(given)
    assert not noting.changing.locked()
    assert gone.lost == []
    assert noting.notes[-2:] == ["end", "which files are needed"], "those of the configuration that was refused are not"


@pytest.mark.parametrize("error", [RuntimeError("a fault"), subprocess.TimeoutExpired("wait", 5.0), DataPlaneError(5, "no")])
def test_a_gateway_that_gave_its_sas_away_ends_whatever_comes_then(given, gone, noting, started, error):
    started.take(HandOverChannel.close)

    def fails():
        raise error

    started.end = fails
    with pytest.raises(type(error)):
        asked(given)
    assert len(gone.lost) == 1
    assert noting.changing.locked()


def test_ike_that_does_not_stop_loses_no_successor(given, engine, gone, started):
    def fails():
        raise OSError(errno.EIO, "no")

    engine.ike.stop = fails
    started.take(forwards, goes_on)
    assert asked(given).process == 4711
    assert gone.lost == []


def test_the_manager_hears_of_a_process_that_waits_as_long_as_its_sas_take(given, engine, gone, started, monkeypatch):
    monkeypatch.setattr(giving, "GOES_ON_S", 0.0)
    monkeypatch.setattr(giving, "GOES_ON_EACH_S", 0.05)
    monkeypatch.setattr(giving, "ALIVE_S", 0.01)
    engine.sad.children, told, beats = range(1000), threading.Event(), []

    def alive():
        beats.append(1)
        if len(beats) == 4:
            told.set()

    def waits(there):
        assert told.wait(60.0)
        forwards(there)

    given.alive = alive
    started.take(waits, *IKE, goes_on)
    assert asked(given).process == 4711
    assert len(beats) >= 4


def test_both_are_read_again_whatever_becomes_of_one_and_it_is_said(given, gone, noting, started, monkeypatch):
    def fails():
        noting.notes.append("not resumed")
        raise DataPlaneError(errno.EIO, "reading devices again")

    monkeypatch.setattr(noting, "resume_receiving", fails)
    started.has_ended = True
    with pytest.raises(ControlError, match="not upgraded: the successor has ended; and what is not read again is packets: "):
        asked(given)
    assert noting.notes[-4:-1] == ["not resumed", "port 500 read", "end"]
    assert gone.lost == []


def test_a_stop_ends_the_successor_first(given, gone, noting, started, monkeypatch):
    async def stopped():
        killed, offering = asyncio.Event(), asyncio.Event()

        async def waits(_successor):
            offering.set()
            await killed.wait()
            raise HandOverError("the other process has gone")

        started.kill = killed.set
        monkeypatch.setattr(given, "offer", waits)
        upgrade = asyncio.create_task(given.upgrade(None))
        await offering.wait()
        gone.stopping = True
        await given.give_up()
        assert noting.notes == ["end", "which files are needed"]
        with pytest.raises(ControlError, match=r"^not upgraded: the other process has gone"):
            await upgrade

    asyncio.run(stopped())


def test_what_may_not_change_between_offer_and_state_is_compared():
    assert shape_of(HOST) == shape_of(msgspec.structs.replace(HOST, mtus={}, withdrawn=["ipsec0"]))
    other = msgspec.structs.replace(HOST.links[0], local="192.0.2.9")
    assert shape_of(HOST) != shape_of(msgspec.structs.replace(HOST, links=[other]))


def test_the_channel_of_the_root_helper_is_offered_and_not_kept(given, successor, monkeypatch):
    made, offers = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), []
    given.privileges = SimpleNamespace(helper=SimpleNamespace(stay=lambda: made, process=4712), program="0.1.0")

    def made_offer(_host, _places, helper):
        offers.append(helper)
        return UpgradeRefused("in the place of an offer")

    monkeypatch.setattr(given, "made_offer", made_offer)

    def ready():
        successor.there.receive(seconds=30.0).close()
        successor.there.send(MessageKind.READY, body_of(Ready("9")), seconds=30.0)
        successor.there.receive(seconds=30.0)
        successor.there.send(MessageKind.PREPARED, body_of(SasPrepared(0)), seconds=30.0)

    successor.thread = threading.Thread(target=ready)
    successor.thread.start()
    asyncio.run(given.offer(successor))
    assert offers == [HelperOffer(made, 4712, "0.1.0")]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made)


def test_what_is_told_of_sas_is_made_while_the_successor_gets_ready(given, successor, monkeypatch):
    """Which takes it seconds."""
    made, in_time = threading.Event(), []

    class Told(ToldSad):
        def news(self):
            made.set()
            return super().news()

    def ready():
        successor.there.receive(seconds=30.0).close()
        in_time.append(made.wait(10.0))
        successor.there.send(MessageKind.READY, body_of(Ready("9")), seconds=30.0)
        successor.there.receive(seconds=30.0)
        successor.there.send(MessageKind.PREPARED, body_of(SasPrepared(0)), seconds=30.0)

    monkeypatch.setattr(giving, "ToldSad", Told)
    monkeypatch.setattr(given, "made_offer", lambda *_: UpgradeRefused("in the place of an offer"))
    successor.thread = threading.Thread(target=ready)
    successor.thread.start()
    asyncio.run(given.offer(successor))
    assert in_time == [True]
