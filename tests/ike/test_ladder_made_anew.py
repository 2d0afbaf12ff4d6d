"""An IKE SA with additional key exchanges is not rekeyed: another one is made in its place, with the same (RFC 7296 §1.3)."""

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.v2.ike_rekey import IkeRekey

from .test_ladder_intermediate import ONE, OPTIONAL, WITHOUT, agreed, ladder_of


def other_ike_sa(ladder, before):
    ladder.check()
    assert agreed(ladder) == ONE
    assert {status.spi_i for site in ladder.sites.values() for status in site.ups}.isdisjoint(before)
    assert all(len(site.sad.sending) == 1 for site in ladder.sites.values())


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_rekey_of_the_ike_sa_makes_another_with_the_same_rounds(site):
    ladder = ladder_of(ONE, start="start").up()
    before = {status.spi_i for status in ladder.a.ups}
    who = ladder.sites[site]
    who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=True))
    ladder.run(20)
    other_ike_sa(ladder, before)
    assert "ab CREATE_CHILD_SA" not in ladder.messages()


def test_it_is_made_in_time_by_itself():
    ladder = ladder_of(ONE, ike_life=Life(600.0)).up()
    before = {status.spi_i for status in ladder.a.ups}
    ladder.run(590)
    other_ike_sa(ladder, before)
    assert Kind.IKE_DOWN not in ladder.a.kinds()


def test_a_peer_that_asks_for_a_rekey_is_told_to_make_another():
    """NO_ADDITIONAL_SAS (RFC 7296 §1.3): the IKE SA goes on, and never becomes one without additional key exchanges."""
    ladder = ladder_of(OPTIONAL, start="start").up()
    before = {status.spi_i for status in ladder.a.ups}
    (session,) = ladder.a.core.sessions()
    session.enqueue(IkeRekey())
    session.send_next(ladder.clock())
    ladder.a.do(session.take())
    ladder.settle()
    assert ladder.messages().count("ab CREATE_CHILD_SA") == 1
    assert any("a new IKE SA is made instead" in event.text for event in ladder.a.events)
    ladder.run(20)
    other_ike_sa(ladder, before)


def test_a_side_that_never_calls_says_that_the_peer_is_to():
    ladder = ladder_of(ONE, start="respond").up()
    for _ in range(2):
        ladder.b.do(ladder.b.core.rekey("to-a", ladder.clock(), ike=True))
        ladder.run(1)
    told = [event.text for event in ladder.b.events if event.kind is Kind.WARNING]
    assert len(told) == 1
    assert "the peer, which calls, is to make another one" in told[0]


def test_where_the_exchange_was_left_out_a_rekey_offers_none():
    ladder = ladder_of(OPTIONAL, WITHOUT).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.run(5)
    ladder.check()
    assert agreed(ladder) == WITHOUT
    assert "ab CREATE_CHILD_SA" in ladder.messages()


def test_the_child_sas_of_it_are_rekeyed_as_ever():
    ladder = ladder_of(ONE).up()
    before = ladder.a.sends_to()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(5)
    ladder.check()
    assert ladder.a.sends_to() != before
