"""When a tunnel is called, and whom: what `start`, `liveness.action` and several remotes mean."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.ike.actions import Cause, Event, Kind, Origin
from ipsec_dp.keying.initiation import BACKOFF_MAX_S, SOON_S, Intent

NOW = 1000.0


def intent(start: str = "start", action: str = "restart", remotes: tuple[str, ...] = ("192.0.2.2",), chance: float = 0.0) -> Intent:
    tunnel = SimpleNamespace(
        start=start, remotes=remotes, ike=SimpleNamespace(liveness=SimpleNamespace(action=action, retries=5, interval_s=10))
    )
    return Intent(cast("Any", tunnel), lambda: chance)


def event(kind: Kind, cause: Cause | None = None) -> Event:
    return Event(kind, "t", bytes(8), bytes(8), "", "why", cause=cause, origin=Origin.OURS)


def up(one: Intent, now: float = NOW) -> Intent:
    """It was called and came up."""
    one.asked(now)
    assert one.attempt(now) is not None
    one.event(event(Kind.IKE_UP), now)
    one.event(event(Kind.CHILD_UP), now)
    return one


# ---- start


@pytest.mark.parametrize(("start", "calls"), [("start", True), ("on-demand", False), ("respond", False)])
def test_at_the_start_only_a_tunnel_that_wants_it_calls(start, calls):
    one = intent(start)
    one.start(NOW)
    assert (one.attempt(NOW) is not None) is calls


def test_nobody_calls_a_peer_that_may_be_anywhere():
    one = intent("start", remotes=())
    one.start(NOW)
    one.asked(NOW)
    assert one.attempt(NOW) is None
    assert one.text == "waiting for the peer to call"


def test_who_waits_for_the_peer_is_told_what_to_do_where_it_waits_too():
    assert "waiting for the peer to call; should it wait too, `ipsec-dp initiate`" in intent("respond").text


@pytest.mark.parametrize(("start", "calls"), [("start", True), ("on-demand", True), ("respond", False)])
def test_traffic_calls_unless_only_the_peer_may(start, calls):
    one = intent(start)
    assert one.traffic(NOW) is calls
    assert (one.attempt(NOW) is not None) is calls


def test_traffic_while_it_is_called_already_changes_nothing():
    one = intent("on-demand")
    one.traffic(NOW)
    one.attempt(NOW)
    assert not one.traffic(NOW + 1)
    assert one.attempt(NOW + 1) is None


# ---- failures


def test_it_is_repeated_for_ever_with_pauses_that_double_up_to_a_minute():
    one = intent("start")
    one.start(NOW)
    now, pauses = NOW, []
    for _ in range(9):
        assert one.attempt(now) is not None
        one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), now)
        assert one.next_attempt is not None
        pauses.append(one.next_attempt - now)
        now = one.next_attempt
    assert pauses == [1, 2, 4, 8, 16, 32, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]


def test_chance_shortens_a_pause_by_a_quarter_at_the_most():
    one = intent("start", chance=1.0)
    one.start(NOW)
    one.attempt(NOW)
    one.failed("no", NOW)
    assert one.next_attempt == NOW + 0.75


def test_success_forgets_the_failures():
    one = intent("start")
    one.start(NOW)
    for _ in range(4):
        one.attempt(NOW + 1000)
        one.failed("no", NOW)
    up(one)
    one.event(event(Kind.IKE_DOWN, Cause.PEER), NOW)
    one.attempt(NOW + 10)
    one.failed("no", NOW + 10)
    assert one.next_attempt == NOW + 11


def test_each_failure_goes_on_to_the_next_remote():
    one = intent("start", remotes=("192.0.2.2", "192.0.2.3", "gw.example"))
    one.start(NOW)
    called = []
    for turn in range(4):
        called.append(one.attempt(NOW + 100 * turn))
        one.failed("no", NOW + 100 * turn)
    assert called == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_on_demand_a_failure_is_a_failure_and_traffic_calls_again():
    one = intent("on-demand")
    one.traffic(NOW)
    one.attempt(NOW)
    one.event(event(Kind.IKE_FAILED, Cause.AUTHENTICATION), NOW)
    assert (one.state, one.next_attempt, one.last_error) == ("failed", None, "why")
    assert one.text == "the last attempt failed; waiting for traffic"
    assert one.traffic(NOW + 1)


def test_traffic_does_not_shorten_the_pauses_after_failures():
    one = intent("on-demand")
    for now, pause in ((NOW, 1), (NOW + 1, 2), (NOW + 3, 4)):
        assert one.traffic(now)
        one.attempt(now)
        one.event(event(Kind.IKE_FAILED, Cause.AUTHENTICATION), now)
        assert not one.traffic(now + pause - 0.1)
        assert one.attempt(now + pause - 0.1) is None
        assert one.pending


def test_an_ike_sa_without_a_child_sa_is_a_failure_too_and_keeps_its_reason():
    one = intent("start")
    one.start(NOW)
    now = NOW
    for pause in (1, 2, 4):
        assert one.attempt(now) is not None
        one.event(event(Kind.IKE_UP), now)
        one.event(Event(Kind.CHILD_FAILED, "t", bytes(8), bytes(8), "", "no proposal in common", origin=Origin.OURS), now)
        one.event(event(Kind.IKE_DOWN, Cause.SELECTORS), now)
        assert (one.state, one.next_attempt, one.last_error) == ("failed", now + pause, "no proposal in common")
        now += pause


@pytest.mark.parametrize("start", ["on-demand", "respond"])
def test_a_side_that_waits_keeps_the_reason_too(start):
    one = intent(start)
    one.event(event(Kind.IKE_UP), NOW)
    one.event(Event(Kind.CHILD_FAILED, "t", bytes(8), bytes(8), "", "no proxy ID fits", origin=Origin.OURS), NOW)
    one.event(event(Kind.IKE_DOWN, Cause.PEER), NOW)
    assert (one.state, one.last_error) == ("failed", "no proxy ID fits")


# ---- last_error


def child_failed(spi: bytes, text: str = "no proxy ID fits") -> Event:
    return Event(Kind.CHILD_FAILED, "t", spi, bytes(8), "", text, origin=Origin.OURS)


def read(one):
    return one.last_error


def test_what_was_wrong_is_no_longer_told_once_the_tunnel_is_up():
    one = intent("start")
    one.start(NOW)
    one.attempt(NOW)
    one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), NOW)
    assert read(one) == "why"
    assert one.up_at < NOW
    one.event(event(Kind.IKE_UP), NOW + 1)
    assert read(one) == "why"  # an IKE SA alone carries nothing
    one.event(event(Kind.CHILD_UP), NOW + 2)
    assert (read(one), one.up_at) == (None, NOW + 2)


def test_what_nobody_has_proven_is_read_only_while_nothing_better_is_known():
    """It may be forged: neither the state nor the next attempt follow from it, nor what is told of a tunnel that is up."""
    one = intent("start")
    one.start(NOW)
    one.attempt(NOW)
    before = (one.state, one.next_attempt, one.pending)
    one.claimed(Event(Kind.IKE_FAILED, "t", bytes(8), bytes(8), "IKE_SA_INIT", "no proposal in common", origin=Origin.CLAIMED))
    assert (one.state, one.next_attempt, one.pending) == before
    assert read(one) == "no proposal in common"
    one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), NOW)
    assert read(one) == "why"
    one = up(intent("start"))
    one.claimed(Event(Kind.IKE_FAILED, "t", bytes(8), bytes(8), "IKE_AUTH", "shared keys differ", origin=Origin.CLAIMED))
    assert read(one) is None
    one.event(event(Kind.IKE_DOWN, Cause.LOCAL), NOW)
    assert read(one) is None, "nor later, of a tunnel that was up then"


def test_a_proof_that_a_reload_withdrew_is_read_until_the_tunnel_is_up_again():
    """The tunnel begins anew by itself: neither its state nor the next attempt follow from it."""
    one = intent("start")
    one.start(NOW)
    before = (one.state, one.next_attempt)
    one.event(event(Kind.WARNING, Cause.PROPOSAL), NOW)
    assert read(one) is None
    one.event(event(Kind.WARNING, Cause.AUTHENTICATION), NOW)
    assert (one.state, one.next_attempt) == before
    assert read(one) == "why"
    assert read(up(one)) is None


def test_a_proxy_id_that_the_peer_refused_is_told_as_long_as_this_ike_sa_is_up():
    one = up(intent("start"))
    one.event(child_failed(bytes(8)), NOW)
    one.event(event(Kind.CHILD_UP), NOW)  # that of the next proxy ID
    one.event(event(Kind.CHILD_REKEYED), NOW)
    assert one.last_error == "no proxy ID fits"
    one.event(event(Kind.IKE_DOWN, Cause.PEER), NOW)
    one.event(event(Kind.CHILD_UP), NOW + 9)
    assert one.last_error is None


def test_a_rekey_says_nothing_about_what_failed_before():
    one = up(intent("start"))
    one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), NOW)  # a second IKE SA
    one.event(event(Kind.CHILD_REKEYED), NOW)
    assert one.last_error == "why"


def test_what_was_refused_is_no_longer_told_once_nothing_lacks():
    one = up(intent("start"))
    one.event(child_failed(bytes(8)), NOW)
    assert (one.last_error, one.refusal) == ("no proxy ID fits", "no proxy ID fits")
    one.event(event(Kind.WHOLE), NOW + 9)
    assert (one.last_error, one.refusal) == (None, None)


# ---- the end of an SA


@pytest.mark.parametrize(
    ("start", "action", "cause", "state", "again"),
    [
        ("start", "restart", Cause.PEER, "failed", True),
        ("start", "restart", Cause.LOCAL, "down", False),
        ("start", "restart", Cause.IDLE, "waiting", False),
        ("start", "restart", Cause.REPLACED, "failed", True),
        ("on-demand", "restart", Cause.REPLACED, "waiting", False),
        ("start", "restart", Cause.CLONED, "failed", True),
        ("on-demand", "restart", Cause.CLONED, "waiting", False),
        ("on-demand", "restart", Cause.PEER, "waiting", False),
        ("on-demand", "restart", Cause.LOCAL, "waiting", False),
        ("respond", "restart", Cause.PEER, "waiting", False),
        # a dead peer: what the liveness action says, whatever start is
        ("start", "restart", Cause.LIVENESS, "failed", True),
        ("respond", "restart", Cause.LIVENESS, "failed", True),
        ("start", "trap", Cause.LIVENESS, "waiting", False),
        ("on-demand", "trap", Cause.TIMEOUT, "waiting", False),
        ("start", "clear", Cause.LIVENESS, "down", False),
        ("on-demand", "clear", Cause.LIVENESS, "down", False),
    ],
)
def test_what_follows_the_end_of_an_ike_sa(start, action, cause, state, again):
    one = up(intent(start, action))
    one.event(event(Kind.IKE_DOWN, cause), NOW)
    assert one.state == state
    assert (one.attempt(NOW + 2) is not None) is again


@pytest.mark.parametrize("cause", [Cause.PEER, Cause.REPLACED, Cause.LIFETIME])
def test_the_end_of_one_of_two_ike_sas_calls_nobody(cause):
    """Both sides began at once: a third one would take the place of the one that stays."""
    one = up(intent("start"))
    one.event(event(Kind.IKE_DOWN, cause), NOW, others=True)
    assert (one.state, one.next_attempt, one.last_error) == ("up", None, None)


def test_a_cleared_tunnel_ignores_traffic_until_it_is_asked_for():
    one = up(intent("on-demand", "clear"))
    one.event(event(Kind.IKE_DOWN, Cause.LIVENESS), NOW)
    assert not one.traffic(NOW + 100)
    assert "initiate" in one.text
    one.asked(NOW + 200)
    assert one.attempt(NOW + 200) is not None


def test_a_failed_second_sa_does_not_bring_a_tunnel_down():
    one = up(intent())
    one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), NOW, others=True)
    assert (one.state, one.next_attempt) == ("up", None)
    one.event(event(Kind.IKE_DOWN, Cause.LIVENESS), NOW, others=True)
    assert (one.state, one.next_attempt) == ("up", None)
    one.event(event(Kind.IKE_DOWN, Cause.LIVENESS), NOW)
    assert one.due(NOW + 1)


def test_the_last_attempt_that_fails_is_repeated_whatever_was_up_before():
    """One of two IKE SAs was replaced by the other, and that one came to nothing: `start` is for ever."""
    one = up(intent())
    one.event(event(Kind.IKE_DOWN, Cause.REPLACED), NOW, others=True)
    one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), NOW)
    assert one.due(NOW + 1)


def test_what_another_tunnels_ike_sa_ended_is_called_again():
    """INITIAL_CONTACT says that there is no other IKE SA between the same identities."""
    one = up(intent())
    one.event(event(Kind.IKE_DOWN, Cause.REPLACED), NOW)
    assert one.due(NOW + 1)


def test_an_ike_sa_that_ends_soon_again_and_again_is_made_after_pauses_that_double():
    one, now, pauses = intent(chance=0.0), NOW, []
    for _ in range(9):
        up(one, now)
        now += 1
        one.event(event(Kind.IKE_DOWN, Cause.PEER), now)
        assert one.next_attempt is not None
        pauses.append(one.next_attempt - now)
        now = one.next_attempt
    assert pauses == [0, 2, 4, 8, 16, 32, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]
    up(one, now)
    one.event(event(Kind.IKE_DOWN, Cause.PEER), now + SOON_S)
    assert one.next_attempt == now + SOON_S, "it was up for long"


# ---- a way to the peer


@pytest.mark.parametrize(("start", "due"), [("start", True), ("on-demand", False), ("respond", False)])
def test_a_way_to_the_peer_ends_the_pause_of_one_that_wants_it(start, due):
    one = intent(start)
    for number in range(5):
        one.failed("no route", NOW + number)
    one.reachable(NOW + 5)
    assert one.due(NOW + 5) is due
    assert one.traffic(NOW + 5) is (start != "respond")


def test_a_way_to_the_peer_starts_nothing_that_was_not_wanted():
    one = intent("start")
    one.event(event(Kind.IKE_DOWN, Cause.LOCAL), NOW)
    one.reachable(NOW)
    assert not one.due(NOW)


# ---- what is counted


def tally(one):
    counted = one.tally
    return counted.attempts, counted.failures, counted.flaps


def test_attempts_failures_and_flaps_are_counted_from_the_start():
    one = up(intent())
    assert tally(one) == (1, 0, 0)
    one.event(event(Kind.IKE_DOWN, Cause.LIVENESS), NOW + 100)
    assert tally(one) == (1, 0, 1)
    assert one.attempt(NOW + 200) is not None
    one.event(event(Kind.IKE_FAILED, Cause.TIMEOUT), NOW + 300)
    assert tally(one) == (2, 1, 1)
    one.event(event(Kind.IKE_DOWN, Cause.PEER), NOW + 300)
    assert tally(one) == (2, 1, 1), "it was not up"
    up(one, NOW + 400)
    assert tally(one) == (3, 1, 1)


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, 1),
        ({"origin": Origin.OURS}, 0),
        *(({name: value}, 0) for name, value in {"renewal": "peer", "again": True}.items()),
    ],
)
def test_a_child_sa_of_the_peers_call_that_is_refused_here_is_a_failure(changes, counted):
    one = intent("respond")
    one.event(replace(event(Kind.CHILD_FAILED, Cause.SELECTORS), **({"origin": Origin.PEER} | changes)), NOW)
    assert tally(one) == (0, counted, 0)


@pytest.mark.parametrize("cause", [Cause.LOCAL, Cause.IDLE, Cause.REPLACED])
def test_an_end_that_was_intended_is_no_flap(cause):
    one = up(intent())
    one.event(event(Kind.IKE_DOWN, cause), NOW + 100)
    assert tally(one) == (1, 0, 0)


def test_an_ike_sa_beside_another_is_no_flap():
    one = up(intent())
    one.event(event(Kind.IKE_DOWN, Cause.PEER), NOW + 100, others=True)
    assert tally(one) == (1, 0, 0)
