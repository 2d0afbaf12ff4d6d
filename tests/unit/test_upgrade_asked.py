"""Who may have a gateway upgraded, and when; what becomes of it and of the successor."""

from __future__ import annotations

import asyncio
import errno
import signal
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from ipsec_dp.errors import ControlError, DataPlaneError
from ipsec_dp.gateway.upgrade import executable, giving
from ipsec_dp.gateway.upgrade.launch import SuccessorProcess
from ipsec_dp.gateway.upgrade.reading import Reading
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from tests.doubles.giving import GivenHost
from tests.unit.giving_site import (  # noqa: F401 - fixtures
    IKE,
    asked,
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


@pytest.fixture(name="started")
def made_started(given, noting, successor, offered, monkeypatch):
    """The successor, started and ready; what `given` asks of it is noted."""
    successor.pid = 4711
    for what in ("kill", "end", "abandon", "leave"):
        setattr(successor, what, lambda what=what: noting.notes.append(what))

    async def ready(_successor):
        return offered

    noting.changing = asyncio.Lock()
    monkeypatch.setattr(given, "offer", ready)
    monkeypatch.setattr(executable, "command_for", lambda _path: ("ipsec-dp",))
    monkeypatch.setattr(executable, "ask", lambda _command: SimpleNamespace(version="9"))
    monkeypatch.setattr(SuccessorProcess, "start", lambda _command, _keep: successor)
    return successor


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


def test_nobody_changes_the_host_of_a_process_that_goes_on(given, gone, noting, started):
    started.take(forwards, goes_on)
    assert asked(given).process == 4711
    assert (gone.left_to, gone.lost) == ([4711], [])
    assert noting.changing.locked(), "who waited for it goes on with nothing"


@pytest.mark.parametrize(("path", "order"), [(None, ["start", "ask"]), (Path("/opt/other"), ["ask", "start"])])
def test_this_program_gets_ready_while_it_is_asked_and_another_one_is_asked_first(given, noting, started, monkeypatch, path, order):
    done = []

    def ask(_command):
        done.append("ask")
        return SimpleNamespace(version="9")

    def start(_command, _keep):
        done.append("start")
        return started

    monkeypatch.setattr(executable, "ask", ask)
    monkeypatch.setattr(SuccessorProcess, "start", start)
    started.take(forwards, goes_on)
    assert asked(given, path).version == "9"
    assert done == order


def test_a_successor_that_says_what_nobody_understands_is_offered_nothing_and_ends(given, gone, noting, started, monkeypatch):
    def another(_command):
        raise HandOverError("it understands model 9")

    async def offered(_successor):
        raise AssertionError("it was told something")

    monkeypatch.setattr(executable, "ask", another)
    monkeypatch.setattr(given, "offer", offered)
    with pytest.raises(ControlError, match="model 9"):
        asked(given)
    assert (noting.notes[0], gone.lost, noting.changing.locked()) == ("end", [], False)


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


@pytest.mark.parametrize(("changes", "starts"), [(1, 2), (2, 3), (3, 3)])
def test_a_gateway_that_changes_meanwhile_is_tried_again_with_another_successor(
    given, gone, noting, started, monkeypatch, caplog, changes, starts
):
    """As one does whose sockets come and go; nobody would ask for it again."""
    caplog.set_level("INFO", "ipsec_dp.gateway.upgrade")
    begun: list[str] = []
    inherited = noting.inherited

    def other(places):
        return inherited(places) if len(begun) > changes else msgspec.structs.replace(inherited(places), claim=99)

    def start(_command, _keep):
        begun.append("start")
        return started

    monkeypatch.setattr(noting, "inherited", other)
    monkeypatch.setattr(SuccessorProcess, "start", start)
    started.take(forwards, goes_on)
    if changes < starts:
        assert asked(given).process == 4711
    else:
        with pytest.raises(ControlError, match="goes on as before: interfaces or sockets of the gateway changed meanwhile"):
            asked(given)
    again = [record.event for record in caplog.records if record.event == "upgrade_again"]
    assert (len(begun), len(again), gone.lost) == (starts, starts - 1, [])
    assert noting.notes.count("end") == changes, "each that was not needed"
    assert noting.changing.locked() == (changes < starts)


@pytest.mark.parametrize("error", [RuntimeError("a fault"), subprocess.TimeoutExpired("wait", 5.0), DataPlaneError(5, "no")])
def test_a_gateway_that_gave_its_sas_away_ends_whatever_comes_then(given, gone, noting, started, error):
    started.take(HandOverChannel.close)

    def fails():
        raise error

    started.abandon = fails
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


def test_the_successor_has_as_long_as_its_sas_take(given, engine, gone, started, monkeypatch):
    monkeypatch.setattr(giving, "GOES_ON_S", 0.0)
    monkeypatch.setattr(giving, "GOES_ON_EACH_S", 0.05)
    monkeypatch.setattr(giving, "ALIVE_S", 0.01)
    engine.sad.children, told, looks = range(1000), threading.Event(), []

    def looked(_reading):
        looks.append(1)
        if len(looks) == 4:
            told.set()

    def waits(there):
        assert told.wait(60.0)
        forwards(there)

    monkeypatch.setattr(Reading, "look", looked)
    started.take(waits, *IKE, goes_on)
    assert asked(given).process == 4711
    assert len(looks) >= 4


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
