"""What the core tells whoever looks at datagrams first: each IKE SA, with its key once the peer has proven itself, and its end."""

import pytest

from ipsec_dp.ike.environment import IkeSaTraits
from ipsec_dp.ike.strangers import Cookies

from .ladder import Ladder, peer


def known(site):
    """By our own SPI: whether the peer is authenticated, and whether its messages come to port 4500."""
    return {spi: (traits.authenticated, traits.natt) for spi, traits in site.watcher.known_now.items()}


@pytest.mark.parametrize(("encapsulation", "natt"), [("esp", False), ("auto", True)])
def test_both_ends_are_told_of_as_they_begin_and_again_with_keys_once_they_are_up(encapsulation, natt):
    ladder = Ladder(*([peer(site, encapsulation=encapsulation)] for site in ("a", "b")))
    ladder.initiate()
    (begun,) = ladder.a.watcher.known_now.values()
    assert begun == IkeSaTraits(begun.own_spi, bytes(8), initiator=True, natt=False, authenticated=False)
    ladder.deliver("b")
    (answered,) = ladder.b.watcher.known_now.values()
    assert answered == IkeSaTraits(answered.own_spi, begun.own_spi, initiator=False, natt=False, authenticated=False)
    ladder.settle()
    for site, own, other in ((ladder.a, begun.own_spi, answered.own_spi), (ladder.b, answered.own_spi, begun.own_spi)):
        (traits,) = site.watcher.known_now.values()
        assert traits == IkeSaTraits(own, other, initiator=site is ladder.a, natt=natt, authenticated=True)


def test_the_key_is_that_which_the_peer_seals_with_and_nobody_keeps_it():
    ladder = Ladder().up()
    for site, other in ((ladder.a, ladder.b), (ladder.b, ladder.a)):
        (session,), (peers,) = site.core.sessions(), other.core.sessions()
        (keymat,) = site.watcher.keys.values()
        keys = peers.sa.keys
        assert keymat == (keys.sk_er + keys.sk_ar if session.sa.initiator else keys.sk_ei + keys.sk_ai)
        assert {bytes(key.keymat) for key in site.watcher.given} == {bytes(len(keymat))}
        (key,) = site.watcher.given
        assert (key.encryption, key.integrity) == (session.sa.suite.encryption.id, 0)


def test_it_is_told_once_of_what_stays_as_it_is():
    ladder = Ladder().up()
    before = ladder.b.watcher.calls
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(10.0)
    assert len(ladder.messages()) >= 8
    assert ladder.b.watcher.calls == before


def test_a_rekeyed_ike_sa_is_told_of_and_the_old_one_is_gone_when_nothing_of_it_is_awaited():
    ladder = Ladder().up()
    (first,) = ladder.b.watcher.known_now
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.settle()
    assert set(known(ladder.b).values()) == {(True, True)}
    ladder.run(60.0)
    assert len(known(ladder.b)) == len(known(ladder.a)) == 1
    assert first not in known(ladder.b)


@pytest.mark.parametrize("end", ["terminate", "forget"])
def test_of_what_ended_nothing_is_known(end):
    ladder = Ladder().up()
    core, now = ladder.a.core, ladder.clock()
    ladder.a.do(core.terminate("to-b", now) if end == "terminate" else core.forget(now))
    ladder.run(120.0)
    if end == "forget":
        ladder.b.do(ladder.b.core.forget(ladder.clock()))
    assert known(ladder.a) == known(ladder.b) == {}


def test_half_open_ike_sas_are_known_until_their_time_is_over():
    ladder = Ladder()
    ladder.initiate()
    ladder.deliver("b")
    assert list(known(ladder.b).values()) == [(False, False)]
    ladder.wire.take("a")
    ladder.b.do(ladder.b.core.timer(ladder.clock() + 31.0))
    assert known(ladder.b) == {}


def test_a_path_over_port_4500_is_told():
    ladder = Ladder()
    ladder.initiate(natt=True)
    ladder.settle()
    assert [list(known(site).values()) for site in (ladder.a, ladder.b)] == [[(True, True)]] * 2


def test_the_secret_of_cookies_is_told_at_the_start_and_when_it_is_another():
    """Whoever is told makes cookies that are good here."""
    ladder = Ladder()
    (secret,) = ladder.b.watcher.secrets
    assert Cookies(lambda _: secret).secret == secret
    ladder.b.do(ladder.b.core.forget(ladder.clock()))
    assert len(set(ladder.b.watcher.secrets)) == 2
