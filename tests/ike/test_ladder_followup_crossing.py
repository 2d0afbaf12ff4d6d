"""Requests that cross while additional key exchanges go on (RFC 7296 §2.8, §2.25; RFC 9370 §2.2.4).

At no moment does a side send to an SPI that the other does not receive on, and one of two rekeys stands in the end.
"""

import random

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.v2.child_create import ChildCreate
from ipsec_dp.ike.v2.wire import ExchangeType

from .ladder import OTHER, peer
from .test_ladder_followup import (
    ESP_ONE,
    ESP_TWO,
    KINDS,
    ONE,
    TWO,
    ask,
    ends,
    ladder_of,
    made_anew,
    rounds,
    sent,
    series,
    two_proxy_ids,
)
from .test_ladder_rekey import done, rekey, whole


def step(ladder, receiver):
    """Every datagram that waits for `receiver`; each leaves both sides whole."""
    assert ladder.wire.waiting(receiver)
    while ladder.deliver(receiver):
        whole(ladder)


@pytest.mark.parametrize("ike", KINDS)
def test_of_two_rekeys_that_cross_the_one_with_the_lowest_nonce_begins_no_series(ike):
    winners = set()
    for seed in range(10):
        ladder = ladder_of(TWO, ESP_TWO, seed=seed)
        before = ends(ladder)
        for site in ("a", "b"):
            rekey(ladder, site, ike=ike)
        ladder.settle()
        done(ladder)
        assert rounds(ladder) == 2
        made_anew(ladder, before, ike=ike)
        (first,) = {from_initiator for _, from_initiator, _ in sent(ladder, ExchangeType.IKE_FOLLOWUP_KE)}
        winners.add(first)
        assert sum(site.core.counters().unfinished for site in ladder.sites.values()) == 1
        for site in ladder.sites.values():
            assert {Kind.IKE_DOWN, Kind.CHILD_DOWN, Kind.WARNING}.isdisjoint(site.kinds())
    assert len(winners) == 2


@pytest.mark.parametrize("ike", KINDS)
@pytest.mark.parametrize("first", ["a", "b"])
def test_whoever_gets_its_answer_late_sees_the_other_side_go_on(first, ike):
    """The winner's last round may be over before the loser has the answer to its CREATE_CHILD_SA."""
    for seed in range(6):
        ladder = ladder_of(seed=seed)
        before = ends(ladder)
        for site in ("a", "b"):
            rekey(ladder, site, ike=ike)
        number = ladder.wire.sent(OTHER[first], first) + 1
        ladder.wire.hold(OTHER[first], first, number)  # what `first` asked for
        for _ in range(8):
            for receiver in ("b", "a"):
                while ladder.deliver(receiver):
                    whole(ladder)
        ladder.wire.release(OTHER[first], first, number)
        done(ladder)
        made_anew(ladder, before, ike=ike)


@pytest.mark.parametrize("mixed", ["a", "b"])
def test_one_of_the_two_may_have_no_series(mixed):
    """`mixed` offers no additional key exchange where it asks, and takes one where it is asked."""
    for seed in range(8):
        ladder = ladder_of(seed=seed)
        before = ends(ladder)
        (session,) = ladder.sites[mixed].core.sessions()
        session.settle_on(peer(mixed, **words(ONE, "aes128gcm16-x25519")))
        (other,) = ladder.sites[OTHER[mixed]].core.sessions()
        other.settle_on(peer(OTHER[mixed], **words(ONE, f"{ESP_ONE}-ke1_none")))
        rekey(ladder, mixed)
        rekey(ladder, OTHER[mixed])
        session.settle_on(peer(mixed, **words(ONE, ESP_ONE, "aes128gcm16-x25519")))
        done(ladder)
        made_anew(ladder, before, ike=False)


def words(ike, *esp):
    return {"ike_proposals": parse_ike([ike]), "esp_proposals": parse_esp(esp)}


@pytest.mark.parametrize("ike", KINDS)
def test_a_request_that_comes_while_our_series_goes_on_meets_temporary_failure(ike):
    ladder = ladder_of(TWO, ESP_TWO)
    before = ends(ladder)
    number = ladder.wire.sent("b", "a") + 1
    ladder.wire.hold("b", "a", number)
    rekey(ladder, "b", ike=ike)  # held
    rekey(ladder, "a", ike=ike)
    step(ladder, "b")
    step(ladder, "a")  # A's series has begun
    (session,) = ladder.a.core.sessions()
    assert session.task.series is not None
    ladder.wire.release("b", "a", number)
    step(ladder, "a")
    assert not session.series
    done(ladder)
    assert rounds(ladder) == 2
    made_anew(ladder, before, ike=ike)
    assert not [one for site in ladder.sites.values() for one in site.events if one.kind is Kind.WARNING]


@pytest.mark.parametrize("ike", KINDS)
def test_what_the_peer_rekeys_is_not_rekeyed_by_us(ike):
    """B is in the middle of A's series when its own time comes."""
    ladder = ladder_of(TWO, ESP_TWO)
    before = ends(ladder)
    rekey(ladder, "a", ike=ike)
    step(ladder, "b")
    assert series(ladder)
    rekey(ladder, "b", ike=ike)
    rekey(ladder, "b")
    assert not [one.task for one in ladder.b.core.sessions() if one.task is not None]
    done(ladder)
    assert "ba CREATE_CHILD_SA" not in ladder.messages()[: ladder.messages().index("ab INFORMATIONAL")]
    assert ends(ladder)[0] != before[0] if ike else ends(ladder)[1:] != before[1:]


@pytest.mark.parametrize("ike_first", [True, False])
def test_a_child_rekey_and_an_ike_rekey_that_cross_come_again(ike_first):
    ladder = ladder_of(TWO, ESP_TWO)
    rekey(ladder, "a", ike=ike_first)
    rekey(ladder, "b", ike=not ike_first)
    done(ladder)
    for one in ladder.sites.values():
        assert Kind.IKE_REKEYED in one.kinds()
        assert Kind.CHILD_REKEYED in one.kinds()
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(one.kinds())


@pytest.mark.parametrize("ike", KINDS)
def test_while_a_series_goes_on_the_other_kind_of_request_meets_temporary_failure(ike):
    """B asks for the other kind before it sees A's CREATE_CHILD_SA; it arrives after A's first round has left."""
    ladder = ladder_of(TWO, ESP_TWO)
    number = ladder.wire.sent("b", "a") + 1
    ladder.wire.hold("b", "a", number)
    rekey(ladder, "b", ike=not ike)
    (outstanding,) = [one.window.outstanding for one in ladder.b.core.sessions()]
    assert outstanding is not None
    rekey(ladder, "a", ike=ike)
    step(ladder, "b")
    ladder.wire.release("b", "a", number)
    done(ladder)
    for one in ladder.sites.values():
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(one.kinds())
        assert Kind.IKE_REKEYED in one.kinds()
        assert Kind.CHILD_REKEYED in one.kinds()


def test_a_further_child_sa_waits_for_the_peers_series_of_the_ike_sa():
    ladder = two_proxy_ids(ike_proposals=parse_ike([TWO]))
    rekey(ladder, "b", ike=True)
    while ladder.deliver("a"):
        pass
    assert series(ladder)
    ask(ladder)
    assert not [one.task for one in ladder.a.core.sessions() if one.task is not None]
    ladder.settle()
    ladder.run(5)
    ladder.check()
    assert len(ladder.a.sad.sending) == 2


@pytest.mark.parametrize("by", ["a", "b"])
def test_a_child_sa_that_is_deleted_in_the_middle_of_its_rekey(by):
    ladder = ladder_of(TWO, ESP_TWO)
    rekey(ladder, "a")
    step(ladder, "b")
    (child,) = ladder.sites[by].sad.sending
    ladder.sites[by].do(ladder.sites[by].core.delete_child(ladder.sites[by].tunnel, child, ladder.clock()))
    ladder.run(60)
    assert not series(ladder)
    for site in ladder.sites.values():
        assert not site.sad.reserved
        assert Kind.IKE_DOWN not in site.kinds()
    assert ladder.a.receives_on() == ladder.b.sends_to()
    assert ladder.b.receives_on() == ladder.a.sends_to()


@pytest.mark.parametrize("by", ["a", "b"])
@pytest.mark.parametrize("ike", KINDS)
def test_an_ike_sa_that_ends_in_the_middle_of_a_series_leaves_nothing(ike, by):
    ladder = ladder_of(TWO, ESP_TWO)
    rekey(ladder, "a", ike=ike)
    step(ladder, "b")
    (theirs,) = series(ladder)
    who = ladder.sites[by]
    who.do(who.core.terminate(who.tunnel, ladder.clock()))
    ladder.run(60)
    assert not series(ladder)
    assert not any(any(secret) for secret in theirs.secrets)
    for site in ladder.sites.values():
        assert not site.sad.reserved
        assert not site.sad.inbound
        assert site.core.counters().sessions == 0


def reloaded_in_a_series(change):
    """A has begun a series when B's configuration becomes `change` of the peer that it had; then all that follows."""
    ladder = two_proxy_ids()
    ask(ladder)
    while ladder.deliver("b"):  # CREATE_CHILD_SA
        pass
    (session,) = ladder.b.core.sessions()
    session.settle_on(change(session.peer))
    ladder.settle()
    return ladder


def test_selectors_that_are_configured_no_longer_make_no_child_sa():
    ladder = reloaded_in_a_series(
        lambda one: peer("b", ike_proposals=one.ike_proposals, esp_proposals=one.esp_proposals),
    )
    ladder.check()
    assert len(ladder.a.sad.sending) == 1
    assert "TS_UNACCEPTABLE" in next(event.text for event in ladder.a.events if event.kind is Kind.CHILD_FAILED)


def test_a_suite_that_is_configured_no_longer_makes_no_child_sa():
    """Both had agreed on it."""
    other = parse_esp(["aes128gcm16-x25519-ke1_mlkem768"])
    ladder = reloaded_in_a_series(
        lambda one: peer("b", ike_proposals=one.ike_proposals, esp_proposals=other, proxy_ids=one.proxy_ids),
    )
    assert len(ladder.a.sad.sending) == len(ladder.b.sad.sending) == 1
    assert "NO_PROPOSAL_CHOSEN" in next(event.text for event in ladder.a.events if event.kind is Kind.CHILD_FAILED)
    assert not series(ladder)
    assert not ladder.b.sad.reserved


def test_a_peer_that_begins_again_has_one_series_for_a_child_sa():
    ladder = ladder_of(TWO, ESP_TWO)
    rekey(ladder, "a")
    step(ladder, "b")
    (first,) = series(ladder)
    (session,) = ladder.a.core.sessions()
    (child,) = session.children.values()
    while ladder.deliver("a"):
        pass
    session.task.dropped(session)
    session.window.outstanding = None
    session.window.next_id -= 1
    ladder.wire.drop("a", "b", ladder.wire.sent("a", "b"))
    for _ in iter(lambda: ladder.wire.take("b"), None):
        pass
    session.enqueue(ChildCreate(child.pairs, rekeys=child))
    session.send_next(ladder.clock())
    ladder.a.do(session.take())
    step(ladder, "b")
    (second,) = series(ladder)
    assert second is not first
    assert not any(any(secret) for secret in first.secrets)
    done(ladder)
    assert ladder.b.core.counters().unfinished == 1


@pytest.mark.parametrize("ike", KINDS)
def test_whatever_crosses_and_is_lost_one_of_each_stands(ike):
    """Both rekey at once, in any order of arrival, with datagrams lost."""
    for seed in range(15):
        dice = random.Random(seed)
        ladder = ladder_of(*dice.choice([(ONE, ESP_ONE), (TWO, ESP_TWO)]), seed=seed)
        before = ends(ladder)
        for sender in ("a", "b"):
            already = ladder.wire.sent(sender, OTHER[sender])
            ladder.wire.drop(sender, OTHER[sender], *(already + n for n in range(1, 12) if dice.random() < 0.2))
        for site in dice.sample(["a", "b"], 2):
            rekey(ladder, site, ike=ike)
            for _ in range(dice.randrange(3)):
                ladder.deliver(dice.choice("ab"))
                whole(ladder)
        for _ in range(40):
            ladder.deliver(dice.choice("ab"))
            whole(ladder)
        ladder.run(150, step=lambda ladder=ladder: whole(ladder))
        ladder.check()
        after = ends(ladder)
        assert after[0] != before[0] if ike else after[1:] != before[1:]
        assert not series(ladder)
        for site in ladder.sites.values():
            assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(site.kinds())
            assert site.core.counters().sessions == 1
            assert len(site.sad.inbound) == 1


def test_both_kinds_at_soft_limits_of_both_sides():
    lives = {"ike_life": Life(40.0), "child_life": Life(30.0)}
    ladder = ladder_of(TWO, ESP_TWO, **lives)
    ladder.run(300)
    ladder.check()
    for site in ladder.sites.values():
        assert {Kind.CHILD_DOWN, Kind.IKE_DOWN}.isdisjoint(site.kinds())
