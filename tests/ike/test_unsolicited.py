"""Messages outside every IKE SA: answered by a word that is not authenticated, sparingly; and such words are never acted on."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Path, Send
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import Flag, NotifyType

from .ladder import Ladder

SPIS = b"initiato", b"responde"
PATH = Path(Endpoint(ip_address("192.0.2.2"), 500), Endpoint(ip_address("198.51.100.7"), 31337))


def request(exchange=37, flags=Flag.INITIATOR, spis=SPIS, size=80):
    """A datagram of nobody's IKE SA: a header, or at least 36 octets with a notify that nobody knows."""
    header = Header(spis[0], spis[1], exchange, flags, 7)
    return build_message(Message(header, (Notify(40000, bytes(size - 36)),) if size >= 36 else ()))


def version(datagram, number):
    return datagram[:17] + bytes([number << 4]) + datagram[18:]


def sent(site, datagram, now=1000.0, path=PATH):
    return [action for action in site.core.receive(datagram, path, now) if isinstance(action, Send)]


@pytest.mark.parametrize("exchange", [35, 36, 37])
@pytest.mark.parametrize("flags", [0, Flag.INITIATOR])
def test_a_request_of_no_ike_sa_is_told_so(exchange, flags):
    """RFC 7296 §2.21.4: where it came from, same SPIs, message ID and exchange type, not protected."""
    site = Ladder().b
    (reply,) = sent(site, request(exchange, flags))
    message = parse_message(reply.datagram)
    assert reply.path == PATH
    assert (message.header.spi_i, message.header.spi_r, message.header.exchange, message.header.message_id) == (*SPIS, exchange, 7)
    assert message.header.is_response
    assert message.header.from_initiator != bool(flags)
    assert [payload.notify_type for payload in message.all(Notify)] == [NotifyType.INVALID_IKE_SPI]
    assert len(message.payloads) == 1
    assert site.core.counters().unknown_spi == 1


def test_a_newer_major_version_is_told_ours():
    site = Ladder().b
    (reply,) = sent(site, version(request(34, spis=(SPIS[0], bytes(8))), 3))
    message = parse_message(reply.datagram)
    assert message.notify(NotifyType.INVALID_MAJOR_VERSION) is not None
    assert reply.datagram[17] >> 4 == 2


@pytest.mark.parametrize("number", [0, 1])
def test_an_older_one_is_not_answered(number):
    assert sent(Ladder().b, version(request(34), number)) == []


@pytest.mark.parametrize("number", [2, 3])
def test_a_response_is_never_answered(number):
    """Or two gateways would go on for ever."""
    assert sent(Ladder().b, version(request(flags=Flag.RESPONSE), number)) == []


@pytest.mark.parametrize("number", [2, 3])
def test_no_answer_is_larger_than_its_question(number):
    site = Ladder().b
    for size in (28, 36, 37, 80, 1200):
        datagram = version(request(size=size), number)
        assert all(len(reply.datagram) <= len(datagram) for reply in sent(site, datagram))
    assert sent(site, version(request(size=28), number)) == []


def test_no_more_than_ten_a_second_whoever_asks():
    site = Ladder().b
    strangers = [Path(PATH.local, Endpoint(ip_address(0xC6336400 + number), 500)) for number in range(250)]
    assert sum(len(sent(site, request(), path=path)) for path in strangers) == LIMITS.answers_a_second
    assert len(sent(site, request(), now=1000.05)) == 0
    assert sum(len(sent(site, request(), now=1001.05)) for _ in range(50)) == 10


@pytest.mark.parametrize("notify", [NotifyType.INVALID_IKE_SPI, NotifyType.INVALID_MAJOR_VERSION, NotifyType.AUTHENTICATION_FAILED])
@pytest.mark.parametrize("flags", [Flag.RESPONSE, 0])
def test_a_forged_word_changes_nothing(notify, flags):
    """RFC 7296 §2.21.4: MUST NOT change the state of any existing SA, and MUST NOT be answered; even as the answer to a request."""
    ladder = Ladder().up()
    ladder.wire.cut("a", "b")
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    (session,) = ladder.a.core.sessions("to-b")
    header = Header(session.sa.spi_i, session.sa.spi_r, 36, flags, session.window.next_id - 1)
    before, events = list(ladder.a.sad.log), list(ladder.a.events)
    assert sent(ladder.a, build_message(Message(header, (Notify(notify),))), ladder.clock(), ladder.path("a")) == []
    assert (ladder.a.sad.log, ladder.a.events) == (before, events)
    ladder.wire.mend("a", "b")
    ladder.run(10)
    ladder.check()


def test_a_peer_that_lost_its_state_is_found_out_by_silence_alone():
    ladder = Ladder().up()
    ladder.b.core.forget(ladder.clock())
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(20)
    assert [message for message in ladder.messages("b")[2:] if message == "ba CREATE_CHILD_SA-"]
    assert len(ladder.a.ups) == 1
    ladder.run(80)
    assert not ladder.a.ups
