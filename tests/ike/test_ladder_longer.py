"""When longer datagrams are tried again: what shows that they get there, how long the contrary is believed, and what says nothing.

a --(SK, 1,250 octets)--      B sleeps
a --(SK, the same)--, --(SK, the same; SKF 1 to 3, 576 octets)--
                              B wakes: <--(SK, 1,130 octets)-- for the first, and so for the others
"""

import itertools

import pytest

from ipsec_dp.ike.actions import Cause, Path
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.v2.lengths import REMEMBERED_S
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import EncryptedFragment
from ipsec_dp.ike.v2.sa import State

from .ladder import OTHER
from .test_ladder_rekey import rekey
from .test_ladder_shorter import (
    DIVIDED_AFTER,
    again,
    is_fragment,
    kept,
    ladder_of,
    narrowed,
    recorded,
    repeated,
    sent_by,
)

ANY = float("inf")
SIX_MINUTES = 360.0


def long_rekeys():
    """CREATE_CHILD_SA is as long as IKE_INTERMEDIATE, and its answer too."""
    return ladder_of(esp_proposals=parse_esp(["aes128gcm16-mlkem768"]))


def longest(ladder):
    return [site.core.sessions()[-1].abilities.longest for site in ladder.sites.values()]


def asleep(ladder, who, seconds):
    """Nothing that comes to `who` is read for so long; its peer goes on. Then all of it is, in its order."""
    end, other = ladder.clock() + seconds, ladder.sites[OTHER[who]]
    while (at := other.core.next_timeout()) is not None and at <= end:
        ladder.clock.advance(max(at - ladder.clock(), 0.0) + 1e-6)
        other.do(other.core.timer(ladder.clock()))
    ladder.clock.advance(end - ladder.clock())
    ladder.settle()


def intermediate(ladder):
    """A asks for the first IKE_INTERMEDIATE, which is on its way."""
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")


# --- a slow peer is no narrow way -------------------------------------------------------------------------------------------------


def test_who_answers_late_to_the_long_one_does_not_make_what_follows_short():
    ladder = long_rekeys()
    intermediate(ladder)
    asleep(ladder, "b", DIVIDED_AFTER + 0.2)
    ladder.check()
    assert any(map(is_fragment, sent_by(ladder, "a"))), "they were tried"
    assert longest(ladder)[0] == ANY
    assert kept(ladder, "a") == ANY
    assert not [event for event in ladder.a.events if "answers what was sent in datagrams of" in event.text]


def test_who_has_followed_in_sending_short_ones_sends_long_ones_when_they_come_again():
    """B saw A's short ones, after the long ones."""
    ladder = long_rekeys()
    intermediate(ladder)
    asleep(ladder, "b", DIVIDED_AFTER + 0.2)
    assert (longest(ladder), kept(ladder, "b")) == ([ANY, 576], 576)
    before = {site: len(sent_by(ladder, site)) for site in OTHER}
    rekey(ladder, "a", ike=False)
    ladder.settle()
    assert (longest(ladder), kept(ladder, "b")) == ([ANY, ANY], ANY)
    assert min(max(map(len, sent_by(ladder, site)[before[site] :])) for site in OTHER) > 1000


def test_the_second_late_answer_in_a_row_is_believed():
    """A way that is narrow for ours alone, to a peer whose answers are long whatever they answer, looks so."""
    ladder = long_rekeys()
    intermediate(ladder)
    asleep(ladder, "b", DIVIDED_AFTER + 0.2)
    rekey(ladder, "a", ike=False)
    asleep(ladder, "b", DIVIDED_AFTER + 0.2)
    assert longest(ladder)[0] == 576
    assert kept(ladder, "a") == 576


def test_a_long_one_that_is_answered_in_time_between_them_clears_the_peer():
    ladder = long_rekeys()
    intermediate(ladder)
    asleep(ladder, "b", DIVIDED_AFTER + 0.2)
    rekey(ladder, "a", ike=False)
    ladder.settle()
    rekey(ladder, "a", ike=False)
    asleep(ladder, "b", DIVIDED_AFTER + 0.2)
    assert longest(ladder)[0] == ANY


def test_what_was_lost_of_ours_is_not_forgotten_for_long_ones_of_the_peers():
    """Its way is not ours: nothing more of ours is lost."""
    ladder = long_rekeys()
    hole = narrowed(ladder, 1000, ("a",))
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    ladder.sites["b"].core.sessions()[0].abilities.longest = ANY  # a peer that does not follow
    lost = len(hole.lost)
    rekey(ladder, "b", ike=False)
    ladder.settle()
    assert any(len(datagram) > 1000 for datagram in sent_by(ladder, "b"))
    assert longest(ladder)[0] == 576
    rekey(ladder, "a", ike=False)
    ladder.settle()
    ladder.check()
    assert len(hole.lost) == lost


# --- for how long it is believed --------------------------------------------------------------------------------------------------


def test_an_address_is_believed_to_be_narrow_for_ten_minutes_however_often_that_is_used():
    ladder = long_rekeys()
    narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    assert [again(ladder, SIX_MINUTES) for _ in range(4)] == [0, 2, 0, 2], "tried anew, and lost, after twelve minutes, and so on"


def test_an_ike_sa_tries_longer_ones_again_after_ten_minutes_and_goes_on_with_them_where_they_get_there():
    ladder = long_rekeys()
    hole = narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    for most, repeats, then in ((1000, 2, 576), (1500, 0, ANY)):
        hole.most = most
        ladder.run(REMEMBERED_S)
        before = repeated(ladder)
        rekey(ladder, "a", ike=False)
        ladder.run(2 * DIVIDED_AFTER)
        assert repeated(ladder) - before == repeats
        assert (longest(ladder), kept(ladder, "a")) == ([then, then], then)
    ladder.check()


def test_two_that_follow_each_other_do_not_keep_each_other_short():
    """Short requests from either side in turns: none of them is a reason to believe for longer what was known already."""
    ladder = long_rekeys()
    hole = narrowed(ladder, 1000)
    ladder.initiate("a")
    ladder.run(2 * DIVIDED_AFTER)
    hole.most = 1500
    for site in itertools.islice(itertools.cycle("ba"), 8):
        ladder.run(REMEMBERED_S / 8)
        rekey(ladder, site, ike=False)
        ladder.settle()
    assert longest(ladder) == [ANY, ANY]


# --- what says nothing ------------------------------------------------------------------------------------------------------------


def divided():
    """B's last answer was to a request that came in fragments too; the first of them, which a stranger has recorded."""
    ladder = long_rekeys().up()
    ladder.wire.cut("b", "a")
    rekey(ladder, "a", ike=False)
    ladder.run(DIVIDED_AFTER + 0.1)
    pieces = [(datagram, parse_message(datagram).get(EncryptedFragment)) for datagram in sent_by(ladder, "a")]
    return ladder, next(datagram for datagram, piece in pieces if piece is not None and piece.total > 2)


def test_a_recorded_first_fragment_makes_nothing_hold_for_longer():
    ladder, first = divided()
    (session,) = ladder.b.core.sessions()
    assert (session.abilities.longest, kept(ladder, "b")) == (576, 576)
    until = session.abilities.longest_until
    for _ in range(3):
        ladder.clock.advance(REMEMBERED_S / 4)
        ladder.b.do(ladder.b.core.receive(first, ladder.path("b"), ladder.clock()))
    assert session.abilities.longest_until == until
    ladder.clock.advance(REMEMBERED_S)
    assert kept(ladder, "b") == ANY


def test_a_recorded_first_fragment_does_not_make_known_what_has_been_forgotten():
    ladder, first = divided()
    (session,) = ladder.b.core.sessions()
    ladder.clock.advance(2 * REMEMBERED_S)
    session.abilities.longest = session.abilities.longest_until = ANY
    before = len(sent_by(ladder, "b"))
    ladder.b.do(ladder.b.core.receive(first, ladder.path("b"), ladder.clock()))
    assert len(sent_by(ladder, "b")) > before, "it is answered"
    assert (session.abilities.longest, kept(ladder, "b")) == (ANY, ANY)


def test_whoever_asks_again_from_elsewhere_gets_what_was_made_for_the_peers_way():
    """On port 4500, or by IPv6, less would fit: a division for each such path would be one more than the peer can put together."""
    ladder, request, session = recorded()
    there = ladder.path("b")
    elsewhere = Path(there.local, there.remote, natt=True)
    for path in (there, there, elsewhere, there, elsewhere):
        ladder.clock.advance(1)
        ladder.b.do(ladder.b.core.receive(request, path, ladder.clock()))
    assert len(session.window.sealed_reply.shorter) == 1
    (division,) = session.window.sealed_reply.shorter.values()
    assert {datagram for datagram in sent_by(ladder, "b") if is_fragment(datagram)} == set(division)


# --- keys -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linger", [True, False])
@pytest.mark.parametrize("site", ["a", "b"])
def test_one_that_has_ended_has_no_key_in_what_it_sent_last(site, linger):
    """It may linger to answer a repeat, with the octets that were sealed before."""
    ladder = long_rekeys().up()
    ladder.wire.cut(site, OTHER[site])
    rekey(ladder, OTHER[site], ike=False)
    ladder.settle()
    (session,) = ladder.sites[site].core.sessions()
    sealed = session.window.sealed_reply
    assert sealed.content is not None, "a long answer, which could be divided yet"
    session.end(Cause.PEER, "over", ladder.clock(), linger=linger)
    assert session.state is (State.LINGERING if linger else State.CLOSED)
    assert (session.window.sealed_reply, sealed.content) == (sealed, None)
    assert session.window.reply
