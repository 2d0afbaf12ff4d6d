"""Two quick modes at once for one proxy ID on a wire that loses some of their messages: both sides send by what the other receives
on, and neither has a CHILD_SA down."""

from random import Random

import pytest

from ipsec_dp.ike.actions import Kind
from tests.ike.ladder import OTHER

from .gateways import Gateways, peer


def crossing(seed, a=(), b=()):
    """Up for a while, and both sides begin before either hears of it. `a`, `b`: which of their messages from then on are lost."""
    gateways = Gateways([peer("a", start="start")], [peer("b", start="start")], seed=seed).start()
    gateways.run(60)
    for sender, lost in (("a", a), ("b", b)):
        before = gateways.wire.sent(sender, OTHER[sender])
        gateways.wire.drop(sender, OTHER[sender], *(before + number for number in lost))
    for site in gateways.sites.values():
        site.do(site.core.rekey(site.tunnel, gateways.clock()))
    return gateways


def agreed(gateways):
    gateways.check()
    for site in gateways.sites.values():
        assert len(site.sad.sending) == 1
        assert Kind.CHILD_DOWN not in site.kinds()


@pytest.mark.parametrize("seed", range(8))
def test_a_message_3_that_comes_after_the_other_quick_mode(seed):
    """a has made its own when b's comes, and b does not know it: what is b's only successor to a is at once with a's to b."""
    gateways = crossing(seed, a=(2,), b=(1, 4, 6))
    gateways.run(60)
    agreed(gateways)


@pytest.mark.parametrize("seed", range(8))
def test_the_peers_spare_sends_again_when_ours_ends(seed):
    gateways = crossing(seed, a=(1,))
    gateways.run(2.0)
    (ours,) = gateways.a.sad.sending
    spi = gateways.a.sad.outbound[ours].spi
    (theirs,) = (number for number, install in gateways.b.sad.inbound.items() if install.spi == spi)
    gateways.b.do(gateways.b.core.delete_child("to-a", theirs, gateways.clock()))
    gateways.run(30)
    gateways.check()
    assert gateways.a.sad.sending != [ours]


@pytest.mark.parametrize("seed", range(60))
def test_a_wire_that_loses_a_quarter(seed):
    gateways = crossing(seed)
    chance, lossy = Random(seed), [True]
    gateways.loses = lambda: lossy[0] and chance.random() < 0.25
    gateways.run(60)
    lossy[0] = False
    gateways.run(30)
    gateways.check()


def test_a_quick_mode_whose_message_3_never_comes_is_deleted_with_the_peer():
    """It believes that it is up, and sends by it."""
    gateways = Gateways([peer("a", start="start")]).start()
    gateways.run(60)
    after = gateways.wire.sent("a", "b") + 1
    gateways.wire.drop("a", "b", *range(after + 1, after + 10))
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    gateways.run(180)
    gateways.check()
