"""The hard limit of an IKE SA with a request under way: another one is made beside it at once, and its CHILD_SAs go on until that
has authenticated; not beyond any limit of theirs, and not for long.

A's IKE SA is rekeyed after 95 s, its hard limit is ten seconds later; B is there, and does not answer on it.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.peer import Life, Liveness, SharedKeyAuth
from ipsec_dp.ike.v2 import expiry
from ipsec_dp.ike.v2.sa import State

from .ladder import OTHER, Ladder, peer
from .test_ladder_auth import ca, signed
from .test_ladder_reauth import carries, step_by_step

__all__ = ["ca"]  # a fixture

REKEYED_AT, OVER_AT = 95.0, 106.0  # seconds from the start
LIFE = {"ike_life": Life(100.0, soft_s=REKEYED_AT), "child_life": Life(9999.0)}
OTHERS = {"ike_life": Life(9999.0), "child_life": Life(9999.0)}


def ladder_of(site="a", **changes):
    """Up, begun by A; it is `site` whose IKE SA ends."""
    return Ladder(**{site: [peer(site, **(LIFE | changes))], OTHER[site]: [peer(OTHER[site], **OTHERS)]}).up()


def deaf(ladder, site, monkeypatch):
    """`site` hears nothing more on the IKE SA that is up."""
    core, spi = ladder.sites[site].core, ladder.a.status[0].spi_i
    receive = core.receive
    monkeypatch.setattr(core, "receive", lambda datagram, *more: [] if datagram[:8] == spi else receive(datagram, *more))
    return spi


def silence(ladder):
    for sender in "ab":
        ladder.wire.cut(sender, OTHER[sender])


def speech(ladder):
    for sender in "ab":
        ladder.wire.mend(sender, OTHER[sender])


def begun(ladder):
    """IKE_SA_INIT requests of both."""
    return [message for message in ladder.messages() if message.endswith("IKE_SA_INIT")]


def first(ladder, site="a"):
    return ladder.sites[site].core.sessions()[0]


def over(ladder, site="a"):
    """The hard limit is reached."""
    step_by_step(ladder, OVER_AT)
    assert first(ladder, site).state is State.EXPIRED
    return ladder


@pytest.mark.parametrize("site", ["a", "b"])
def test_another_is_made_beside_it_at_once_and_nothing_is_lost(site, monkeypatch):
    ladder = ladder_of(site, start="start")
    spi = deaf(ladder, OTHER[site], monkeypatch)
    step_by_step(ladder, OVER_AT)
    assert begun(ladder) == ["ab IKE_SA_INIT", f"{site}{OTHER[site]} IKE_SA_INIT"]
    assert [status.spi_i != spi for status in ladder.sites[site].ups][-1]
    told = [event.text for event in ladder.sites[site].events if event.kind is Kind.WARNING]
    assert len(told) == 2, "and before that, that it is not answered"
    assert told[1].startswith("the IKE SA reached its hard limit while 192.0.2.")
    assert "had not answered CREATE_CHILD_SA; its CHILD_SAs go on for at most 60 s" in told[1]
    step_by_step(ladder, 80)
    ladder.check()
    assert len(begun(ladder)) == 2
    for one in ladder.sites.values():
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN, Kind.IKE_FAILED}.isdisjoint(one.kinds())
        assert one.core.counters().sessions == 1
        assert len(one.sad.inbound) == len(one.sad.sending) == 1


def test_what_was_under_way_may_be_answered_after_all():
    """The new IKE SA of the rekey takes over, and then the one that was begun beside it."""
    ladder = ladder_of()
    step_by_step(ladder, REKEYED_AT - 1)
    ladder.wire.hold("b", "a", 3)
    ladder.wire.drop("b", "a", *range(4, 8))  # each repetition, and the answer to IKE_SA_INIT
    step_by_step(ladder, OVER_AT - REKEYED_AT + 1)
    assert first(ladder).state is State.EXPIRED
    ladder.wire.release("b", "a", 3)
    step_by_step(ladder, 80)
    ladder.check()
    assert Kind.IKE_REKEYED in ladder.a.kinds()
    for one in ladder.sites.values():
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(one.kinds())
        assert one.core.counters().sessions == 1


def test_a_side_that_may_not_call_waits_for_the_peer_to(monkeypatch):
    """A authenticates anew a few seconds later."""
    ladder = Ladder(a=[peer("a", **OTHERS, reauth_s=108.0)], b=[peer("b", **LIFE, start="respond")]).up()
    deaf(ladder, "a", monkeypatch)
    over(ladder, "b")
    assert begun(ladder) == ["ab IKE_SA_INIT"]
    step_by_step(ladder, 100)
    ladder.check()
    assert begun(ladder) == ["ab IKE_SA_INIT"] * 2
    assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(ladder.b.kinds())


def test_a_person_may_call_for_it(monkeypatch):
    ladder = ladder_of("b", start="respond")
    deaf(ladder, "a", monkeypatch)
    over(ladder, "b")
    ladder.initiate("b")
    step_by_step(ladder, 100)
    ladder.check()
    assert begun(ladder) == ["ab IKE_SA_INIT", "ba IKE_SA_INIT"]
    assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(ladder.b.kinds())


# ---- not for long


def until_gone(ladder, seconds):
    """Seconds from now until A receives on nothing more."""
    began = ladder.clock()
    while ladder.a.sad.inbound and ladder.clock() < began + seconds:
        ladder.run(0.5)
    assert not ladder.a.sad.inbound
    return ladder.clock() - began


def test_its_child_sas_end_after_a_minute():
    ladder = ladder_of()
    silence(ladder)
    over(ladder)
    assert expiry.KEEP - 2 <= until_gone(ladder, 100) <= expiry.KEEP
    assert ladder.a.causes()[-1] is Cause.LIFETIME
    assert [event.again for event in ladder.a.events if event.kind is Kind.IKE_DOWN] == [True]


def test_a_request_that_is_given_up_meanwhile_ends_nothing():
    """Its last repetition comes before the minute is over; the peer is there again after half of it."""
    ladder = ladder_of(ike_life=Life(100.0, soft_s=40.0))
    silence(ladder)
    step_by_step(ladder, 130)
    assert first(ladder).state is State.EXPIRED
    assert first(ladder).task is None
    speech(ladder)
    step_by_step(ladder, 100)
    ladder.check()
    assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(ladder.a.kinds())


def test_each_to_its_own_hard_limit():
    ladder = ladder_of(child_life=Life(120.0, soft_s=119.0))
    silence(ladder)
    over(ladder)
    assert 120 - OVER_AT - 1 <= until_gone(ladder, 100) <= 120 - OVER_AT + 1
    assert State.EXPIRED not in [session.state for session in ladder.a.core.sessions()]


def test_never_beyond_limits_of_use():
    ladder = ladder_of()
    silence(ladder)
    over(ladder)
    (child,) = ladder.a.sad.sending
    ladder.a.do(ladder.a.core.hard_limit("to-b", child, ladder.clock()))
    assert not ladder.a.sad.inbound


def test_an_authentication_failure_ends_them_at_once(monkeypatch):
    ladder = ladder_of()
    deaf(ladder, "b", monkeypatch)
    step_by_step(ladder, REKEYED_AT + 1)
    ladder.b.core.set_peers([peer("b", **OTHERS, auth=SharedKeyAuth(PreSharedKey.from_text("a secret that is new at B")))])
    ladder.run(OVER_AT - REKEYED_AT)
    assert not ladder.a.sad.inbound
    assert set(ladder.a.causes()) == {Cause.AUTHENTICATION}


def test_terminate_ends_them_at_once():
    ladder = ladder_of()
    silence(ladder)
    over(ladder)
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    assert not ladder.a.sad.inbound
    assert ladder.a.core.counters().sessions == 0
    assert ladder.a.causes() == [Cause.LOCAL] * 2


def test_reauth_after_ends_them():
    """Nobody has proven who it is for so long."""
    ladder = ladder_of(reauth_s=130.0)
    silence(ladder)
    over(ladder)
    assert 130 - OVER_AT - 1 <= until_gone(ladder, 100) <= 130 - OVER_AT + 1


def test_the_end_of_the_peer_s_certificate_ends_them(ca):
    peers = {site: replace(signed(ca, site), **life) for site, life in (("a", LIFE), ("b", OTHERS))}
    end = peers["b"].auth.credential.certificates[0].not_valid_after_utc
    ladder = Ladder(**{site: [one] for site, one in peers.items()}, epoch=end - timedelta(seconds=1000 + OVER_AT + 20)).up()
    silence(ladder)
    over(ladder)
    assert 18 <= until_gone(ladder, 100) <= 21


# ---- nothing new on it


def test_nothing_new_is_asked_or_answered_on_it(monkeypatch):
    ladder = ladder_of("b", start="respond", liveness=Liveness(5.0))
    step_by_step(ladder, REKEYED_AT - 3)
    deaf(ladder, "a", monkeypatch)
    step_by_step(ladder, OVER_AT - REKEYED_AT + 3)
    assert first(ladder, "b").state is State.EXPIRED
    sent = ladder.wire.sent("b", "a")
    for ike in (False, True):
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))
    ladder.b.do(ladder.b.core.rekey("to-a", ladder.clock()))
    assert ladder.deliver("b")
    assert ladder.wire.sent("b", "a") == sent + 1  # TEMPORARY_FAILURE
    assert len(ladder.b.sad.inbound) == 1
    carries(ladder)
    step_by_step(ladder, 50)
    assert set(ladder.messages("b")[sent:]) <= {"ba CREATE_CHILD_SA-", "ba INFORMATIONAL"}  # the one under way, again
