"""Authenticating anew, make-before-break (RFC 7296 §2.8.3): beside the old IKE SA, then in its place, in both roles, over faults.

At every moment each side sends where the other receives: that is what "no packet is lost" means on an in-memory wire.
"""

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.peer import Life, Unique
from ipsec_dp.ike.traffic_selectors import ProxyId
from ipsec_dp.ike.v2 import child_respond, ts
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.wire import ExchangeType

from .ladder import OTHER, Ladder, packet, peer, proxy_id

LONG = {"ike_life": Life(9999.0), "child_life": Life(9999.0)}
TWO = {
    "a": (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.1.0/24", "10.2.1.0/24")),
    "b": (proxy_id("10.2.0.0/24", "10.1.0.0/24"), proxy_id("10.2.1.0/24", "10.1.1.0/24")),
}


def ladder_of(reauth=("a",), seed=0, **changes):
    """Up, begun by A. `reauth`: the sites that authenticate anew after 100 s."""
    peers = {site: [peer(site, **(LONG | {"reauth_s": 100.0 * (site in reauth)} | changes))] for site in "ab"}
    return Ladder(**peers, seed=seed).up()


def carries(ladder):
    """What each side sends arrives, and there is one SA that sends for each proxy ID."""
    for one, other in ((ladder.a, ladder.b), (ladder.b, ladder.a)):
        assert one.sad.sending
        for child in one.sad.sending:
            assert one.sad.outbound[child].spi in other.receives_on()


def step_by_step(ladder, seconds):
    """Time passes, and after each datagram and each timer all that is sent arrives."""
    end = ladder.clock() + seconds
    while ladder.clock() < end:
        while ladder.deliver("b") or ladder.deliver("a"):
            carries(ladder)
        times = [at for site in ladder.sites.values() if (at := site.core.next_timeout()) is not None]
        ladder.clock.advance(max(min([*times, end]) - ladder.clock(), 0.0) + 1e-6)
        for site in ladder.sites.values():
            site.do(site.core.timer(ladder.clock()))
            carries(ladder)


def spi(ladder):
    (status,) = ladder.a.ups
    return status.spi_i


def no_ends(ladder):
    for site in ladder.sites.values():
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN, Kind.CHILD_FAILED}.isdisjoint(site.kinds())


@pytest.mark.parametrize("unique", [Unique.REPLACE, Unique.KEEP])
def test_the_old_ike_sa_goes_when_the_new_one_is_up(unique):
    ladder = ladder_of(unique=unique)
    first = spi(ladder)
    step_by_step(ladder, 145)
    # IKE_SA_INIT -->, <--, IKE_AUTH -->, <--, DELETE of the old IKE SA -->, <--
    assert ladder.messages("a")[2:] == ["ab IKE_SA_INIT", "ab IKE_AUTH", "ab INFORMATIONAL"]
    assert spi(ladder) != first
    ladder.check()
    no_ends(ladder)
    for site in ladder.sites.values():
        assert site.core.counters().sessions == 1
        assert len(site.sad.inbound) == len(site.sad.sending) == 1
    assert ladder.a.kinds().count(Kind.IKE_REAUTHENTICATED) == 1


def test_where_any_number_may_stand_side_by_side_it_ends_in_one_too():
    ladder = ladder_of(unique=Unique.NEVER)
    first = spi(ladder)
    ladder.run(145)
    assert spi(ladder) != first
    ladder.check()
    assert ladder.b.core.counters().sessions == 1


def test_the_responder_sends_by_the_old_sa_until_the_peer_has_the_new_one():
    ladder = ladder_of()
    old = ladder.b.sends_to()
    ladder.run(99)
    ladder.clock.advance(7)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    for receiver in "bab":  # up to IKE_AUTH at B; its answer is on its way
        assert ladder.deliver(receiver)
    assert ladder.b.sends_to() == old
    assert len(ladder.b.ups) == 2
    ladder.deliver("a")  # <-- IKE_AUTH
    assert ladder.a.sends_to()[0] in ladder.b.receives_on()
    assert ladder.b.sends_to() == old
    assert set(old) <= set(ladder.a.receives_on())
    ladder.deliver("b")  # DELETE -->
    assert ladder.b.sends_to() != old


@pytest.mark.parametrize("how", ["packets", "patience"])
def test_without_a_delete_packets_or_time_tell_the_responder(how):
    """A peer that lost all it had, but comes from where it was: what it cannot receive is sent for five seconds at the most."""
    ladder = ladder_of(reauth=())
    old = ladder.b.sends_to()
    ladder.a.core.forget(ladder.clock())  # A restarts
    (session,) = ladder.b.core.sessions("to-a")
    ladder.initiate("a")
    ladder.a.core.gateway.first_contact = lambda _session: False
    ladder.settle()
    assert ladder.b.sends_to() == old
    if how == "packets":
        newest = max(ladder.b.sad.inbound)
        ladder.b.activity[newest] = Activity(ladder.clock(), 0.0)
    ladder.run(1.5 if how == "packets" else 6.5)
    assert ladder.b.sends_to() != old
    ladder.run(35)
    assert not session.alive
    assert ladder.b.core.counters().sessions == 1


def test_an_initial_contact_is_never_sent_with_it():
    ladder = ladder_of()
    ladder.run(130)
    assert [session.ends.initial_contact for session in ladder.b.core.sessions("to-a")] == [True, False]  # the first one lingers
    assert Cause.REPLACED not in ladder.b.causes()


def test_every_child_sa_is_there_before_the_switch(monkeypatch):
    """The peer takes one pair at a time: packets stay on the old IKE SA until both new CHILD_SAs are up."""
    monkeypatch.setattr(child_respond, "permitted", lambda *asked: ts.permitted(*asked)[:1])
    ladder = Ladder(
        a=[peer("a", **LONG, proxy_ids=TWO["a"], reauth_s=100.0)],
        b=[peer("b", **LONG, proxy_ids=TWO["b"])],
    ).up()
    old = set(ladder.a.sad.sending)
    assert len(old) == 2
    ladder.run(99)
    ladder.clock.advance(7)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    for receiver in "baba":  # IKE_SA_INIT and IKE_AUTH, and their answers
        assert ladder.deliver(receiver)
    assert len(ladder.a.sad.inbound) == 3
    assert set(ladder.a.sad.sending) == old
    step_by_step(ladder, 30)
    ladder.check()
    assert len(ladder.a.sad.sending) == 2
    assert old.isdisjoint(ladder.a.sad.sending)
    no_ends(ladder)


@pytest.mark.parametrize("fault", ["drop", "double", "delay"])
@pytest.mark.parametrize("reauth", [("a",), ("b",), ("a", "b")])
def test_a_fault_at_any_place_changes_nothing_in_the_end(fault, reauth):
    """`b` alone: the side that was called does it when the other does not."""
    for sender in "ab":
        for number in range(3, 7):
            ladder = Ladder(
                a=[peer("a", **LONG, reauth_s=100.0 * ("a" in reauth))],
                b=[peer("b", **LONG, start="start", reauth_s=100.0 * ("b" in reauth))],
                seed=number,
            ).up()
            first = spi(ladder)
            getattr(ladder.wire, fault)(sender, OTHER[sender], number)
            step_by_step(ladder, 200)
            ladder.run(400)
            ladder.check()
            assert spi(ladder) != first
            no_ends(ladder)
            for site in ladder.sites.values():
                assert site.core.counters().sessions == 1
                assert len(site.sad.inbound) == len(site.sad.sending) == 1


@pytest.mark.parametrize("seed", range(6))
def test_both_at_once_end_in_one_ike_sa(seed):
    ladder = ladder_of(reauth=("a", "b"), seed=seed, start="start")
    for site in ladder.sites.values():
        for session in site.core.sessions(site.tunnel):
            session.deadlines.reauth_at = 50.0
        covered = packet("10.1.0.1", "10.2.0.1") if site is ladder.a else packet("10.2.0.1", "10.1.0.1")
        site.do(site.core.acquire(site.tunnel, covered, ladder.clock()))  # after any call timers are looked at again
    ladder.run(90)
    ladder.check()
    for site in ladder.sites.values():
        assert site.core.counters().sessions == 1
        assert len(site.sad.inbound) == len(site.sad.sending) == 1


def test_a_peer_that_is_silent_meanwhile_keeps_the_old_one_and_it_is_tried_again():
    ladder = ladder_of(reauth_s=1000.0)
    first = spi(ladder)
    ladder.run(990)
    ladder.wire.drop("a", "b", *range(3, 11))
    ladder.run(150)
    assert Kind.IKE_FAILED in ladder.a.kinds()
    assert spi(ladder) != first
    ladder.check()


def test_silence_to_the_new_one_on_port_4500_blames_no_firewall_for_it():
    """The old one goes by that port: what begins there was not led there by ESP in UDP."""
    ladder = ladder_of()
    assert {session.path.natt for site in ladder.sites.values() for session in site.core.sessions()} == {True}
    send = ladder.wire.send

    def lossy(sender, receiver, data):
        if parse_message(data[0]).header.exchange != ExchangeType.IKE_AUTH:
            send(sender, receiver, data)

    ladder.wire.send = lossy
    ladder.run(130)
    began = [one for one in ladder.a.core.sessions() if one.succession.before is not None]
    assert began, "it was tried"
    assert Kind.NO_UDP not in ladder.a.kinds()
    carries(ladder)


def test_an_ike_sa_that_nobody_authenticates_anew_ends():
    """A peer whose secret was withdrawn does not stay up for ever by rekeying."""
    ladder = ladder_of()
    ladder.b.core.set_peers([])
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.run(149)
    assert ladder.a.ups
    ladder.run(10)
    assert not ladder.a.ups
    assert Cause.AUTHENTICATION in ladder.a.causes()
    assert not ladder.a.sad.inbound


def test_a_rekey_does_not_put_it_off():
    ladder = ladder_of()
    ladder.run(90)
    ladder.b.do(ladder.b.core.rekey("to-a", ladder.clock(), ike=True))
    step_by_step(ladder, 20)
    assert ladder.messages("a").count("ab IKE_AUTH") == 2
    assert ladder.a.ups[0].role == "initiator"


def test_a_side_that_only_responds_waits_for_the_peer():
    ladder = ladder_of(reauth=("b",), start="respond")
    ladder.run(148)
    assert ladder.messages("b").count("ba IKE_SA_INIT") == 0
    ladder.run(4)
    assert Cause.AUTHENTICATION in ladder.b.causes()


def test_a_rekey_of_the_old_ike_sa_meanwhile_changes_nothing():
    ladder = ladder_of()
    ladder.run(99)
    ladder.clock.advance(7)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    ladder.deliver("b")
    ladder.b.do(ladder.b.core.rekey("to-a", ladder.clock(), ike=True))
    step_by_step(ladder, 60)
    ladder.check()
    assert ladder.messages("a").count("ab IKE_AUTH") == 2
    for site in ladder.sites.values():
        assert site.core.counters().sessions == 1


def test_the_selectors_of_narrowed_proxy_ids_are_asked_for_again():
    wide = ProxyId(*proxy_id("10.1.0.0/16", "10.2.0.0/16"))
    ladder = Ladder(a=[peer("a", **LONG, proxy_ids=(wide,), reauth_s=100.0)], b=[peer("b", **LONG)]).up()
    step_by_step(ladder, 130)
    ladder.check()
    assert len(ladder.a.sad.sending) == 1
    assert ladder.messages("a").count("ab CREATE_CHILD_SA") == 0
