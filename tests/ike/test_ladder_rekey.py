"""Rekeys as message ladders: by either side, at the same time, with messages lost and overtaken (RFC 7296 §2.8, §2.25).

For every one of them: at no moment does a side that was sending send to nowhere, or to an SPI that the other does not receive on.
"""

import pytest

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.v2 import expiry

from .ladder import OTHER, TUNNEL, Ladder, peer

SIDES = ["a", "b"]


def whole(ladder):
    """No packet sent now would be lost."""
    for one, other in ((ladder.a, ladder.b), (ladder.b, ladder.a)):
        assert one.sad.sending
        for child in one.sad.sending:
            assert one.sad.outbound[child].spi in other.receives_on()


def step(ladder, receiver):
    assert ladder.deliver(receiver)
    whole(ladder)


def rekey(ladder, site, *, ike=False):
    who = ladder.sites[site]
    who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=ike))


def done(ladder, children=1):
    """All settled: one IKE SA, `children` CHILD_SAs, nothing left over once the grace time is past."""
    ladder.settle()
    whole(ladder)
    ladder.run(100)
    ladder.check()
    for site in ladder.sites.values():
        assert len(site.sad.sending) == len(site.sad.inbound) == len(site.sad.outbound) == children
        assert site.core.counters().sessions == 1


@pytest.mark.parametrize("site", SIDES)
def test_child_rekey(site):
    ladder = Ladder().up()
    other = OTHER[site]
    before = ladder.a.sends_to(), ladder.b.sends_to()
    rekey(ladder, site)
    # CREATE_CHILD_SA: REKEY_SA -->
    step(ladder, other)
    assert ladder.sites[other].sad.log[-2:] == [("InstallInbound", 2), ("InstallOutbound", 2)]  # receives, and does not send yet
    # <-- CREATE_CHILD_SA
    step(ladder, site)
    assert ladder.sites[site].sad.sending == [2]
    assert ladder.sites[other].sad.sending == [1]
    # INFORMATIONAL: DELETE -->
    step(ladder, other)
    assert ladder.sites[other].sad.sending == [2]
    # <-- INFORMATIONAL: DELETE
    step(ladder, site)
    assert {1, 2} == set(ladder.a.sad.inbound) == set(ladder.b.sad.inbound)  # what is under way may still come in
    assert (ladder.a.sends_to(), ladder.b.sends_to()) != before
    done(ladder)
    assert Kind.CHILD_DOWN not in ladder.a.kinds() + ladder.b.kinds()


def test_simultaneous_child_rekeys_end_in_the_one_with_the_higher_lowest_nonce():
    outcomes = set()
    for seed in range(12):
        ladder = Ladder(seed=seed).up()
        rekey(ladder, "a")
        rekey(ladder, "b")
        # CREATE_CHILD_SA -->  <-- CREATE_CHILD_SA, crossing
        step(ladder, "b")
        step(ladder, "a")
        # both answer
        step(ladder, "b")
        step(ladder, "a")
        # the loser's initiator deletes its own, the winner's the old one
        done(ladder)
        (child,) = ladder.a.status[0].children
        outcomes.add(ladder.a.sad.outbound[child.child].spi)
        deletes = [m for m in ladder.messages() if "INFORMATIONAL" in m and not m.endswith("-")]
        assert sorted(deletes) == ["ab INFORMATIONAL", "ba INFORMATIONAL"]
    assert len(outcomes) == 2  # either side wins at times


def test_a_rekey_that_the_peers_rekey_overtook():
    """B has not seen A's request when it finishes its own rekey and deletes the old SA (RFC 7296 §2.25.1)."""
    ladder = Ladder().up()
    ladder.wire.hold("a", "b", 3)
    rekey(ladder, "a")  # held
    rekey(ladder, "b")
    # <-- CREATE_CHILD_SA, CREATE_CHILD_SA -->, <-- DELETE of the old SA
    step(ladder, "a")
    step(ladder, "b")
    step(ladder, "a")
    # DELETE -->, and only now A's request for an SA that B no longer has
    ladder.wire.release("a", "b", 3)
    done(ladder)


def test_a_request_to_rekey_what_is_being_deleted_meets_temporary_failure():
    ladder = Ladder().up()
    ladder.wire.hold("b", "a", 3)
    (child,) = ladder.b.sad.sending
    # <-- DELETE (held), CREATE_CHILD_SA: REKEY_SA -->
    ladder.b.do(ladder.b.core.delete_child("to-a", child, ladder.clock()))
    rekey(ladder, "a")
    assert ladder.deliver("b")
    # <-- TEMPORARY_FAILURE, then the DELETE
    assert ladder.deliver("a")
    ladder.wire.release("b", "a", 3)
    ladder.run(30)
    assert not ladder.a.sad.inbound
    assert not ladder.b.sad.inbound
    assert not ladder.a.sad.reserved


def test_a_rekey_of_what_the_peer_does_not_have_ends_it_here_too():
    """CHILD_SA_NOT_FOUND (RFC 7296 §2.25)."""
    ladder = Ladder().up()
    (child,) = ladder.b.sad.sending
    session = ladder.b.core.sessions("to-a")[0]
    session.children.clear()  # B lost it
    rekey(ladder, "a")
    ladder.settle()
    assert ladder.a.events[-1].kind is Kind.CHILD_DOWN
    assert not ladder.a.sad.inbound
    assert child


def test_a_delete_that_arrives_right_behind_the_response():
    """The peer deletes the old SA itself, and its DELETE overtakes its response (seen in the field: by under a millisecond)."""
    ladder = Ladder().up()
    rekey(ladder, "a")
    ladder.wire.hold("b", "a", 3)
    ladder.deliver("b")  # the response is held
    (old,) = [number for number in ladder.b.sad.inbound if number == 1]
    ladder.b.do(ladder.b.core.delete_child("to-a", old, ladder.clock()))
    # <-- INFORMATIONAL: DELETE of the old SA
    ladder.deliver("a")
    ladder.wire.release("b", "a", 3)
    # <-- CREATE_CHILD_SA
    ladder.settle()
    ladder.run(30)
    ladder.check()
    assert ladder.a.sad.sending == ladder.b.sad.sending == [2]


@pytest.mark.parametrize("site", SIDES)
def test_ike_rekey_takes_the_child_sas_over(site):
    ladder = Ladder().up()
    old = ladder.a.status[0].spi_i
    keys = ladder.a.sends_to()
    rekey(ladder, site, ike=True)
    # CREATE_CHILD_SA -->, <-- CREATE_CHILD_SA
    step(ladder, OTHER[site])
    step(ladder, site)
    # INFORMATIONAL: DELETE of the old IKE SA -->, <-- INFORMATIONAL
    step(ladder, OTHER[site])
    step(ladder, site)
    done(ladder)
    assert ladder.a.status[0].spi_i != old
    assert ladder.a.sends_to() == keys  # CHILD_SAs are not touched
    assert ladder.sites[site].status[0].role == "initiator"
    for one in ladder.sites.values():
        assert one.kinds().count(Kind.IKE_REKEYED) == 1
        assert Kind.IKE_DOWN not in one.kinds()
    # the new IKE SA is as good as the old one: it rekeys the CHILD_SA
    rekey(ladder, OTHER[site])
    done(ladder)


def test_simultaneous_ike_rekeys_end_in_one():
    winners = set()
    for seed in range(12):
        ladder = Ladder(seed=seed).up()
        rekey(ladder, "a", ike=True)
        rekey(ladder, "b", ike=True)
        # CREATE_CHILD_SA -->  <-- CREATE_CHILD_SA, crossing
        step(ladder, "b")
        step(ladder, "a")
        # both answer; the lower nonce goes; both delete
        done(ladder)
        winners.add(ladder.a.status[0].role)
        assert Kind.IKE_DOWN not in ladder.a.kinds() + ladder.b.kinds()
        rekey(ladder, "a")
        done(ladder)
    assert winners == {"initiator", "responder"}


def test_an_ike_rekey_that_the_peers_rekey_overtook():
    ladder = Ladder().up()
    ladder.wire.hold("a", "b", 3)
    rekey(ladder, "a", ike=True)  # held
    rekey(ladder, "b", ike=True)
    ladder.settle()
    ladder.wire.release("a", "b", 3)
    done(ladder)
    assert Kind.IKE_DOWN not in ladder.a.kinds() + ladder.b.kinds()


@pytest.mark.parametrize("ike_first", [True, False])
def test_a_child_rekey_and_an_ike_rekey_that_cross_meet_temporary_failure_and_come_again(ike_first):
    """RFC 7296 §2.25.2."""
    ladder = Ladder().up()
    rekey(ladder, "a", ike=ike_first)
    rekey(ladder, "b", ike=not ike_first)
    done(ladder)
    for one in ladder.sites.values():
        assert Kind.IKE_REKEYED in one.kinds()
        assert Kind.CHILD_REKEYED in one.kinds()


def test_soft_limits_rekey_both_sas_before_they_end():
    """Four hours at one hour's and ten minutes' lifetimes; every switch is whole."""
    lives = {"ike_life": Life(3600.0), "child_life": Life(600.0)}
    ladder = Ladder(a=[peer("a", **lives)], b=[peer("b", **lives)]).up()
    ladder.run(4 * 3600, step=None)
    ladder.check()
    for one in ladder.sites.values():
        assert one.kinds().count(Kind.IKE_REKEYED) >= 4
        assert one.kinds().count(Kind.CHILD_REKEYED) >= 24
        assert Kind.CHILD_DOWN not in one.kinds()
        assert Kind.IKE_DOWN not in one.kinds()
        assert len(one.sad.inbound) <= 2


def test_the_side_that_made_an_sa_rekeys_it_first():
    """Both would begin at once if margins did not differ by role: two hours of it without one collision."""
    ladder = Ladder(a=[peer("a", child_life=Life(100.0))], b=[peer("b", child_life=Life(100.0))]).up()
    ladder.run(7200)
    requests = [m for m in ladder.messages() if m.endswith("CREATE_CHILD_SA")]
    assert len(requests) >= 70
    assert set(requests) == {"ab CREATE_CHILD_SA"}


@pytest.mark.parametrize("site", SIDES)
def test_a_soft_limit_of_the_data_plane_rekeys(site):
    ladder = Ladder().up()
    who = ladder.sites[site]
    (child,) = who.sad.sending
    who.do(who.core.soft_limit(who.tunnel, child, ladder.clock()))
    who.do(who.core.soft_limit(who.tunnel, child, ladder.clock()))  # told twice, done once
    done(ladder)
    assert who.kinds().count(Kind.CHILD_REKEYED) == 1


def test_a_hard_limit_ends_a_child_sa_at_once_and_a_started_tunnel_makes_another():
    ladder = Ladder(a=[peer("a", start="start")]).up()
    (child,) = ladder.a.sad.sending
    ladder.a.do(ladder.a.core.hard_limit("to-b", child, ladder.clock()))
    assert not ladder.a.sad.inbound  # before any answer
    ladder.settle()
    ladder.run(30)
    ladder.check()
    assert [e.cause for e in ladder.a.events if e.kind is Kind.CHILD_DOWN] == [Cause.LIFETIME]


def _unheard(ladder, seconds):
    """Time passes and no datagram is delivered."""
    end = ladder.clock() + seconds
    while ladder.clock() < end:
        ladder.clock.advance(0.05)
        for site in ladder.sites.values():
            site.do(site.core.timer(ladder.clock()))


@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
def test_a_lifetime_of_a_second_leaves_a_rekey_the_time_it_takes(ike):
    """As on a machine so busy that an exchange takes seconds: what is being replaced goes on, at both ends, until it is done."""
    life = {"ike_life" if ike else "child_life": Life(1.0)}
    ladder = Ladder(a=[peer("a", **life)], b=[peer("b", **life)]).up()
    ends = {name: (site.receives_on(), site.sends_to()) for name, site in ladder.sites.items()}
    _unheard(ladder, 4.0)
    assert {name: (site.receives_on(), site.sends_to()) for name, site in ladder.sites.items()} == ends
    ladder.settle()
    ladder.check()
    for site in ladder.sites.values():
        assert {Kind.CHILD_DOWN, Kind.IKE_DOWN}.isdisjoint(site.kinds())
        assert (Kind.IKE_REKEYED if ike else Kind.CHILD_REKEYED) in site.kinds()


@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
def test_a_peer_that_does_not_answer_a_rekey_puts_the_end_off_once(ike):
    """An IKE SA's CHILD_SAs have a minute more, in which another IKE SA may take over (`test_ladder_expired`)."""
    life = {"ike_life" if ike else "child_life": Life(1.0)}
    ladder = Ladder(a=[peer("a", **life)], b=[peer("b")]).up()
    for _ in range(1 + int(lifetimes.REKEY_TIME + expiry.KEEP * ike)):
        _unheard(ladder, 1.0)
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))  # asking again does not help
    assert not ladder.a.sad.sending
    assert not ladder.a.sad.inbound


def test_hard_limits_end_what_could_not_be_rekeyed():
    """The peer is cut off: the keys are not used beyond their life."""
    ladder = Ladder(a=[peer("a", child_life=Life(60.0))]).up()
    for one in SIDES:
        ladder.wire.cut(one, OTHER[one])
    ladder.run(62)
    assert not ladder.a.sad.inbound
    assert not ladder.a.sad.outbound
    assert TUNNEL["a"] == ladder.a.tunnel


def test_the_ike_sa_is_rekeyed_before_message_ids_run_out():
    ladder = Ladder(a=[peer("a")], b=[peer("b")]).up()
    for site, name in ((ladder.a, "to-b"), (ladder.b, "to-a")):
        session = site.core.sessions(name)[0]
        session.window.next_id = 0xFFFF_FFF0 if site is ladder.a else session.window.next_id
        session.window.expected = 0xFFFF_FFF0 if site is ladder.b else session.window.expected
    rekey(ladder, "a")
    ladder.settle()
    ladder.a.do(ladder.a.core.sessions("to-b")[0].timer(ladder.clock()))
    done(ladder)
    assert Kind.IKE_REKEYED in ladder.a.kinds()
