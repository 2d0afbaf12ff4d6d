"""`start = "start"` is for ever: what goes, shrinks or is refused is asked for again, however much it is, and not too often.

The peer is a double that takes one pair of selectors in an exchange, refuses, narrows or deletes, as some appliances do.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.traffic_selectors import ProxyId
from ipsec_dp.ike.v2 import child_respond, transitions, ts
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.ike.wanted import AGAIN_EVERY, PATIENCE

from .ladder import Ladder, packet, peer, proxy_id

LONG = {"ike_life": Life(99999.0), "child_life": Life(99999.0)}


def nets(count):
    """So many proxy IDs of A, and B's, mirrored."""
    mine = tuple(proxy_id(f"10.{1 + one // 250}.{one % 250}.0/24", f"10.{9 + one // 250}.{one % 250}.0/24") for one in range(count))
    return mine, tuple(ProxyId(each.remote, each.local) for each in mine)


def ladder_of(count, start="start", theirs="respond", seed=0, a=None, **changes):
    mine, mirrored = nets(count)
    return Ladder(
        a=[peer("a", **(LONG | {"proxy_ids": mine, "start": start} | changes | (a or {})))],
        b=[peer("b", **(LONG | {"proxy_ids": mirrored, "start": theirs} | changes))],
        seed=seed,
    )


@pytest.fixture
def one_pair(monkeypatch):
    """Whoever is asked takes the first pair of what is offered."""
    whole = ts.permitted
    monkeypatch.setattr(child_respond, "permitted", lambda *asked: whole(*asked)[:1])


def carried(site):
    """What the CHILD_SAs hold by which a site sends, in the order of the numbers in the prefixes."""
    return sorted(pair.local_text for child in site.sad.sending for pair in site.sad.inbound[child].selectors)


def expected(count):
    return sorted(str(each.local) for each in nets(count)[0])


def delete_at_b(ladder, *numbers):
    """B deletes these of the CHILD_SAs by which it sends, all without any."""
    for child in [ladder.b.sad.sending[number] for number in numbers] or list(ladder.b.sad.sending):
        ladder.b.do(ladder.b.core.delete_child("to-a", child, ladder.clock()))


# ---- however much it is


@pytest.mark.parametrize("count", [80, pytest.param(300, marks=pytest.mark.slow)])
def test_proxy_ids_with_a_peer_that_takes_one_pair_come_up_are_rekeyed_and_authenticated_anew(one_pair, count):
    ladder = ladder_of(count, child_life=Life(2000.0), a={"reauth_s": 2400.0})
    ladder.initiate("a")
    ladder.settle()
    assert carried(ladder.a) == expected(count)
    first = ladder.a.ups[0].spi_i
    ladder.run(2350)
    assert carried(ladder.a) == expected(count)
    assert ladder.a.kinds().count(Kind.CHILD_REKEYED) == count
    assert ladder.a.ups[0].spi_i == first
    ladder.run(250)
    assert carried(ladder.a) == expected(count)
    assert ladder.a.ups[0].spi_i != first
    for site in ladder.sites.values():
        assert Kind.CHILD_DOWN not in site.kinds(), "none met its hard limit"
        assert len(site.ups) == 1
        assert len(site.ups[0].children) == count
    assert ladder.a.ups[0].lacking == ()


def test_however_many_are_to_be_rekeyed_at_once_each_is(one_pair):
    ladder = ladder_of(20)
    ladder.initiate("a")
    ladder.settle()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    assert ladder.a.kinds().count(Kind.CHILD_REKEYED) == 20
    ladder.run(60)
    assert len(ladder.a.sad.inbound) == len(ladder.b.sad.inbound) == 20, "and the old ones are deleted"


def test_what_was_not_asked_for_yet_outlives_a_rekey_of_the_ike_sa(one_pair):
    ladder = ladder_of(20)
    ladder.initiate("a")
    for _ in range(12):
        assert ladder.deliver("b") or ladder.deliver("a")
    assert 1 < len(ladder.a.sad.sending) < 20
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.run(30)
    assert Kind.IKE_REKEYED in ladder.a.kinds()
    assert carried(ladder.a) == expected(20)


def test_what_the_peer_puts_off_while_it_is_authenticated_anew_stays_on_the_old_ike_sa(one_pair, monkeypatch):
    ladder = ladder_of(2, a={"reauth_s": 100.0})
    ladder.initiate("a")
    ladder.run(99)
    whole, put_off = transitions.request_row, [NotifyType.TEMPORARY_FAILURE]

    def row(state, message):
        found = whole(state, message)
        if found is None or found.exchange is not ExchangeType.CREATE_CHILD_SA or not put_off:
            return found
        kind = put_off.pop()
        return replace(found, answer=lambda _context, _received: [Notify(kind)])

    monkeypatch.setattr(transitions, "request_row", row)
    while put_off:
        ladder.run(0.5)
        assert carried(ladder.a) == expected(2)
    assert len(ladder.a.ups) == 2, "one has not both yet"
    ladder.run(10)
    assert carried(ladder.a) == expected(2)
    assert len(ladder.a.ups) == 1


# ---- whatever goes


@pytest.mark.parametrize("site", ["a", "b"])
def test_what_the_peer_deletes_is_asked_for_again_by_the_side_that_starts(one_pair, site):
    """Whoever called."""
    ladder = ladder_of(3)
    ladder.initiate(site)
    ladder.run(100)
    assert carried(ladder.a) == expected(3)
    delete_at_b(ladder, 1)
    ladder.settle()
    assert len(ladder.a.sad.sending) == 2
    ladder.run(PATIENCE + 1)
    assert carried(ladder.a) == expected(3)
    ladder.check()


def test_a_proxy_id_that_was_refused_once_is_asked_for_until_it_is_there(one_pair):
    ladder = ladder_of(3)
    ladder.initiate("a")
    ladder.settle()
    mine, mirrored = nets(4)
    ladder.a.do(ladder.a.core.reconfigure([peer("a", **LONG, proxy_ids=mine, start="start")], {"to-b": 2}, ladder.clock()))
    ladder.run(40)
    told = [event for event in ladder.a.events if event.kind is Kind.CHILD_FAILED]
    assert [event.cause for event in told] == [Cause.SELECTORS], "asked for several times, told once"
    assert ladder.messages("a").count("ab CREATE_CHILD_SA") > 4
    assert carried(ladder.a) == expected(3)
    (lack,) = ladder.a.ups[0].lacking
    assert lack.proxy_id == mine[3]
    assert "accepts none of our selectors" in lack.why
    ladder.b.do(ladder.b.core.reconfigure([peer("b", **LONG, proxy_ids=mirrored)], {"to-a": 2}, ladder.clock()))
    ladder.run(70)
    assert carried(ladder.a) == expected(4)
    assert ladder.a.ups[0].lacking == ()
    assert ladder.a.kinds()[-1] is Kind.WHOLE


def test_what_the_peer_narrows_away_at_a_rekey_is_asked_for_again(monkeypatch):
    ladder = ladder_of(4)
    ladder.initiate("a")
    ladder.run(100)
    assert len(ladder.a.sad.sending) == 1
    with monkeypatch.context() as patched:
        patched.setattr(child_respond, "permitted", lambda *asked: ts.permitted(*asked)[:2])
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
        ladder.settle()
    ladder.run(20)
    assert carried(ladder.a) == expected(4)
    ladder.check()


def test_a_proxy_id_that_a_rekey_made_narrower_is_asked_for_once_as_a_whole(monkeypatch):
    """Then what the peer gives is what there is, in one CHILD_SA."""
    wide, half = proxy_id("10.1.0.0/16", "10.2.0.0/16"), proxy_id("10.1.0.0/17", "10.2.0.0/16")
    mirrored = [ProxyId(each.remote, each.local) for each in (wide, half)]
    ladder = Ladder(a=[peer("a", **LONG, proxy_ids=(wide,), start="start")], b=[peer("b", **LONG, proxy_ids=(mirrored[0],))]).up()
    ladder.run(100)
    monkeypatch.setattr(child_respond, "permitted", lambda _, *rest: ts.permitted((mirrored[1],), *rest))
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(300)
    assert carried(ladder.a) == [str(half.local)]
    assert ladder.messages("a").count("ab CREATE_CHILD_SA") == 2, "the rekey, and the question for the whole"
    assert ladder.a.ups[0].lacking == ()


def test_what_a_hard_limit_ends_is_there_again_at_once():
    ladder = ladder_of(1)
    ladder.initiate("a")
    ladder.run(100)
    (child,) = ladder.a.sad.sending
    ladder.a.do(ladder.a.core.hard_limit("to-b", child, ladder.clock()))
    ladder.settle()
    assert carried(ladder.a) == expected(1)


def test_what_is_idle_waits_for_traffic():
    ladder = ladder_of(2, a={"child_life": Life(9999.0, idle_s=15.0)})
    ladder.initiate("a")
    ladder.run(600)
    assert ladder.a.status == ()
    assert Cause.IDLE in ladder.a.causes()


# ---- and not too often


@pytest.mark.parametrize("count", [1, 14])
@pytest.mark.parametrize("start", ["start", "on-demand"])
def test_a_peer_that_deletes_each_child_sa_at_once_costs_a_message_a_second_at_the_most(one_pair, count, start):
    """On demand it is traffic for each proxy ID that asks, each second."""
    ladder = ladder_of(count, start=start)
    ladder.initiate("a")
    ladder.settle()
    assert carried(ladder.a) == expected(count)
    began, sent = ladder.clock(), len(ladder.messages())
    asking = [packet(f"10.1.{one}.1", f"10.9.{one}.1") for one in range(count)]
    delete_at_b(ladder)
    ladder.settle()
    after = len(ladder.messages())
    assert after - sent == 2 * count, "the DELETEs and their answers"
    for _ in range(600):
        ladder.run(1.0, step=lambda: delete_at_b(ladder))
        delete_at_b(ladder)
        ladder.settle()
        if start == "on-demand":
            for one in asking:
                ladder.a.do(ladder.a.core.acquire("to-b", one, ladder.clock()))
    assert 50 < len(ladder.messages()) - after <= ladder.clock() - began


def test_the_pause_is_the_longer_the_more_often_it_failed_and_short_again_after_a_while():
    ladder = ladder_of(1)
    ladder.initiate("a")
    ladder.settle()
    gaps = []
    for _ in range(7):
        delete_at_b(ladder)
        ladder.settle()
        gone = ladder.clock()
        while not ladder.a.sad.sending:
            ladder.run(0.25)
        gaps.append(ladder.clock() - gone)
    assert all(later > 1.3 * earlier for earlier, later in pairwise(gaps[2:6]))
    assert max(gaps) < 80
    ladder.run(100)
    delete_at_b(ladder)
    ladder.run(2)
    assert ladder.a.sad.sending


@pytest.mark.parametrize("seed", range(4))
def test_two_sides_that_start_ask_once_for_each(one_pair, seed):
    """Who was called leaves it to the other, which asks for one after the other."""
    ladder = ladder_of(20, theirs="start", seed=seed)
    ladder.initiate("a")
    ladder.run(60)
    ladder.check()
    assert carried(ladder.a) == expected(20)
    assert "ba CREATE_CHILD_SA" not in ladder.messages("b")


def test_a_peer_that_called_and_asks_no_further_is_helped(one_pair):
    ladder = ladder_of(3, start="on-demand", theirs="start")
    ladder.initiate("a", asks=packet("10.1.0.1", "10.9.0.1"))
    ladder.run(PATIENCE - 1)
    assert len(ladder.a.sad.sending) == 1
    ladder.run(2 * AGAIN_EVERY)
    assert [each for each in carried(ladder.a) if each in expected(3)] == expected(3), "beside the one of the packet alone"
    assert ladder.messages("b").count("ba CREATE_CHILD_SA") == 3
