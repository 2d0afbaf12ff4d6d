"""Several CHILD_SAs with the same selectors, one for each worker, as message ladders (RFC 9611)."""

from dataclasses import replace
from math import inf

import pytest

from ipsec_dp.ike import suites
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.v2 import child_create, child_offer, child_respond, resources, ts
from ipsec_dp.ike.v2.sa import ChildState

from .ladder import Ladder, peer, proxy_id

MOMENT = 2 * resources.SOON


def sites(a=1, b=1, **changes):
    return Ladder(a=[peer("a", resources=a, **changes)], b=[peer("b", resources=b, **changes)])


def use(ladder, *names):
    """Packets go by every CHILD_SA of these sites, now."""
    for name in names or ("a", "b"):
        for child in ladder.sites[name].sad.inbound:
            ladder.sites[name].activity[child] = Activity(ladder.clock(), ladder.clock())


def busy(ladder, seconds, *names):
    """They do all the time."""
    use(ladder, *names)
    ladder.run(seconds, step=lambda: use(ladder, *names))


def workers(site):
    """The resource of each CHILD_SA that sends, which has to be that of both its SAs."""
    for child in site.sad.sending:
        assert site.sad.inbound[child].resource == site.sad.outbound[child].resource
    return sorted(site.sad.outbound[child].resource for child in site.sad.sending)


def up(**how):
    ladder = sites(**how).up()
    busy(ladder, MOMENT)
    ladder.check()
    return ladder


@pytest.mark.parametrize(("a", "b"), [(2, 2), (3, 3), (3, 2)])
def test_whoever_called_gets_a_child_sa_for_each_of_its_workers(a, b):
    ladder = up(a=a, b=b)
    assert workers(ladder.a) == list(range(a))
    assert len(ladder.b.sad.sending) == a
    assert set(workers(ladder.b)) == set(range(b))
    assert ladder.messages()[4:] == ["ab CREATE_CHILD_SA", "ba CREATE_CHILD_SA-"] * (a - 1)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 3), (3, 1)])
def test_a_side_with_one_worker_has_one_child_sa_as_ever(a, b):
    ladder = up(a=a, b=b)
    assert len(ladder.messages()) == 4
    assert workers(ladder.a) == workers(ladder.b) == [0]


def test_with_one_worker_not_an_octet_is_another_one():
    as_ever = Ladder().up()
    beside_many = sites(a=1, b=8).up()
    assert [delivery.data[0] for delivery, _ in beside_many.wire.log] == [delivery.data[0] for delivery, _ in as_ever.wire.log]


def test_none_is_asked_for_while_no_packets_go():
    ladder = sites(a=3, b=3).up()
    ladder.run(100 * resources.LOOK)
    assert len(ladder.messages()) == 4
    busy(ladder, 2 * resources.LOOK, "a")
    assert workers(ladder.a) == [0, 1, 2]


def test_the_side_that_was_called_asks_for_none():
    ladder = sites(a=2, b=2)
    ladder.up("b")
    busy(ladder, MOMENT)
    assert "ab CREATE_CHILD_SA" not in ladder.messages()
    assert workers(ladder.a) == workers(ladder.b) == [0, 1]


def test_each_has_its_own_keys():
    ladder = up(a=3, b=3)
    assert len({bytes(one.keymat) for one in ladder.a.sad.outbound.values()}) == 3


def test_a_rekey_stays_with_its_worker_and_says_so_again():
    ladder = up(a=3, b=3, child_life=Life(600.0))
    first = set(ladder.a.sad.sending)
    busy(ladder, 700.0)
    ladder.check()
    assert first.isdisjoint(ladder.a.sad.sending)
    assert workers(ladder.a) == workers(ladder.b) == [0, 1, 2]


def test_a_rekey_of_the_ike_sa_takes_all_of_them_along():
    ladder = up(a=3, b=3, ike_life=Life(600.0))
    busy(ladder, 700.0)
    ladder.check()
    assert workers(ladder.a) == workers(ladder.b) == [0, 1, 2]
    assert not any(event.kind in (Kind.WARNING, Kind.CHILD_FAILED, Kind.CHILD_DOWN) for event in ladder.a.events)


def test_with_forward_secrecy_each_has_a_key_exchange_of_its_own():
    ladder = up(a=2, b=2, esp_proposals=parse_esp(["aes128gcm16-x25519-esn-noesn"]))
    assert workers(ladder.a) == [0, 1]


def with_two_proxy_ids():
    two = (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.1.0/24", "10.2.1.0/24"))
    mirrored = tuple(type(one)(one.remote, one.local) for one in two)
    return Ladder(a=[peer("a", resources=2, proxy_ids=two)], b=[peer("b", resources=2, proxy_ids=mirrored)]).up()


def test_each_proxy_id_has_its_own():
    ladder = with_two_proxy_ids()
    busy(ladder, MOMENT)
    assert workers(ladder.a) == [0, 1]  # one CHILD_SA for both proxy IDs, twice
    assert {len(one.selectors) for one in ladder.a.sad.inbound.values()} == {2}


def test_beyond_twice_its_own_workers_the_responder_says_ts_max_queue_and_is_asked_no_more():
    ladder = sites(a=8, b=2).up()
    busy(ladder, 20 * resources.LOOK)
    assert len(ladder.b.sad.sending) == resources.LENIENT * 2
    assert workers(ladder.a) == [0, 1, 2, 3]
    assert workers(ladder.b) == [0, 0, 1, 1]
    told = [event.text for event in ladder.a.events if event.kind is Kind.NOTE]
    assert len(told) == 1
    assert "4 CHILD_SAs" in told[0]
    assert "TS_MAX_QUEUE" in told[0]
    assert ladder.messages().count("ab CREATE_CHILD_SA") == 4
    assert not ladder.a.sad.reserved


def test_what_was_refused_is_asked_for_again_after_a_rekey_of_the_first():
    ladder = sites(a=8, b=2, child_life=Life(600.0)).up()

    def told():
        return sum(event.kind is Kind.NOTE for event in ladder.a.events)

    busy(ladder, 100.0)
    assert told() == 1
    busy(ladder, 600.0)
    assert told() == 2
    assert workers(ladder.a) == [0, 1, 2, 3]


def test_idle_ones_end_and_the_first_stays():
    ladder = up(a=3, b=3)
    ladder.run(resources.IDLE + 10)
    assert workers(ladder.a) == workers(ladder.b) == [0]
    busy(ladder, 2 * resources.LOOK)
    assert workers(ladder.a) == workers(ladder.b) == [0, 1, 2]


def test_the_first_is_not_idle_while_another_is_used():
    ladder = up(a=2, b=2, child_life=Life(36000.0, idle_s=60.0))

    def second():
        for name in ("a", "b"):
            for child, one in ladder.sites[name].sad.inbound.items():
                if one.resource:
                    ladder.sites[name].activity[child] = Activity(ladder.clock(), ladder.clock())

    second()
    ladder.run(300, step=second)
    assert workers(ladder.a) == [0, 1]
    ladder.run(200)
    assert ladder.a.sad.sending == []


def only(ladder, name, child):
    """Packets go by this CHILD_SA alone, now."""
    ladder.sites[name].activity[child] = Activity(ladder.clock(), ladder.clock())


def of_resource(site, resource):
    return next(child for child in site.sad.sending if site.sad.outbound[child].resource == resource)


@pytest.mark.parametrize("used", [0, 1])
def test_while_one_is_used_none_of_them_is_idle(used):
    ladder = up(a=3, b=3, child_life=Life(36000.0))
    before, said = set(ladder.a.sad.sending), len(ladder.messages())
    child = of_resource(ladder.a, used)
    ladder.run(5 * resources.IDLE, step=lambda: only(ladder, "a", child))
    assert set(ladder.a.sad.sending) == before
    assert len(ladder.messages()) == said
    ladder.run(resources.IDLE + 10)
    assert workers(ladder.a) == workers(ladder.b) == [0]


def lose_the_first(ladder, how):
    first = of_resource(ladder.a, resources.FIRST)
    if how == "the peer deletes it":
        theirs = next(child for child, one in ladder.b.sad.outbound.items() if one.spi == ladder.a.sad.inbound[first].spi)
        ladder.b.do(ladder.b.core.delete_child(ladder.b.tunnel, theirs, ladder.clock()))
    else:
        (session,) = ladder.a.core.sessions()
        session.children[first].soft, session.children[first].hard = inf, ladder.clock()
    ladder.run(resources.LOOK)
    assert workers(ladder.a) == [1, 2]


GONE = pytest.mark.parametrize("how", ["the peer deletes it", "it reaches its hard limit"])


@GONE
def test_the_first_one_is_made_again_when_it_is_gone(how):
    ladder = up(a=3, b=3)
    lose_the_first(ladder, how)
    busy(ladder, resources.WATCH + MOMENT)
    ladder.check()
    assert workers(ladder.a) == [0, 1, 2]


@GONE
def test_without_the_first_one_another_stays_and_the_ike_sa_with_it(how):
    ladder = up(a=3, b=3, child_life=Life(36000.0))
    lose_the_first(ladder, how)
    ladder.run(5 * resources.IDLE)
    ladder.check()
    assert workers(ladder.a) == [1]
    busy(ladder, resources.WATCH)
    assert workers(ladder.a) == [0, 1, 2]
    ladder.run(2 * resources.IDLE)
    assert workers(ladder.a) == [0]


def test_a_peer_that_narrows_a_further_one_is_asked_no_more(monkeypatch):
    ladder = with_two_proxy_ids()
    monkeypatch.setattr(child_respond, "permitted", lambda *asked: ts.permitted(*asked)[:1])
    busy(ladder, 10 * resources.LOOK)
    ladder.check()
    assert workers(ladder.a) == [0]
    assert len(ladder.b.sad.sending) == 1
    assert ladder.messages().count("ab CREATE_CHILD_SA") == 1
    (told,) = [event.text for event in ladder.a.events if event.kind is Kind.WARNING]
    assert "the peer made another one" in told


TWO_SUITES = ["aes256gcm16-esn", "aes128gcm16-esn"]


def of_another_suite(monkeypatch):
    """Whoever asks for a further one offers the second of two suites alone."""

    def again(context, old, *how, **more):
        return child_offer.offer_again(context, replace(old, suite=replace(old.suite, encryption=second.encryption)), *how, **more)

    second = suites.esp_suite(parse_esp(TWO_SUITES[1:])[0])
    monkeypatch.setattr(child_create, "offer_again", again)


def test_a_further_one_of_another_suite_is_refused(monkeypatch):
    ladder = sites(a=3, b=3, esp_proposals=parse_esp(TWO_SUITES)).up()
    of_another_suite(monkeypatch)
    busy(ladder, 10 * resources.LOOK)
    assert workers(ladder.b) == [0]
    assert ladder.messages().count("ab CREATE_CHILD_SA") == 1
    assert [event.text for event in ladder.b.events if event.kind is Kind.CHILD_FAILED] == [
        "the peer wants one more CHILD_SA, but of another suite"
    ]


def test_a_further_one_that_the_peer_makes_of_another_suite_is_deleted(monkeypatch):
    ladder = sites(a=3, b=3, esp_proposals=parse_esp(TWO_SUITES)).up()
    of_another_suite(monkeypatch)
    monkeypatch.setattr(resources, "of_others", lambda _context, _message, _pairs, _offered, mine: mine)
    busy(ladder, 10 * resources.LOOK)
    ladder.check()
    assert workers(ladder.a) == workers(ladder.b) == [0]
    assert ladder.messages().count("ab CREATE_CHILD_SA") == 1


def test_a_further_one_keeps_the_suite_of_the_others_whatever_is_offered_besides(monkeypatch):
    """B prefers another suite since."""
    ladder = sites(a=2, b=2, esp_proposals=parse_esp(TWO_SUITES)).up()
    monkeypatch.setattr(child_create, "offer_again", lambda *how, **_: child_offer.offer_again(*how, any_suite=True))
    for session in ladder.b.core.sessions():
        session.settle_on(replace(session.peer, esp_proposals=parse_esp(TWO_SUITES[::-1])))
    busy(ladder, MOMENT)
    ladder.check()
    assert workers(ladder.a) == [0, 1]
    assert len({str(one.suite) for one in ladder.a.sad.outbound.values()}) == 1


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_a_peer_that_ends_one_for_each_it_makes_is_not_asked_at_once(which):
    ladder = sites(a=8, b=8).up()

    def replaced():
        use(ladder)
        (session,) = ladder.b.core.sessions()
        there = [one for one in session.children.values() if one.state is ChildState.UP]
        if len(there) > 1:
            one = there[0 if which == "oldest" else -1]
            ladder.b.do(ladder.b.core.delete_child(ladder.b.tunnel, one.number, ladder.clock()))

    for _ in range(30):
        use(ladder)
        ladder.run(resources.LOOK / 10, step=replaced)
    assert 2 <= ladder.messages().count("ab CREATE_CHILD_SA") <= 2 * 3


def test_they_are_gone_with_the_ike_sa():
    ladder = up(a=3, b=3)
    ladder.a.do(ladder.a.core.terminate(ladder.a.tunnel, ladder.clock()))
    ladder.run(20)
    assert not ladder.a.sad.inbound
    assert not ladder.b.sad.inbound


def test_authenticating_anew_ends_with_one_for_each_worker():
    ladder = sites(a=2, b=2, reauth_s=600.0).up()
    busy(ladder, 700.0)
    ladder.check()
    assert workers(ladder.a) == workers(ladder.b) == [0, 1]
