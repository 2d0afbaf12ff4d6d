"""How many attempts may be under way at once, in all and to one peer."""

from ipsec_dp.keying.calls import CALL_FRESH_S, CALLS_A_SECOND, CALLS_AT_ONCE, CALLS_OF_PEER, Calls


def begun(calls, count, peer="b", now=0.0):
    for number in range(count):
        calls.begin(f"{peer}{number}", peer, now)


def room(calls, peer="b"):
    """How many more may begin to one peer."""
    more = 0
    while not calls.busy(peer):
        calls.begin(f"more{more}", peer, 0.0)
        more += 1
    return more


def test_one_peer_has_a_few_and_all_together_have_more():
    calls = Calls()
    begun(calls, CALLS_OF_PEER - 1)
    assert (calls.busy("b"), calls.full) == (False, False)
    begun(calls, CALLS_OF_PEER)
    assert (calls.busy("b"), calls.busy("c"), calls.full) == (True, False, False)
    for peer in "cdefg":
        begun(calls, CALLS_OF_PEER, peer)
    assert calls.full


def test_a_peer_that_is_far_away_has_as_many_as_keep_it_busy():
    """Seconds to the quickest answer, and how many may be under way."""
    for seconds, most in ((0.001, CALLS_OF_PEER), (0.2, 0.2 * CALLS_A_SECOND), (0.9, CALLS_AT_ONCE)):
        calls = Calls()
        begun(calls, 2)
        assert calls.answered("b0", seconds)
        assert room(calls) == most - 1


def test_the_quickest_answer_counts_and_is_forgotten_with_the_last_call():
    calls = Calls()
    begun(calls, 3)
    calls.answered("b0", 0.9)
    calls.answered("b1", 0.01)
    assert room(calls) == CALLS_OF_PEER - 1
    calls = Calls()
    begun(calls, 1)
    calls.answered("b0", 0.9)
    assert room(calls) == CALLS_OF_PEER


def test_what_has_no_answer_for_a_while_does_not_count():
    calls = Calls()
    begun(calls, CALLS_OF_PEER)
    calls.expire(CALL_FRESH_S - 0.1)
    assert calls.busy("b")
    calls.expire(CALL_FRESH_S)
    assert not calls.busy("b")
    assert not calls.answered("b0", CALL_FRESH_S), "nobody waits for it"


def test_what_is_set_aside_has_its_turn_in_order_when_there_is_room():
    calls = Calls()
    begun(calls, CALLS_OF_PEER)
    for tunnel in ("x", "y"):
        calls.set_aside(tunnel, "b")
    assert calls.waiting
    assert list(calls.ready()) == []
    calls.answered("b0", 0.01)
    for tunnel in calls.ready():
        assert tunnel == "x"
        calls.begin(tunnel, "b", 0.1)
    calls.answered("b1", 0.01)
    assert list(calls.ready()) == ["y"]
    assert not calls.waiting
