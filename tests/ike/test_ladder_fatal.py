"""What ends an IKE SA on both sides, and what refuses one request alone (RFC 7296 §2.5, §2.21): critical payloads, answers that
cannot be used, INVALID_SYNTAX."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.actions import Cause, Kind, Send
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.protect import open_message, seal_payload
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType, PayloadType

from .ladder import Ladder, peer
from .saying import events, raw, says
from .test_session_attacks import Traitor, half_open, taken

INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
UNKNOWN_NOTIFY = 50_000
FAREWELLS = [NotifyType.INVALID_SYNTAX, NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, NotifyType.AUTHENTICATION_FAILED]
CRITICAL = "00 80 0007 010203"  # a payload nobody knows, as the last of a chain


SHORT_NONCE = raw(PayloadType.NONCE, bytes(3))  # nobody can read it


def nothing_left(ladder):
    ladder.run(120)
    for site in ladder.sites.values():
        assert not site.sad.inbound
        assert not site.sad.reserved


# --- critical payloads ----------------------------------------------------------------------------------------------------------


def sent_by(actions):
    return [action.datagram for action in actions if isinstance(action, Send)]


def say(traitor, exchange, octets, first=0xF5):
    """What B answers to octets under the keys of A."""
    session = traitor.session
    header = Header(session.sa.spi_i, session.sa.spi_r, exchange, Flag.INITIATOR, traitor.number)
    traitor.number += 1
    shell = p.Encrypted(first, b"")
    datagram = seal_payload(session.sa.outgoing, header, shell, bytes.fromhex(octets), traitor.ladder.a.randbytes)
    ladder = traitor.ladder
    actions = ladder.b.core.receive(datagram, ladder.path("b"), ladder.clock())
    ladder.b.do(actions)
    (sent,) = sent_by(actions)
    return open_message(session.sa.incoming, sent, parse_message(sent))


def test_a_critical_payload_that_nobody_knows_refuses_its_request_alone():
    """RFC 7296 §2.5: the answer names it, and the IKE SA goes on."""
    traitor = Traitor()
    for exchange in (CREATE, INFORMATIONAL):
        assert say(traitor, exchange, CRITICAL).payloads == (p.Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xf5"),)
    assert traitor.child().get(p.SecurityAssociation) is not None
    assert say(traitor, INFORMATIONAL, CRITICAL.replace("80", "00")).payloads == ()


def test_before_authentication_it_ends_the_ike_sa():
    """RFC 7296 §2.21.2."""
    traitor = half_open()
    traitor.number = 1
    assert say(traitor, AUTH, CRITICAL).payloads == (p.Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xf5"),)
    assert [event.cause for event in events(traitor.ladder.b, Kind.IKE_FAILED)] == [Cause.SYNTAX]
    traitor.ladder.run(120)
    assert traitor.ladder.b.core.counters().sessions == 0


def test_in_ike_sa_init_it_is_named_and_nothing_is_kept():
    """By the answer that is not authenticated and never larger than the question; not to responses, nor around SK."""
    ladder = Ladder()
    ladder.initiate("a")
    request = taken(ladder, "b")
    spoiled = _with_critical(request)
    (reply,) = sent_by(ladder.b.core.receive(spoiled, ladder.path("b"), ladder.clock()))
    message = parse_message(reply)
    assert message.payloads == (p.Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xf5"),)
    assert (message.header.spi_i, message.header.is_response) == (request[:8], True)
    assert ladder.b.core.counters().sessions == 0
    for exchange, flags in ((34, 0x28), (37, 0x08)):
        other = spoiled[:18] + bytes([exchange, flags]) + spoiled[20:]
        assert ladder.b.core.receive(other, ladder.path("b"), ladder.clock()) == []
    (reply,) = sent_by(ladder.b.core.receive(request, ladder.path("b"), ladder.clock()))
    assert parse_message(reply).get(p.SecurityAssociation) is not None


def _with_critical(request):
    """The request with a critical payload in front."""
    octets = bytes([request[16], 0x80, 0, 7]) + b"\1\2\3"
    return request[:16] + b"\xf5" + request[17:24] + (len(request) + 7).to_bytes(4, "big") + octets + request[28:]


# --- what ends an IKE SA on both sides ------------------------------------------------------------------------------------------

UNREADABLE = {
    "a payload that cannot be parsed": lambda payloads: [*payloads, SHORT_NONCE],
    "no AUTH": lambda payloads: [one for one in payloads if not isinstance(one, p.Authentication)],
    "no IDr": lambda payloads: [one for one in payloads if not isinstance(one, p.IdentificationResponder)],
    "nothing": lambda _payloads: [],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_ike_auth_response_that_cannot_be_used_ends_the_peers_sa_too(name, monkeypatch):
    """RFC 7296 §2.21.2: IKE_AUTH -->, <-- what cannot be used, INFORMATIONAL: INVALID_SYNTAX, DELETE -->"""
    ladder = Ladder()
    said = []

    def change(header, payloads):
        return UNREADABLE[name](payloads) if header.exchange == AUTH and header.is_response else payloads

    def note(header, payloads):
        said.append((header.exchange, payloads))
        return payloads

    says(monkeypatch, ladder.b.core, change)
    says(monkeypatch, ladder.a.core, note)
    ladder.initiate("a")
    ladder.settle()
    assert ladder.messages()[4:] == ["ab INFORMATIONAL", "ba INFORMATIONAL-"]
    assert said[-1] == (INFORMATIONAL, [p.Notify(NotifyType.INVALID_SYNTAX), p.Delete(ProtocolId.IKE)])
    (told,) = events(ladder.a, Kind.IKE_FAILED)
    assert (told.cause, told.again) == (Cause.SYNTAX, True)
    assert "cannot be used" in told.text
    assert ladder.b.causes() == [Cause.SYNTAX]
    nothing_left(ladder)


@pytest.mark.parametrize("kind", FAREWELLS)
def test_a_peer_that_cannot_use_our_ike_auth_response_says_so(kind):
    """RFC 7296 §2.21.2: these three end the IKE SA without a DELETE."""
    traitor = Traitor()
    assert traitor.ask(INFORMATIONAL, p.Notify(kind)).payloads == ()
    (told,) = events(traitor.ladder.b, Kind.IKE_DOWN)
    assert told.again
    assert not traitor.ladder.b.sad.inbound
    assert traitor.ladder.b.ups == []


@pytest.mark.parametrize("kind", [NotifyType.TEMPORARY_FAILURE, NotifyType.NO_PROPOSAL_CHOSEN, 8000, UNKNOWN_NOTIFY])
def test_any_other_word_in_an_informational_request_ends_nothing(kind):
    traitor = Traitor()
    assert traitor.ask(INFORMATIONAL, p.Notify(kind)).payloads == ()
    assert len(traitor.ladder.b.ups) == 1


def answering(kind):
    """This notify in the place of every response."""
    return lambda header, payloads: [p.Notify(kind)] if header.is_response else payloads


def liveness(ladder):
    ladder.a.do(ladder.a.core.check_liveness("to-b", ladder.clock()))


def new_keys(ladder):
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))


def new_ike_sa(ladder):
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))


@pytest.mark.parametrize("ask", [liveness, new_keys, new_ike_sa])
@pytest.mark.parametrize(
    ("kind", "fatal"), [(NotifyType.INVALID_SYNTAX, True), (NotifyType.TEMPORARY_FAILURE, False), (50_000, False)]
)
def test_invalid_syntax_in_an_answer_ends_the_ike_sa_here_too(ask, kind, fatal, monkeypatch):
    """RFC 7296 §2.21.3: the peer has ended it by that word, and no DELETE follows."""
    ladder = Ladder(a=[peer("a", liveness=Liveness(1000.0))]).up()
    lying = [True]
    says(monkeypatch, ladder.b.core, lambda header, payloads: [p.Notify(kind)] if header.is_response and lying[0] else payloads)
    ask(ladder)
    ladder.settle()
    lying[0] = False
    down = events(ladder.a, Kind.IKE_DOWN)
    assert [(event.cause, event.again) for event in down] == [(Cause.SYNTAX, True)] * fatal
    assert bool(ladder.a.sad.inbound) is not fatal
    assert not ladder.a.sad.reserved
    assert not fatal or ask is liveness or "ab INFORMATIONAL" not in ladder.messages()
    assert all("INVALID_SYNTAX" in event.text for event in down)


def test_as_the_answer_to_our_delete_it_is_an_answer(monkeypatch):
    """What was taken down stays down."""
    ladder = Ladder().up()
    says(monkeypatch, ladder.b.core, answering(NotifyType.INVALID_SYNTAX))
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    (down,) = events(ladder.a, Kind.IKE_DOWN)
    assert (down.cause, down.again) == (Cause.LOCAL, False)


def test_invalid_syntax_outside_sk_ends_nothing():
    ladder = Ladder(a=[peer("a", liveness=Liveness(1000.0))]).up()
    (session,) = ladder.a.core.sessions("to-b")
    liveness(ladder)
    assert session.task is not None
    header = Header(session.sa.spi_i, session.sa.spi_r, INFORMATIONAL, Flag.RESPONSE, session.window.next_id - 1)
    forged = build_message(Message(header, (p.Notify(NotifyType.INVALID_SYNTAX),)))
    assert ladder.a.core.receive(forged, ladder.path("a"), ladder.clock()) == []
    ladder.settle()
    ladder.check()


def unreadable_answers(header, payloads):
    return [*payloads, SHORT_NONCE] if header.is_response else payloads


def test_an_answer_to_a_liveness_check_that_cannot_be_used_ends_the_peers_sa_too(monkeypatch):
    """RFC 7296 §2.21.3: the two do not have the same state. INFORMATIONAL -->, <-- unreadable, INFORMATIONAL: DELETE -->"""
    ladder = Ladder(a=[peer("a", liveness=Liveness(1000.0))]).up()
    says(monkeypatch, ladder.b.core, unreadable_answers)
    before = len(ladder.messages())
    liveness(ladder)
    ladder.settle()
    assert ladder.messages("a")[-2:] == ["ab INFORMATIONAL"] * 2
    assert len(ladder.messages()) == before + 4, "it is not repeated, and no word follows the answer to it"
    (down,) = events(ladder.a, Kind.IKE_DOWN)
    assert (down.cause, down.again) == (Cause.SYNTAX, True)
    assert "the peer's answer to INFORMATIONAL cannot be used" in down.text
    assert ladder.b.causes() == [Cause.PEER]
    nothing_left(ladder)


def test_an_answer_to_our_last_delete_that_cannot_be_used_is_an_answer(monkeypatch):
    ladder = Ladder().up()
    says(monkeypatch, ladder.b.core, unreadable_answers)
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    assert ladder.messages("a")[-1:] == ["ab INFORMATIONAL"]
    assert len(ladder.messages()) == 6
    nothing_left(ladder)


def test_an_answer_to_an_ike_rekey_that_cannot_be_used_leads_to_a_new_ike_sa_beside_it(monkeypatch):
    """The peer has another one in its place, and we have no keys for that: both start over, and no CHILD_SA lacks meanwhile."""
    ladder = Ladder().up()
    lying = [True]
    says(monkeypatch, ladder.b.core, lambda header, payloads: unreadable_answers(header, payloads) if lying[0] else payloads)
    new_ike_sa(ladder)
    ladder.settle()
    lying[0] = False
    (told,) = events(ladder.a, Kind.WARNING)
    assert "cannot be used" in told.text
    assert "a new IKE SA is made instead" in told.text
    sending = []
    ladder.run(10, step=lambda: sending.append(bool(ladder.a.sad.sending and ladder.b.sad.sending)))
    assert all(sending)
    ladder.run(60)
    ladder.check()
    assert len(ladder.b.sad.inbound) == 1, "the peer too has left the one that only it had"
    assert events(ladder.a, Kind.IKE_DOWN) == []


def in_answers(more):
    """Payloads besides, in a CREATE_CHILD_SA response."""
    return lambda header, payloads: [*payloads, *more] if header.is_response and header.exchange == CREATE else payloads


# --- other answers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [8000, NotifyType.NO_ADDITIONAL_SAS])
def test_an_error_refuses_a_request_for_an_sa_whatever_stands_beside_it(kind, monkeypatch):
    """RFC 7296 §3.10.1: the whole request has failed, also by a type that nobody knows."""
    ladder = Ladder().up()
    (child,) = ladder.a.sad.inbound
    says(monkeypatch, ladder.b.core, in_answers([p.Notify(kind)]))
    new_keys(ladder)
    ladder.settle()
    assert list(ladder.a.sad.inbound) == [child]
    assert not ladder.a.sad.reserved
    assert f"the peer refuses: {'notify 8000' if kind == 8000 else kind.name}" in events(ladder.a, Kind.WARNING)[0].text


def test_a_child_sa_of_an_answer_that_cannot_be_read_is_deleted_at_the_peer(monkeypatch):
    """Or it would send on it, and nobody receives there."""
    ladder = Ladder().up()
    says(
        monkeypatch,
        ladder.b.core,
        lambda header, payloads: (
            [*payloads, raw(PayloadType.KE, b"")] if header.is_response and header.exchange == CREATE else payloads
        ),
    )
    new_keys(ladder)
    ladder.settle()
    ladder.run(30)
    assert len(ladder.a.sad.inbound) == 1
    ladder.check()


def test_complaints_about_our_packets_are_told_now_and_then():
    """RFC 7296 §3.10.1: INVALID_SPI has the SPI in its data, INVALID_SELECTORS in its SPI, with the packet's beginning."""
    traitor = Traitor()
    (outbound,) = traitor.ladder.b.sad.outbound.values()
    spi = outbound.spi.to_bytes(4, "big")
    packet = bytes.fromhex("4500001c0000000040110000") + bytes([10, 2, 0, 5, 10, 9, 0, 7]) + bytes.fromhex("0035003500080000")
    for notify in (p.Notify(NotifyType.INVALID_SPI, spi), p.Notify(NotifyType.INVALID_SELECTORS, packet, ProtocolId.ESP, spi)):
        traitor.ask(INFORMATIONAL, notify)
    for odd in (b"", b"\1", bytes(300)):
        traitor.ask(INFORMATIONAL, p.Notify(NotifyType.INVALID_SELECTORS, odd, 9, odd[:255]))
    told = [event.text for event in events(traitor.ladder.b, Kind.WARNING)]
    assert len(told) == 2
    assert f"(INVALID_SPI) (SPI 0x{spi.hex()}, one that we send on)" in told[0]
    assert "(INVALID_SELECTORS)" in told[1]
    assert "10.9.0.7" in told[1]
    traitor.ladder.clock.advance(60.0)
    traitor.ask(INFORMATIONAL, p.Notify(NotifyType.INVALID_SPI, b"\xde\xad\xbe\xef"))
    assert "0xdeadbeef, none that we send on now" in events(traitor.ladder.b, Kind.WARNING)[2].text
    assert len(traitor.ladder.b.ups) == 1
