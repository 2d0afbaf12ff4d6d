"""Whose keys a key log hears of: those of IKE SAs that we began, and of peers that have proven who they are; never a stranger's."""

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.peer import SharedKeyAuth

from .ladder import Ladder, peer
from .test_ladder_intermediate import ONE, ladder_of


def spis(site):
    return {spi for spi, _ in site.keys.told}


def test_who_calls_tells_at_once_and_who_is_called_when_the_peer_is_proven():
    ladder = Ladder()
    ladder.initiate()
    ladder.deliver("b")  # IKE_SA_INIT
    ladder.deliver("a")
    assert len(ladder.a.keys.told) == 1
    assert ladder.b.keys.told == []
    ladder.deliver("b")  # IKE_AUTH
    assert set(ladder.b.keys.told) == set(ladder.a.keys.told)


def test_a_stranger_who_only_agrees_on_keys_leaves_no_line():
    ladder = Ladder(a=[peer("a", auth=SharedKeyAuth(PreSharedKey.from_text("a secret that nobody else knows")))])
    ladder.initiate()
    ladder.settle()
    assert ladder.b.keys.told == []
    assert len(ladder.a.keys.told) == 1


def test_new_keys_of_a_rekey_are_told_by_both():
    ladder = Ladder().up()
    before = spis(ladder.a)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.run(5)
    (new,) = spis(ladder.a) - before
    assert new in spis(ladder.b)
    assert {told for told in ladder.a.keys.told if told[0] == new} == {told for told in ladder.b.keys.told if told[0] == new}


def test_the_keys_of_the_last_additional_exchange_are_the_last_ones_told():
    """IKE_AUTH is protected by them (RFC 9370 §2.2.2)."""
    ladder = ladder_of(ONE).up()
    assert ladder.a.keys.told[-1] == ladder.b.keys.told[-1]
    assert len(set(ladder.a.keys.told)) == 2
