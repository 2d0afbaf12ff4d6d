"""`initiate --wait` and `terminate --wait`: what ends the wait, with what, for every way in which a tunnel can go."""

from __future__ import annotations

import json
from types import SimpleNamespace

import msgspec
import pytest

from ipsec_dp.cli import main
from ipsec_dp.cli.waiting import BEGUN_S, INTERVAL_S, Wait
from ipsec_dp.gateway import control
from ipsec_dp.gateway.status import TunnelStatus

OLD = "the peer refuses: AUTHENTICATION_FAILED"
IKE = {"spi_i": "11", "spi_r": "22"}


def status(state, error=None, text="", ike=None, spis=()):
    children = [{"spi_in": spi} for spi in spis]
    row = {"name": "to-b", "state": state, "state_text": text, "last_error": error, "ike": ike, "children": children}
    return msgspec.convert(row, TunnelStatus)


class Site:
    """`later`: its states from the request on, one for each look; the last stays."""

    def __init__(self, before, *later, limit_s=60.0):
        self.now, self._later = 0.0, list(later)
        self.wait = Wait(before, self._look, limit_s=limit_s, now=lambda: self.now, sleep=self._sleep)

    def _look(self):
        return self._later.pop(0) if len(self._later) > 1 else self._later[0]

    def _sleep(self, seconds):
        assert seconds == INTERVAL_S
        self.now += seconds


WAITING, CALLING, UP = status("waiting", text="waiting for traffic"), status("negotiating"), status("up", ike=IKE, spis=("0x1",))


def up(before, *later, **how):
    outcome = Site(before, *later, **how).wait.until_up()
    return outcome.done, outcome.why, round(outcome.waited_s, 1)


def test_it_is_done_when_the_tunnel_is_up():
    assert up(WAITING, CALLING, CALLING, UP) == (True, "", 0.4)
    assert up(UP, status("rekeying")) == (True, "", 0.0)


def test_a_failure_ends_it_with_its_explanation():
    failed = status("failed", OLD, "the last attempt failed, it will be repeated")
    assert up(WAITING, CALLING, failed) == (False, f"failed, the last attempt failed, it will be repeated: {OLD}", 0.2)
    assert up(WAITING, failed)[0] is False, "it may fail before we look"


def test_the_failure_of_the_attempt_before_is_none_of_this_one():
    before = status("failed", OLD)
    assert up(before, before, before, status("negotiating", OLD), UP) == (True, "", 0.6)
    assert up(before, before, status("negotiating", OLD), before) == (False, f"failed: {OLD}", 0.4)


def test_one_that_fails_at_once_for_the_same_reason_again_ends_it_soon():
    done, why, waited = up(status("failed", OLD), status("failed", OLD))
    assert (done, why) == (False, f"failed: {OLD}")
    assert BEGUN_S <= waited < BEGUN_S + 2 * INTERVAL_S


def test_partial_is_waited_for_until_something_of_it_failed():
    partial = status("partial", None, "lacks 10.2.0.0/24")
    assert up(WAITING, CALLING, partial, UP) == (True, "", 0.4)
    refused = status("partial", "10.2.0.0/24: TS_UNACCEPTABLE", "lacks 10.2.0.0/24")
    assert up(WAITING, partial, refused) == (False, "partial, lacks 10.2.0.0/24: 10.2.0.0/24: TS_UNACCEPTABLE", 0.2)


def test_the_time_is_limited_and_what_is_known_then_is_told():
    silent = status("negotiating", "192.0.2.2 has not answered 2 messages")
    assert up(WAITING, silent, limit_s=2.0) == (
        False,
        "not up after 2 s: negotiating: 192.0.2.2 has not answered 2 messages",
        2.2,
    )


def gone(*later, **how):
    outcome = Site(UP, *later, **how).wait.until_gone()
    return outcome.done, outcome.why


def test_terminated_is_when_the_sas_that_were_there_are_gone():
    assert gone(UP, status("waiting", ike=None, spis=("0x1",)), status("down")) == (True, "")
    assert gone(UP, limit_s=1.0) == (False, "still there after 1 s: up")
    assert gone(status("up", ike={"spi_i": "33", "spi_r": "44"}, spis=("0x2",))) == (True, ""), "others have come"


# ---- the command -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gateway(monkeypatch):
    """A gateway whose tunnel goes through `states` when it is asked for."""
    seen = SimpleNamespace(states=[WAITING, UP], verbs=[])

    def request(path, message, **_):
        seen.verbs.append(message["verb"])
        if message["verb"] != "status":
            return {"tunnel": "to-b", "verb": message["verb"]}
        state = seen.states.pop(0) if len(seen.states) > 1 else seen.states[0]
        return {"tunnels": [msgspec.to_builtins(state)]}

    monkeypatch.setattr(control, "request", request)
    return seen


def test_initiate_waits_and_says_so(gateway, capsys):
    assert main(["initiate", "to-b", "--wait", "--control", "x"]) == 0
    assert (capsys.readouterr().out, gateway.verbs) == ("to-b: up\n", ["status", "initiate", "status"])


def test_a_failure_is_exit_status_1(gateway, capsys):
    gateway.states = [WAITING, status("failed", OLD)]
    assert main(["initiate", "to-b", "--wait", "--control", "x"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"to-b: failed: {OLD}\n")


def test_programs_get_json(gateway, capsys):
    gateway.states = [UP, status("down")]
    assert main(["terminate", "to-b", "--wait", "--json", "--control", "x"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "tunnel": "to-b",
        "verb": "terminate",
        "done": True,
        "waited_s": 0.0,
        "state": "down",
        "state_text": "",
        "last_error": None,
    }


def test_a_time_that_is_none_is_usage(gateway, capsys):
    assert main(["initiate", "to-b", "--wait", "--timeout", "soon", "--control", "x"]) == 2
    assert gateway.verbs == []


def test_a_tunnel_that_a_reload_takes_away_meanwhile_ends_it(gateway, monkeypatch, capsys):
    monkeypatch.setattr(control, "request", lambda *_, **__: {"tunnels": []})
    assert main(["initiate", "to-b", "--wait", "--control", "x"]) == 1
    assert capsys.readouterr().err == 'no tunnel "to-b" any more\n'
