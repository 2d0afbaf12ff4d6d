"""What a peer may send wrongly in IKE_FOLLOWUP_KE: no SA comes of it, nothing that is up moves, and one counter says so."""

from dataclasses import replace

import pytest

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.suites import ike_suite
from ipsec_dp.ike.v2 import followup, transitions
from ipsec_dp.ike.v2.message import Header, Message, parse_message
from ipsec_dp.ike.v2.payloads import Encrypted, KeyExchangePayload, Notify
from ipsec_dp.ike.v2.protect import open_payload, opened, seal_message
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.series import TheirSeries
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import GROUP_OF_ID

from .test_ladder_followup import ESP_ONE, ESP_TWO, KINDS, ONE, TWO, ends, ladder_of, made_anew, series, two_proxy_ids
from .test_ladder_followup import ask as ask_for_child
from .test_ladder_rekey import done, rekey, whole

X25519, MLKEM768, MLKEM1024 = 31, 36, 37


def awaiting(ike=False, words=(ONE, ESP_ONE)):
    """B has answered A's CREATE_CHILD_SA, and A knows it not yet."""
    ladder = ladder_of(*words)
    rekey(ladder, "a", ike=ike)
    while ladder.deliver("b"):
        pass
    (one,) = series(ladder)
    return ladder, one


def ask(ladder, *payloads, exchange=ExchangeType.IKE_FOLLOWUP_KE, ahead=0):
    """A's session asks B this beside what it has under way; what B answers, opened."""
    (sender,), (receiver,) = ladder.a.core.sessions(), ladder.b.core.sessions()
    header = Header(sender.sa.spi_i, sender.sa.spi_r, exchange, Flag.INITIATOR, receiver.window.expected + ahead)
    datagram = seal_message(sender.sa.outgoing, header, list(payloads), ladder.a.randbytes)
    before = ladder.wire.waiting("a")
    ladder.b.do(ladder.b.core.receive(datagram, ladder.path("b"), ladder.clock()))
    assert ladder.wire.waiting("a") == before + 1
    reply = ladder.wire.log[-1][0].data[0]
    message = parse_message(reply)
    sealed = message.get(Encrypted)
    assert sealed is not None
    return opened(message, sealed.first_inner, open_payload(sender.sa.incoming, reply, sealed))


def link(data):
    return Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, data)


def key(ladder, group=MLKEM768):
    return KeyExchangePayload(group, dh.initiate(GROUP_OF_ID[group], ladder.a.randbytes).public)


@pytest.mark.parametrize("payloads", [(), (link(b""),)], ids=["no link", "an empty link"])
def test_a_series_that_cannot_go_on_keeps_no_secret(payloads):
    """Ours: the answer to CREATE_CHILD_SA agrees on further key exchanges, and has no link for them."""
    suite = ike_suite(parse_ike([ONE])[0])
    header = Header(bytes(8), bytes(8), ExchangeType.CREATE_CHILD_SA, Flag.RESPONSE, 2)
    secret = bytearray(b"s" * 32)
    with pytest.raises(IkeSyntaxError, match="still to come"):
        followup.OurSeries(suite, secret, Message(header, payloads))
    assert not any(secret)
    kept = bytearray(b"s" * 32)
    assert followup.OurSeries(suite, kept, Message(header, (link(b"l" * 16),))).link == b"l" * 16
    assert any(kept)


@pytest.mark.parametrize("ike", KINDS)
@pytest.mark.parametrize("wrong", ["another link", "no link", "an empty link", "another method", "a link of another IKE SA"])
def test_a_round_that_is_not_the_next_one_of_a_series_here_moves_nothing(wrong, ike):
    ladder, one = awaiting(ike)
    foreign, theirs = awaiting(ike)
    del foreign
    theirs.link = bytes(reversed(one.link))
    payloads = {
        "another link": [key(ladder), link(bytes(16))],
        "no link": [key(ladder)],
        "an empty link": [key(ladder), link(b"")],
        "another method": [key(ladder, MLKEM1024), link(one.link)],
        "a link of another IKE SA": [key(ladder), link(theirs.link)],
    }[wrong]
    before = one.link, list(one.further), [bytes(secret) for secret in one.secrets]
    answer = ask(ladder, *payloads)
    assert [notify.notify_type for notify in answer.all(Notify)] == [NotifyType.STATE_NOT_FOUND]
    assert series(ladder) == [one]
    assert (one.link, one.further, [bytes(secret) for secret in one.secrets]) == before
    assert ladder.b.core.counters().out_of_window == 1
    whole(ladder)
    assert [len(site.sad.inbound) for site in ladder.sites.values()] == [1, 1]
    assert [session.state for session in ladder.b.core.sessions()] == [State.ESTABLISHED]


def test_the_link_of_a_round_is_good_once():
    ladder, one = awaiting(words=(ONE, "aes128gcm16-ecp256-ke1_x25519-ke2_mlkem768"))
    first = one.link
    answer = ask(ladder, key(ladder, X25519), link(first))
    given = answer.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
    assert given.data == one.link != first
    again = ask(ladder, key(ladder, X25519), link(first))
    assert again.notify(NotifyType.STATE_NOT_FOUND) is not None
    assert series(ladder) == [one]
    assert len(one.secrets) == 2


def test_a_link_is_good_for_so_long():
    ladder, one = awaiting()
    ladder.clock.advance(followup.PATIENCE)
    answer = ask(ladder, key(ladder), link(one.link))
    assert answer.notify(NotifyType.STATE_NOT_FOUND) is not None


@pytest.mark.parametrize("ike", KINDS)
@pytest.mark.parametrize(
    "ke", [KeyExchangePayload(MLKEM768, bytes(1183)), KeyExchangePayload(MLKEM768, bytes([255]) * 1184)], ids=["short", "range"]
)
def test_a_key_that_cannot_be_ends_the_ike_sa_as_it_does_in_create_child_sa(ke, ike):
    """RFC 6989 §2.5, RFC 7296 §2.21.3; nothing of the series is left."""
    ladder, one = awaiting(ike)
    answer = ask(ladder, ke, link(one.link))
    assert [notify.notify_type for notify in answer.all(Notify)] == [NotifyType.INVALID_SYNTAX]
    assert not series(ladder)
    assert not any(any(secret) for secret in one.secrets)
    assert not ladder.b.sad.reserved
    assert not ladder.b.sad.inbound
    assert ladder.b.causes() == [Cause.SYNTAX]
    assert ladder.b.core.counters().unfinished == 1


@pytest.mark.parametrize("ike", KINDS)
@pytest.mark.parametrize("spoilt", ["ciphertext", "method", "no link", "no KE"])
def test_an_answer_that_cannot_be_used_makes_nothing_and_the_ike_sa_goes_on(spoilt, ike, monkeypatch):
    """The peer's own rounds are as they should be; what arrives of one is not."""
    ladder = ladder_of(TWO, ESP_TWO)
    before = ends(ladder)
    answer = followup.answer

    def spoil(context, received):
        payloads = answer(context, received)
        ke = payloads[0]
        assert isinstance(ke, KeyExchangePayload)
        return {
            "ciphertext": [KeyExchangePayload(ke.group, ke.data[:-1]), *payloads[1:]],
            "method": [KeyExchangePayload(MLKEM768, bytes(1088)), *payloads[1:]],
            "no link": [ke],
            "no KE": payloads[1:],
        }[spoilt]

    found = {row: replace(row, answer=spoil) for row in transitions.REQUESTS if row.answer is answer}
    (row,) = found
    rowed = transitions.request_row

    def replaced(state, message):
        one = rowed(state, message)
        return one if one is None else found.get(one, one)

    monkeypatch.setattr(transitions, "request_row", replaced)
    rekey(ladder, "a", ike=ike)
    ladder.settle()
    assert row.exchange is ExchangeType.IKE_FOLLOWUP_KE
    assert ends(ladder)[1:] == before[1:]
    whole(ladder)
    assert [event.cause for event in ladder.a.events if event.kind is Kind.WARNING]
    assert not ladder.a.sad.reserved


class Nothing:
    """What a series is for that only takes a place."""

    def finish(self, *_):
        return []

    def release(self, _):
        """There is nothing to give back."""


def test_a_peer_has_so_many_series_open_on_an_ike_sa():
    """Beyond them CREATE_CHILD_SA is answered by TEMPORARY_FAILURE; those that are open go on."""
    ladder = two_proxy_ids()
    (session,) = ladder.b.core.sessions()
    for _ in range(PEER_LIMITS.series):
        extra = TheirSeries([], [], (b"", b""), Nothing())
        followup.begin(session, extra, ladder.clock())
    ask_for_child(ladder)
    ladder.settle()
    assert len(session.series) == PEER_LIMITS.series
    assert len(ladder.b.sad.sending) == 1
    ladder.run(followup.PATIENCE + 60)
    ladder.check()
    assert len(ladder.b.sad.sending) == 2
    assert ladder.b.core.counters().unfinished == PEER_LIMITS.series


def test_the_positive_control_goes_to_its_end():
    for ike in (False, True):
        ladder, _ = awaiting(ike)
        before = ends(ladder)
        done(ladder)
        made_anew(ladder, before, ike=ike)
