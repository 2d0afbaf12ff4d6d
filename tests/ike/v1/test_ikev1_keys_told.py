"""A key log hears of ISAKMP SAs as of IKE SAs: of those that we began at once, of others when the peer is proven."""

import pytest

from .gateways import Gateways, aggressive, peer


@pytest.mark.parametrize("mode", [peer, aggressive])
def test_both_tell_the_same_key_of_an_isakmp_sa(mode):
    gateways = Gateways(a=[mode("a")], b=[mode("b")]).start()
    assert set(gateways.a.keys.told) == set(gateways.b.keys.told)
    assert len(set(gateways.a.keys.told)) == 1


def test_who_is_called_tells_nothing_before_the_peer_is_proven():
    gateways = Gateways()
    gateways.initiate("a")
    for receiver in "baba":  # four messages: keys are agreed on
        gateways.deliver(receiver)
    assert len(gateways.a.keys.told) == 1
    assert gateways.b.keys.told == []
    gateways.settle()
    assert set(gateways.b.keys.told) == set(gateways.a.keys.told)
