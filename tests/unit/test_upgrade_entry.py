"""How the process begins that `upgrade` started, and what is said when it goes on."""

from __future__ import annotations

import os
import signal

import pytest

from ipsec_dp.gateway.upgrade import entry
from ipsec_dp.gateway.upgrade.answer import answered
from ipsec_dp.gateway.upgrade.messages import GoesOn, LeftBehind
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError


@pytest.fixture(autouse=True)
def stays(monkeypatch):
    """The process of the tests does not end with its parent, and hears of its terminal as before."""
    for name in ("protect_process", "end_with_parent"):
        monkeypatch.setattr(entry, name, lambda: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_who_inherits_no_channel_takes_nothing_over():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    try:
        with pytest.raises(HandOverError, match="there is no gateway here to take over"):
            entry.run(descriptor)
    finally:
        os.close(descriptor)


def test_nobody_looks_into_it_before_it_hears_anything_and_it_ends_with_who_started_it(monkeypatch):
    done = []

    def receive(*_, **__):
        done.append("receive")
        raise HandOverError("nothing came")

    for name in ("protect_process", "end_with_parent"):
        monkeypatch.setattr(entry, name, lambda name=name: done.append(name))
    monkeypatch.setattr(HandOverChannel, "receive", receive)
    _, theirs = HandOverChannel.pair()
    assert entry.run(theirs.detach()) == HandOverError.exit_status
    assert done == ["protect_process", "end_with_parent", "receive"]


def test_a_reload_that_is_asked_for_before_it_is_a_gateway_ends_it_not_and_waits(monkeypatch):
    """The action of SIGHUP is to end a process, until it has an event loop that takes it."""
    blocked = []
    monkeypatch.setattr(entry, "protect_process", lambda: blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    ours, theirs = HandOverChannel.pair()
    ours.close()
    assert entry.run(theirs.detach()) == HandOverError.exit_status
    assert blocked == [{signal.SIGHUP}]


def test_who_is_offered_nothing_ends():
    ours, theirs = HandOverChannel.pair()
    ours.close()
    assert entry.run(theirs.detach()) == HandOverError.exit_status


def test_what_was_carried_and_what_not_is_answered_and_logged(caplog):
    caplog.set_level("INFO")
    went = GoesOn(ike_sas=2, child_sas=3, left_out=[LeftBehind("to-b", "no key")], gap_ms=4.56789)
    answer = answered("a", "9.9", 4711, went, 1.23456)
    assert (answer.version, answer.process, answer.ike_sas, answer.child_sas) == ("9.9", 4711, 2, 3)
    assert (answer.gap_ms, answer.took_s) == (4.568, 1.235)
    assert [(each.tunnel, each.why) for each in answer.left_out] == [("to-b", "no key")]
    assert answer.changes is None
    assert "configuration file" not in caplog.text
    assert 'tunnel "to-b" is negotiated anew: no key' in caplog.text
    assert "process 4711 goes on, version 9.9; carried: IKE SAs 2, CHILD_SAs 3; nobody forwarded for 4.6 ms" in caplog.text


def test_a_file_that_is_taken_over_next_is_said(caplog):
    caplog.set_level("INFO")
    went = GoesOn(ike_sas=1, child_sas=1, left_out=[], gap_ms=1.0, changes="tunnels changed: to-b")
    assert answered("a", "9.9", 4711, went, 1.0).changes == "tunnels changed: to-b"
    assert "says something else than what was in force (tunnels changed: to-b), and is taken over next" in caplog.text
