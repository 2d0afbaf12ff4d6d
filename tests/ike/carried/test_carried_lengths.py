"""What is known of the way to a peer, and of what can be said on it, goes along: lengths that get there, ESP in UDP, downgrades."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.errors import RetiredKeyError
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.v2.downgrades import Withstood
from tests.ike.carried.carrying import carry, exported, up

LONG = {"esp_proposals": parse_esp(["aes128gcm16-modp4096"])}  # a rekey does not fit 576 octets


def asked_and_answered():
    """A asks for a long rekey, and B answers; the request as it was sent."""
    ladder = up(**LONG)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    (request,) = [delivery.data[0] for delivery, _ in ladder.wire.log][-1:]
    ladder.deliver("b")
    return ladder, request


def test_a_request_is_divided_as_it_would_have_been():
    ladder = up(**LONG)
    ladder.wire.cut("a", "b")
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    carry(ladder.a, ladder.clock())
    before = len(ladder.wire.log)
    ladder.run(5)
    sent = [len(delivery.data[0]) for delivery, _ in ladder.wire.log[before:]]
    assert [length for length in sent if length <= 576]
    ladder.wire.mend("a", "b")
    ladder.run(20)
    ladder.check()


@pytest.mark.parametrize("carried", [False, True], ids=["not-carried", "carried"])
def test_how_often_a_reply_was_asked_for_comes_along(carried):
    """From the second time on it leaves in shorter datagrams, and those are the same from then on."""
    ladder, request = asked_and_answered()
    forms = []
    for _ in range(3):
        ladder.clock.advance(1)
        before = len(ladder.wire.log)
        ladder.b.do(ladder.b.core.receive(request, ladder.path("b"), ladder.clock()))
        forms.append([delivery.data[0] for delivery, _ in ladder.wire.log[before:]])
        if carried:
            carry(ladder.b, ladder.clock())
    assert [len(form) for form in forms] == [1, 2, 2]
    assert forms[1] == forms[2]


def test_what_was_exported_is_divided_by_its_source_no_more():
    ladder, request = asked_and_answered()
    ladder.b.do(ladder.b.core.receive(request, ladder.path("b"), ladder.clock()))
    exported(ladder.b)
    ladder.clock.advance(1)
    with pytest.raises(RetiredKeyError):
        ladder.b.core.receive(request, ladder.path("b"), ladder.clock())


def test_what_is_known_of_the_way_to_a_peer_comes_along():
    ladder = up()
    (session,) = ladder.a.core.sessions()
    until = ladder.clock() + 60
    session.abilities.longest, session.abilities.longest_until = 576.0, until
    ladder.a.core.lengths.note(session.path.remote.address, 576.0, until)
    carry(ladder.a, ladder.clock())
    (session,) = ladder.a.core.sessions()
    assert (session.abilities.longest, session.abilities.longest_until) == (576.0, until)
    assert ladder.a.core.lengths.known == [(session.path.remote.address, 576.0, until)]


def test_whether_keys_ever_withstood_comes_along():
    ladder = up()
    (session,) = ladder.a.core.sessions()
    for known in (False, True):
        ladder.a.core.downgrades.note(Withstood("to-b", session.ends.identities, known))
        carry(ladder.a, ladder.clock())
        assert ladder.a.core.downgrades.ever(session.peer, session.ends.identities) is known


@pytest.mark.parametrize("ever", [False, True])
def test_it_does_of_a_peer_that_has_no_ike_sa_now(ever):
    ladder = up()
    (session,) = ladder.a.core.sessions()
    who = Withstood("to-b", (Identity.from_text("us@example.org"), Identity.from_text("CN=them")), ever)
    gone = Withstood("configured no more", who.identities, ever)
    for one in (who, gone):
        ladder.a.core.downgrades.note(one)
    for _ in range(2):
        carry(ladder.a, ladder.clock())
        assert ladder.a.core.downgrades.known == [who, Withstood("to-b", session.ends.identities, False)]
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    carry(ladder.a, ladder.clock())
    assert not ladder.a.core.sessions()
    assert [one.ever for one in ladder.a.core.downgrades.known] == [ever, False]


@pytest.mark.parametrize("encapsulation", ["auto", "udp"])
def test_who_forced_esp_into_udp_comes_along(encapsulation):
    ladder = up(encapsulation=encapsulation)
    (session,) = ladder.a.core.sessions()
    assert (session.nat.forced_here, session.nat.forced_there) == (True, True)
    before = session.nat
    carry(ladder.a, ladder.clock())
    assert [one.nat for one in ladder.a.core.sessions()] == [before]


def test_what_was_configured_when_it_was_asked_comes_along():
    ladder = up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    (before,) = [one.task.offer.admitted for one in ladder.a.core.sessions()]
    assert before
    carry(ladder.a, ladder.clock())
    assert [one.task.offer.admitted for one in ladder.a.core.sessions()] == [before]
