"""What came for a request of ours and could not be used is told, as what it is: "did not answer" only when nothing came at all."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Cause, Endpoint, Kind, Path
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Notify
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

from .ladder import IKE, Ladder, peer

INIT, AUTH, INFORMATIONAL = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH, ExchangeType.INFORMATIONAL
ELSEWHERE = Path(Endpoint(ip_address("192.0.2.1"), 500), Endpoint(ip_address("203.0.113.9"), 500))


class Call:
    """A calls; after `answered` messages nothing arrives any more but what the test makes."""

    def __init__(self, *, answered=0, **changes):
        self.ladder = Ladder(a=[peer("a", **changes)])
        self.ladder.initiate("a")
        for _ in range(answered):
            assert self.ladder.deliver("b") or self.ladder.deliver("a")
        self.ladder.wire.cut("a", "b")
        for site in ("a", "b"):
            while self.ladder.wire.take(site) is not None:
                pass
        (self.session,) = self.ladder.a.core.sessions("to-b")

    def hear(self, datagram, path=None):
        self.ladder.a.do(self.ladder.a.core.receive(datagram, path or self.ladder.path("a"), self.ladder.clock()))

    def answer(self, *payloads, exchange=INIT, number=0, path=None):
        """An unprotected response, made by whoever saw the request."""
        self.hear(
            build_message(Message(Header(self.session.sa.spi_i, self.session.sa.spi_r, exchange, Flag.RESPONSE, number), payloads)),
            path,
        )

    def last_text(self):
        self.ladder.run(200)
        (end,) = [event for event in self.ladder.a.events if event.kind in (Kind.IKE_FAILED, Kind.IKE_DOWN)]
        return end.text

    @property
    def told(self):
        return [event.text for event in self.ladder.a.events if event.kind is Kind.HINT]


def malformed(call):
    header = build_message(
        Message(Header(call.session.sa.spi_i, call.session.sa.spi_r, INIT, Flag.RESPONSE, 0), (Notify(NotifyType.COOKIE, b"1"),))
    )
    call.hear(header[:-1] + b"\0\0")


def ikev1(call):
    call.hear(call.session.sa.spi_i + bytes(8) + bytes([11, 0x10, 5, 0]) + bytes(4) + (28).to_bytes(4, "big"))


def newer(call):
    call.hear(call.session.sa.spi_i + bytes(8) + bytes([0, 0x30, 34, Flag.RESPONSE]) + bytes(4) + (28).to_bytes(4, "big"))


def wrong_public_value(call):
    """B's own answer, with a public value that is too short."""
    reply = next(d.data[0] for d, _ in call.ladder.wire.log if d.sender == "b")
    parsed = parse_message(reply)
    bad = [replace(each, data=each.data[:-1]) if isinstance(each, KeyExchangePayload) else each for each in parsed.payloads]
    call.hear(build_message(parsed.with_payloads(bad)))


@pytest.mark.parametrize(("waited", "times"), [(0, None), (4, 3)])
def test_a_refusal_does_not_count_as_repetitions(waited, times):
    """It is not asked again, and what is said of its silence is how often it was asked."""
    call = Call()
    call.ladder.run(waited)
    call.answer(Notify(NotifyType.NO_PROPOSAL_CHOSEN))
    (status,) = call.ladder.a.status
    assert (status.silence is None) == (times is None)
    assert times is None or f"sent {times} times" in status.silence
    asked = len(call.ladder.messages("a"))
    assert "NO_PROPOSAL_CHOSEN" in call.last_text()
    assert len(call.ladder.messages("a")) == asked


CAME = [
    (malformed, 0, "a message that cannot be read: length field"),
    (ikev1, 0, "it is IKEv1, which is not spoken here"),
    (newer, 0, "a message that cannot be read: major version 3"),
    (wrong_public_value, 1, "public value of 31 octets for x25519, 32 wanted"),
    (lambda call: call.answer(), 0, "an IKE_SA_INIT response lacks payloads it must have"),
    (lambda call: call.answer(Notify(NotifyType.COOKIE)), 0, "a cookie of a length that cannot be"),
]


@pytest.mark.parametrize(("comes", "answered", "words"), CAME)
def test_what_came_for_ike_sa_init_stands_in_the_last_text(comes, answered, words):
    call = Call(answered=answered)
    comes(call)
    (told,) = call.told
    assert words in told
    assert told.endswith("(not authenticated)"), "at once"
    text = call.last_text()
    assert words in text
    assert "not authenticated" in text
    assert "did not answer" not in text


def test_a_peer_of_whom_nothing_came_did_not_answer():
    assert "192.0.2.2:500 did not answer IKE_SA_INIT (8 times)" in Call().last_text()


@pytest.mark.parametrize(("comes", "answered", "words"), CAME)
def test_the_genuine_answer_still_counts(comes, answered, words):
    call = Call(answered=answered)
    comes(call)
    call.ladder.wire.mend("a", "b")
    call.ladder.run(100)
    call.ladder.check()
    assert words in call.told[0]


@pytest.mark.parametrize(
    ("notifies", "words", "cause"),
    [
        ([14], "NO_PROPOSAL_CHOSEN: the peer accepts none of our IKE proposals", Cause.PROPOSAL),
        ([40], "the peer refuses IKE_SA_INIT: UNACCEPTABLE_ADDRESSES", Cause.REFUSED),
        (
            [7, 9000],
            "INVALID_SYNTAX (it could not read our request: its log tells why); notify 9000 (error for private use)",
            Cause.REFUSED,
        ),
    ],
)
def test_a_refusal_is_named_and_ends_the_attempt_soon(notifies, words, cause):
    call = Call()
    call.answer(*map(Notify, notifies))
    call.ladder.run(3)
    (end,) = [event for event in call.ladder.a.events if event.kind is Kind.IKE_FAILED]
    assert end.cause is cause
    assert words in end.text
    assert end.text.endswith("(not authenticated)")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            14,
            "the peer wants modp2048 (group 14), which ike.proposals does not name: add modp2048 there, or let the peer take",
        ),
        (2, "add modp1024 there (with legacy = true)"),
        (32, "the peer wants x448 (group 32), which ike.proposals does not name and nobody can name here"),
        (31, "the peer wants x25519, and refuses a public value of that very group"),
        (999, "a key exchange without a name: 999 (group 999)"),
    ],
)
def test_a_group_that_is_not_configured_is_named_with_what_to_set(number, words):
    call = Call()
    call.answer(Notify(NotifyType.INVALID_KE_PAYLOAD, number.to_bytes(2, "big")))
    call.ladder.run(3)
    (end,) = [event for event in call.ladder.a.events if event.kind is Kind.IKE_FAILED]
    assert end.cause is Cause.KEY_EXCHANGE
    assert words in end.text


def test_an_answer_to_ike_auth_that_cannot_be_opened_is_told():
    """Keys that differ, or a peer that is not the one which answered IKE_SA_INIT."""
    call = Call(answered=3)
    sealed = next(d.data[0] for d, _ in call.ladder.wire.log if d.sender == "b" and d.data[0][18] == AUTH)
    call.hear(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    call.answer(Notify(NotifyType.INVALID_IKE_SPI), exchange=AUTH, number=1)
    call.answer(Notify(NotifyType.AUTHENTICATION_FAILED), Notify(16404), exchange=AUTH, number=1, path=ELSEWHERE)
    text = call.last_text()
    for words in (
        "was asked 8 times (IKE_AUTH)",
        "a response to IKE_AUTH whose ICV does not hold",
        "an unprotected response to IKE_AUTH with N(INVALID_IKE_SPI): it has lost this IKE SA",
        "from 203.0.113.9:500: an unprotected response to IKE_AUTH with N(AUTHENTICATION_FAILED), N(MULTIPLE_AUTH_SUPPORTED)",
    ):
        assert words in text
    assert len(call.told) == 3


def test_what_came_for_a_request_that_was_answered_is_forgotten():
    """A liveness check much later is about itself; what is not proven is then remembered without a line."""
    call = Call(answered=0, liveness=Liveness(10.0, 3))
    malformed(call)
    call.ladder.wire.mend("a", "b")
    call.ladder.run(20)
    call.ladder.check()
    before = len(call.told)
    call.ladder.wire.cut("a", "b")
    call.ladder.run(12)
    call.answer(Notify(NotifyType.INVALID_IKE_SPI), exchange=INFORMATIONAL, number=call.session.window.next_id - 1)
    text = call.last_text()
    assert "it has lost this IKE SA" in text
    assert "cannot be read" not in text
    assert len(call.told) == before


def test_few_are_remembered_and_a_refusal_among_them():
    """Whoever sees the SPI may send as many as he likes."""
    call = Call()
    for number in range(50):
        call.answer(Notify(NotifyType.COOKIE), path=replace(ELSEWHERE, remote=Endpoint(ip_address("203.0.113.9"), 1000 + number)))
    assert len(call.told) == LIMITS.hints
    call.answer(Notify(NotifyType.NO_PROPOSAL_CHOSEN))
    assert len(call.session.handshake.hints) == LIMITS.hints
    assert "none of our IKE proposals" in call.last_text()


def test_a_message_of_our_own_that_comes_back_is_no_answer():
    call = Call()
    call.hear(call.ladder.wire.log[0][0].data[0])
    assert call.told == []
    assert "did not answer" in call.last_text()


# ---- ICMP


def unreachable(call, remote="192.0.2.2", port=500, octets=None, reason="its port is closed"):
    request = call.ladder.wire.log[0][0].data[0]
    path = Path(Endpoint(ip_address("192.0.2.1"), 500), Endpoint(ip_address(remote), port))
    call.ladder.a.do(call.ladder.a.core.unreachable(request[:octets], path, reason, call.ladder.clock()))


def test_an_icmp_message_about_our_request_is_told_at_once_and_in_the_end():
    call = Call()
    unreachable(call)
    unreachable(call)
    words = "an ICMP message says that UDP port 500 of 192.0.2.2 is not reached: its port is closed"
    assert call.told == [f"{words} (not authenticated)"]
    call.ladder.run(30)
    assert call.ladder.a.causes() == [], "it may be forged: the attempt goes on"
    assert words in call.last_text()


@pytest.mark.parametrize("change", [{"remote": "192.0.2.3"}, {"port": 4500}, {"octets": 7}, {"octets": 0}])
def test_one_that_does_not_quote_our_request_says_nothing(change):
    call = Call()
    unreachable(call, **change)
    assert call.told == []


# ---- first messages of others


def events_of(datagram, path, peers=None):
    ladder = Ladder(b=peers)
    ladder.b.do(ladder.b.core.receive(datagram, path, 1000.0))
    return ladder.b.events


def spoiled(kind):
    """A first message that a configured peer may have sent."""
    ladder = Ladder()
    ladder.initiate("a")
    good = ladder.wire.log[0][0].data[0]
    parsed = parse_message(good)
    short = [replace(each, data=each.data[:-1]) if isinstance(each, KeyExchangePayload) else each for each in parsed.payloads]
    made = {
        "cut": good[:-1],
        "public value": build_message(parsed.with_payloads(short)),
        "lacks payloads": build_message(parsed.with_payloads(parsed.payloads[:1])),
        "IKEv1": good[:8] + bytes(8) + bytes([1, 0x10, 2, 0]) + bytes(4) + (28).to_bytes(4, "big"),
    }
    return made[kind]


SPOILED = {
    "cut": "cannot be read as IKEv2: length field",
    "public value": "IKE_SA_INIT from 192.0.2.1:500 cannot be used: public value of 31 octets",
    "lacks payloads": "IKE_SA_INIT without its payloads",
    "IKEv1": "it is IKEv1, which is not spoken here",
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_first_message_from_a_peers_address_that_comes_to_nothing_is_an_event_of_its_tunnel(kind):
    (event,) = events_of(spoiled(kind), Ladder().path("b"))
    assert (event.tunnel, event.origin) == ("to-a", "claimed")
    assert SPOILED[kind] in event.text
    assert "not authenticated" in event.text


@pytest.mark.parametrize("kind", ["cut", "lacks payloads", "public value"])
def test_a_strangers_says_nothing_of_a_tunnel_that_is_its_own(kind):
    somebody = Path(Endpoint(ip_address("192.0.2.2"), 500), Endpoint(ip_address("203.0.113.7"), 500))
    anybody = [peer("b"), peer("b", tunnel="hub", remotes=(), ike_proposals=IKE)]
    assert [event.origin for event in events_of(spoiled(kind), somebody, anybody)] == ([] if kind == "cut" else ["stranger"])


def test_such_events_are_few():
    ladder = Ladder()
    for number in range(500):
        ladder.b.do(ladder.b.core.receive(spoiled("cut"), ladder.path("b"), 1000.0 + number / 50))
    assert len(ladder.b.events) <= 2
