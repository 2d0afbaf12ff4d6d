"""What a tunnel is to have, what lacks and when it is asked for: the decision alone, without an IKE SA."""

from __future__ import annotations

import random
from itertools import pairwise
from math import inf
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.ike.lifetimes import RETRY, RETRY_LONGEST
from ipsec_dp.ike.proxy_ids import ProxyIds
from ipsec_dp.ike.served import Configured
from ipsec_dp.ike.traffic_selectors import ANY, ProxyId, TrafficSelector
from ipsec_dp.ike.wanted import (
    AGAIN_EVERY,
    EITHER,
    MAX_DELAYS,
    PATIENCE,
    SOON,
    THEIR_TURN,
    Lack,
    Wanted,
    text,
)

from .ladder import proxy_id

NOW = 1000.0
A, B, C = (proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(3))
PACKET = proxy_id("10.1.1.5/32", "10.2.1.5/32", 17, (7, 7))


def rng(octets: int) -> bytes:
    """No jitter: the least of each range."""
    return bytes(octets)


def wanted(*configured: ProxyId, lasting: bool = True) -> Wanted:
    return Wanted(configured or (A, B, C), lasting=lasting)


UP: WeakKeyDictionary[Wanted, dict[int, tuple[ProxyId, ...]]] = WeakKeyDictionary()  # at the last look


def look_at(one: Wanted, up: dict[int, tuple[ProxyId, ...]], now: float, ended_here: tuple[int, ...] = ()) -> bool:
    """`up`: what is there now, by number, with its selectors."""
    before, UP[one] = UP.get(one, {}), dict(up)
    came = {number: pairs for number, pairs in up.items() if number not in before}
    return one.look(came, {number: number in ended_here for number in before if number not in up}, now, rng)


def look(one: Wanted, now: float = NOW, ended_here: tuple[int, ...] = (), **up: tuple[ProxyId, ...]) -> bool:
    """`up`: c1=(A, B): CHILD_SA 1 with these selectors."""
    return look_at(one, {int(name[1:]): pairs for name, pairs in up.items()}, now, ended_here)


def lacks(one: Wanted) -> tuple[ProxyId, ...]:
    return tuple(lack.proxy_id for lack in one.lacking())


def asked(one: Wanted, now: float = NOW) -> ProxyId | None:
    found = one.next(now)
    return None if found is None else found[0]


# ---- what lacks


def test_a_lasting_tunnel_wants_every_proxy_id_and_each_is_asked_for_once():
    one = wanted()
    assert lacks(one) == one.all == (A, B, C)
    assert [asked(one) for _ in range(4)] == [A, B, C, None]
    look(one, c1=(A, B))
    assert lacks(one) == (C,)
    look(one, c1=(A, B), c2=(C,))
    assert lacks(one) == ()
    assert one.next_due() == inf


def test_any_other_wants_what_is_asked_for_until_it_is_there():
    one = wanted(lasting=False)
    assert (lacks(one), one.next_due()) == ((), inf)
    one.ask_for(PACKET)
    assert lacks(one) == (B,)
    assert one.next(NOW) == (B, PACKET)
    look(one, c1=(B,))
    assert lacks(one) == ()
    look(one, NOW + 100)
    assert (lacks(one), one.next_due()) == ((), inf), "the peer deleted it: the next packet asks"
    one.ask_for_all()
    assert lacks(one) == (A, B, C)


def test_a_child_sa_that_holds_the_packet_is_what_the_packet_asked_for():
    one = wanted(lasting=False)
    one.ask_for(PACKET)
    look(one, c1=(PACKET,))
    assert (lacks(one), one.next_due()) == ((), inf)


def test_a_packet_of_no_proxy_id_asks_for_nothing():
    one = wanted(lasting=False)
    one.ask_for(proxy_id("10.9.0.1/32", "10.2.0.1/32"))
    assert lacks(one) == ()


def test_of_the_two_that_stand_for_all_addresses_one_ip_version_is_enough():
    one = wanted(*EITHER)
    assert tuple(ProxyId(each, each) for each in ANY) == EITHER
    look(one, c1=(EITHER[0],))
    assert lacks(one) == (EITHER[1],), "it is asked for"
    one.were_refused((EITHER[1],), "no IPv6 there", NOW, rng)
    assert (lacks(one), one.next_due()) == ((), inf)
    one = wanted(A, B)
    look(one, c1=(A,))
    one.were_refused((B,), "no", NOW, rng)
    assert lacks(one) == (B,), "what was written is wanted"


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ((A, B, C), (A,), (B, C)),  # fewer
        ((A,), (proxy_id("10.1.0.0/25", "10.2.0.0/24"), B, C), (A,)),  # a part
        ((A, B, C), (A, B, C), ()),
        ((proxy_id("10.1.0.0/25", "10.2.0.0/24"), B, C), (proxy_id("10.1.0.0/26", "10.2.0.0/24"), B, C), ()),  # never whole
    ],
)
def test_what_a_rekey_takes_away_lacks(before, after, left):
    one = wanted()
    look(one, c1=before)
    look(one, NOW + 100, c2=after)
    assert lacks(one) == left


def test_what_is_ended_as_intended_is_wanted_when_somebody_asks():
    one = wanted()
    look(one, c1=(A,), c2=(B,), c3=(C,))
    one.dismiss(2)
    look(one, c1=(A,), c3=(C,))
    assert lacks(one) == ()
    one.ask_for(PACKET)
    assert one.next(NOW + RETRY) == (B, PACKET)


def test_a_changed_configuration_changes_what_is_wanted():
    one = wanted(A, B)
    look(one, c1=(A, B))
    one.configure((B, C), lasting=True)
    assert lacks(one) == (C,)
    one.configure((B, C), lasting=False)
    assert lacks(one) == ()


def test_a_new_ike_sa_wants_what_was_there_and_what_was_asked_for():
    old = wanted(lasting=False)
    old.ask_for(PACKET)
    look(old, c1=(A,))
    old.were_refused((B,), "no", NOW, rng)
    new = wanted(lasting=False)
    new.inherit(old)
    assert (new.all, new.untried) == ((A, B), True)
    assert asked(new) == A


# ---- when it is asked for


def test_what_is_refused_is_asked_for_after_pauses_that_double_up_to_a_minute():
    one, now, pauses = wanted(A), NOW, []
    for _ in range(9):
        assert asked(one, now) == A
        one.were_refused((A,), "no", now, rng)
        pauses.append(one.next_due() - now)
        now = one.next_due()
    least = 0.75  # of the jitter
    doubling = [least * min(RETRY * 2**times, RETRY_LONGEST) for times in range(9)]
    assert pauses == pytest.approx([doubling[0], *(max(pause, AGAIN_EVERY) for pause in doubling[1:])])


def test_on_demand_what_is_refused_waits_for_the_next_packet_and_for_the_pause():
    one = wanted(lasting=False)
    one.ask_for(PACKET)
    one.next(NOW)
    one.were_refused((B,), "no", NOW, rng)
    assert one.next_due() == inf
    assert one.lacking() == (Lack(B, "no", True, inf),)
    one.ask_for(PACKET)
    assert NOW < one.next_due() < NOW + RETRY
    one.ask_for_all()
    assert [asked(one, NOW) for _ in range(3)] == [B, A, C], "a person waits for nothing"


@pytest.mark.parametrize(
    ("lived", "here", "pause"),
    [(SOON, False, THEIR_TURN), (SOON, True, 0.0), (SOON - 1, False, 0.75), (SOON - 1, True, 0.75)],
)
def test_what_goes_comes_back_at_once_but_for_what_went_soon_and_for_the_side_that_deleted_it(lived, here, pause):
    one = wanted(A)
    look(one, c1=(A,))
    one.told(1, "the peer deleted it")
    look(one, NOW + lived, ended_here=(1,) if here else ())
    assert one.next_due() - NOW - lived == pytest.approx(pause)
    assert one.lacking()[0].why == "the peer deleted it"


def test_all_that_failed_together_is_asked_for_one_in_a_while():
    one = wanted()
    one.were_refused((A, B, C), "no", NOW, rng)
    times = [at for at in [NOW + step / 4 for step in range(60)] if asked(one, at) is not None]
    assert len(times) == 60 / 4 // AGAIN_EVERY + 1
    assert all(later - earlier >= AGAIN_EVERY for earlier, later in pairwise(times))


def test_what_was_not_tried_yet_goes_before_what_failed():
    one = wanted()
    one.were_refused((A,), "no", NOW, rng)
    assert [asked(one, NOW + 10) for _ in range(3)] == [B, C, A]


def test_a_peer_that_called_asks_first():
    one = wanted()
    one.leave_to_peer(NOW, rng)
    assert asked(one) is None
    assert one.next_due() == NOW + PATIENCE
    one.ask_for_all()
    assert asked(one) == A, "a person waits for nobody"


def test_what_the_peer_puts_off_is_asked_for_some_times_more_and_is_refused_then():
    one, now = wanted(A), NOW
    for _ in range(MAX_DELAYS):
        assert asked(one, now) == A
        one.were_put_off((A,), "TEMPORARY_FAILURE", now, rng)
        assert one.untried
        assert not one.refused
        now = one.next_due()
    one.were_put_off((A,), "TEMPORARY_FAILURE", now, rng)
    assert one.refused
    assert not one.untried


def test_that_nothing_lacks_any_more_is_said_once():
    one = wanted(A, B)
    assert not look(one, c1=(A, B)), "nothing had failed"
    look(one, NOW + 1, c2=(A,))
    assert look(one, NOW + 2, c2=(A,), c3=(B,))
    assert not look(one, NOW + 3, c2=(A,), c3=(B,))


def test_a_refusal_is_news_once():
    one = wanted(A)
    assert one.were_refused((A,), "no", NOW, rng)
    assert not one.were_refused((A,), "no", NOW, rng)
    assert one.were_refused((A,), "for another reason", NOW, rng)


def test_a_line_of_text_names_failures_first_and_counts_the_rest():
    lacking = (
        Lack(A, "", False, NOW),
        Lack(B, "the peer deleted it", True, NOW + 3.6),
        Lack(C, "no", True, inf),
        *[Lack(A, "", False, 0)] * 4,
    )
    assert text(lacking, NOW) == (
        f"{B}: the peer deleted it; again in 4 s, {C}: no; asked for again with the next packet, {A}: asked for and 4 more"
    )


# ---- what came of what


def _ranges(version: int) -> st.SearchStrategy[TrafficSelector]:
    ends = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)
    return st.builds(lambda ends, protocol: TrafficSelector(version, ends[0], ends[1], protocol), ends, st.sampled_from([0, 0, 6]))


PAIRS = st.sampled_from([4, 6]).flatmap(lambda version: st.builds(ProxyId, _ranges(version), _ranges(version)))


def came_of(pair: ProxyId, one: ProxyId, configured: list[ProxyId]) -> bool | None:
    """By looking at each: True: all of it, False: the narrowest that holds `pair`, None: neither."""
    if pair.covers(one):
        return True
    narrower = [other for other in configured if other != one and one.covers(other) and other.covers(pair)]
    single = pair.local.start == pair.local.end and pair.remote.start == pair.remote.end
    return False if one.covers(pair) and not single and not narrower and pair not in configured else None


@settings(max_examples=300, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=8, unique=True), st.lists(PAIRS, min_size=1, max_size=4))
def test_what_came_of_which_proxy_id_is_found_as_by_looking_at_each(configured, pairs):
    expected: dict[ProxyId, bool] = {}
    for pair in pairs:
        for one in configured:
            found = came_of(pair, one, configured)
            if found is not None:
                expected[one] = expected.get(one, False) or found
    assert Configured(tuple(configured)).served(tuple(pairs)) == expected
    assert Configured(ProxyIds(configured)).served(tuple(pairs)) == expected, "by the index"


@pytest.mark.parametrize("seed", range(20))
def test_however_it_goes_on_nothing_wanted_is_forgotten(seed):
    """CHILD_SAs come and go at random; what lacks is due at some time, and asked for until all is there."""
    draw = random.Random(seed)
    one, now, up, numbers = wanted(), NOW, dict[int, tuple[ProxyId, ...]](), iter(range(10_000))
    for _ in range(300):
        now += draw.random() * 20
        match draw.choice(["come", "come", "go", "refuse", "put off"]):
            case "come" if (proxy := asked(one, now)) is not None:
                up[next(numbers)] = (proxy,)
            case "go" if up:
                del up[draw.choice(list(up))]
            case "refuse" if (proxy := asked(one, now)) is not None:
                one.were_refused((proxy,), "no", now, rng)
            case "put off" if (proxy := asked(one, now)) is not None:
                one.were_put_off((proxy,), "later", now, rng)
        look_at(one, up, now)
        held = {pair for pairs in up.values() for pair in pairs}
        assert set(lacks(one)) == {A, B, C} - held
        assert (one.next_due() < now + 2 * RETRY_LONGEST) is bool(lacks(one))
