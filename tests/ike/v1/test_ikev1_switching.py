"""When a side sends by a new pair of IPsec SAs, and what a peer does that deletes the old one early, late or never."""

from math import inf

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.environment import Activity
from ipsec_dp.ike.lifetimes import GRACE
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.ipsec_sas import AFTER_MESSAGE_3, OVERLAP
from ipsec_dp.ike.v1.wire import Protocol
from tests.ike.ladder import OTHER

from .gateways import Gateways, peer, texts
from .isakmp_peer import sealed


def renewing(first="a", renews="a"):
    """Up for a while; then `renews` begins, and all messages have come."""
    gateways = Gateways().start(first)
    gateways.run(60)
    who = gateways.sites[renews]
    who.do(who.core.rekey(who.tunnel, gateways.clock()))
    gateways.settle()
    return gateways


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("renews", ["a", "b"])
def test_the_responder_sends_with_message_3_and_the_initiator_when_it_was_read(first, renews):
    """So nothing comes on the new one to a responder that receives on it once it has read message 3."""
    gateways = renewing(first, renews)
    who, other = gateways.sites[renews], gateways.sites[OTHER[renews]]
    assert (who.sad.sending, other.sad.sending) == ([1], [2])
    gateways.run(AFTER_MESSAGE_3 - 0.01)
    assert who.sad.sending == [1]
    gateways.run(0.02)
    assert (who.sad.sending, other.sad.sending) == ([2], [2])
    gateways.check()
    assert len(texts(who, Kind.CHILD_REKEYED)) == len(texts(other, Kind.CHILD_REKEYED)) == 1


def test_the_first_one_is_sent_by_with_message_3():
    """Packets wait for it."""
    gateways = Gateways().start()
    assert gateways.installs("a") == ["InstallInbound", "InstallOutbound", "SwitchOutbound"]


def test_one_whose_octets_are_soon_used_up_is_not_waited_for():
    gateways = Gateways().start()
    gateways.run(60)
    gateways.a.do(gateways.a.core.soft_limit("to-b", 1, gateways.clock()))
    gateways.settle()
    assert (gateways.a.sad.sending, gateways.b.sad.sending) == ([2], [2])


def test_one_that_waits_to_be_sent_by_is_not_made_twice():
    gateways = renewing()
    asked = len(gateways.modes())
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    gateways.run(AFTER_MESSAGE_3 / 2)
    assert len(gateways.modes()) == asked


def test_when_the_old_one_is_used_up_meanwhile_the_new_one_is_there():
    """A hard limit of octets or packets: no moment without an SA."""
    gateways = renewing()
    gateways.a.do(gateways.a.core.hard_limit("to-b", 1, gateways.clock()))
    assert gateways.a.sad.sending == [2]
    assert list(gateways.a.sad.inbound) == [2]
    gateways.run(OVERLAP + GRACE + 1)
    gateways.check()
    assert Kind.CHILD_DOWN not in gateways.a.kinds() + gateways.b.kinds()


def deletes(gateways, site, child):
    """The other side deletes one, whatever it holds of it itself."""
    who, (session,) = gateways.sites[site], gateways.sites[site].core.ikev1.sessions(gateways.sites[site].tunnel)
    spi = who.sad.outbound[child].spi.to_bytes(4, "big")
    who.do(who.core.receive(sealed(session, [p.DeletePayload(Protocol.ESP, (spi,))]), gateways.path(site), gateways.clock()))


def test_a_peer_that_deletes_the_old_one_early_makes_us_send_by_the_new_one():
    """As initiator before our time, as responder before message 3 has come."""
    gateways = renewing()
    deletes(gateways, "a", 1)
    assert gateways.a.sad.sending == [2]
    assert Kind.CHILD_DOWN not in gateways.a.kinds()
    gateways = Gateways().start()
    gateways.run(60)
    gateways.wire.drop("a", "b", *range(gateways.wire.sent("a", "b") + 2, 90))  # message 3
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    gateways.settle()
    assert gateways.b.sad.sending == [1]
    deletes(gateways, "b", 1)
    assert gateways.b.sad.sending == [2]
    assert Kind.CHILD_DOWN not in gateways.b.kinds()


def test_a_peer_that_deletes_late_finds_it():
    """As responder we leave the old one to whoever renewed it, and receive on it until then."""
    gateways = renewing(renews="b")
    gateways.wire.cut("b", "a")
    gateways.run(300)
    assert sorted(gateways.a.sad.inbound) == [1, 2]
    gateways.wire.mend("b", "a")
    (session,) = gateways.a.core.ikev1.sessions("to-b")
    spi = session.peering.sas[1].spi_out.to_bytes(4, "big")
    deletion = sealed(session, [p.DeletePayload(Protocol.ESP, (spi,))])
    gateways.a.do(gateways.a.core.receive(deletion, gateways.path("a"), gateways.clock()))
    gateways.run(GRACE + 1)
    assert list(gateways.a.sad.inbound) == [2]
    assert Kind.CHILD_DOWN not in gateways.a.kinds()


def test_one_that_a_peer_never_deletes_goes_with_its_hard_limit():
    short = {"child_life": Life(200.0)}
    gateways = Gateways([peer("a", **short)], [peer("b", **short)]).start()
    gateways.run(60)
    gateways.b.do(gateways.b.core.rekey("to-a", gateways.clock()))
    gateways.settle()
    gateways.wire.cut("b", "a")
    gateways.run(138)
    assert sorted(gateways.a.sad.inbound) == [1, 2]
    gateways.run(4)
    assert 1 not in gateways.a.sad.inbound
    assert Kind.CHILD_DOWN not in gateways.a.kinds()


@pytest.mark.parametrize("seed", range(8))
def test_of_two_at_once_one_stays_wherever_the_wire_is_slow(seed):
    """Both begin before either hears of it; the messages of one are late by more than the time after message 3."""
    gateways = Gateways(seed=seed).start()
    gateways.run(60)
    for slow in ("a", "b"):
        for site in gateways.sites.values():
            site.do(site.core.rekey(site.tunnel, gateways.clock()))
        first = gateways.wire.sent(slow, OTHER[slow]) + 1
        gateways.wire.drop(slow, OTHER[slow], first, first + 1)
        gateways.run(60)
        gateways.check()
    for site in gateways.sites.values():
        assert len(site.sad.sending) == len(site.sad.inbound) == 1
        assert Kind.CHILD_DOWN not in site.kinds()


def test_esp_on_the_new_one_shows_the_responder_as_much_as_message_3():
    gateways = Gateways().start()
    gateways.run(60)
    gateways.wire.drop("a", "b", *range(gateways.wire.sent("a", "b") + 2, 90))
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    gateways.run(AFTER_MESSAGE_3 + 0.1)
    assert (gateways.a.sad.sending, gateways.b.sad.sending) == ([2], [1])
    gateways.b.activity[2] = Activity(gateways.clock(), -inf)
    gateways.run(1.0)
    assert gateways.b.sad.sending == [2]
