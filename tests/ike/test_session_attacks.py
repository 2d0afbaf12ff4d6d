"""The bug classes that IKE implementations were exploited through, as far as sessions are concerned; each by name.

Most of them need the keys of a peer that turned: `Traitor` speaks with site A's keys and says what A never would.
"""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsec_dp.ike.actions import Cause, Kind, Report
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.negotiation import with_spi
from ipsec_dp.ike.proposal import Proposal, ProtocolId, parse_esp
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header, build_message, parse_message
from ipsec_dp.ike.v2.protect import open_message, seal_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import ESN, Transform

from .ladder import NETS, Ladder, peer
from .strategies import chains

CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL


class Traitor:
    """A's end of an IKE SA, with a free tongue: each `ask` is the next request, answered by B."""

    def __init__(self, ladder=None):
        self.ladder = ladder or Ladder().up()
        self.session = self.ladder.a.core.sessions("to-b")[0]
        self.number = self.session.window.next_id

    def ask(self, exchange, *payloads, flags=Flag.INITIATOR, number=None):
        """B's answer, opened, or None when there was none."""
        header = Header(self.session.sa.spi_i, self.session.sa.spi_r, exchange, flags, self.number if number is None else number)
        self.number += number is None
        datagram = seal_message(self.session.sa.outgoing, header, payloads, self.ladder.a.randbytes)
        before = len(self.ladder.wire.log)
        self.ladder.b.do(self.ladder.b.core.receive(datagram, self.ladder.path("b"), self.ladder.clock()))
        sent = [delivery.data[0] for delivery, _ in self.ladder.wire.log[before:] if delivery.data[0][19] & 0x20]
        if not sent:
            return None
        return open_message(self.session.sa.incoming, sent[0], parse_message(sent[0]))

    def child(self, spi=b"\0\0\x99\x99", *more, proposals=None):
        """A CREATE_CHILD_SA request as it should be, with `more` in front."""
        nets = NETS["a"]
        offer = with_spi(parse_esp(["aes128gcm16"]) if proposals is None else proposals, spi)
        return self.ask(
            CREATE,
            *more,
            p.SecurityAssociation(offer),
            p.Nonce(bytes(32)),
            p.TrafficSelectorsInitiator((nets.local,)),
            p.TrafficSelectorsResponder((nets.remote,)),
        )


def errors(answer):
    return [notify.notify_type for notify in answer.all(p.Notify) if notify.is_error]


def taken(ladder, receiver):
    """The octets of the datagram that waits for `receiver`, off the wire."""
    delivery = ladder.wire.take(receiver)
    assert delivery is not None
    return delivery.data[0]


def half_open():
    """B has answered IKE_SA_INIT and holds keys; nobody has proven anything."""
    ladder = Ladder()
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    return Traitor(ladder)


@pytest.mark.parametrize("exchange", [CREATE, INFORMATIONAL])
def test_rekey_of_an_sa_that_was_never_authenticated(exchange):
    traitor = half_open()
    rekey = (p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, b"\0\0\x10\0"),) if exchange == CREATE else ()
    nets = NETS["a"]
    answer = traitor.ask(
        exchange,
        *rekey,
        p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), b"\0\0\x99\x99")),
        p.Nonce(bytes(32)),
        p.TrafficSelectorsInitiator((nets.local,)),
        p.TrafficSelectorsResponder((nets.remote,)),
        number=1,
    )
    assert answer is None
    assert traitor.ladder.b.sad.log == []
    assert traitor.ladder.b.core.counters().half_open == 1


def test_delete_of_an_ike_sa_that_was_never_authenticated():
    traitor = half_open()
    assert traitor.ask(INFORMATIONAL, p.Delete(ProtocolId.IKE), number=1) is None
    assert traitor.ladder.b.core.counters().half_open == 1


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31), bytes(33)])
def test_public_values_that_must_not_be_used(public):
    """RFC 6989, RFC 7748 §6.1: as responder no session comes of it, as initiator the genuine answer is waited for."""
    ladder = Ladder()
    ladder.initiate("a")
    request = taken(ladder, "b")
    parsed = parse_message(request)
    bad = [replace(payload, data=public) if isinstance(payload, p.KeyExchangePayload) else payload for payload in parsed.payloads]
    ladder.b.do(ladder.b.core.receive(build_message(parsed.with_payloads(bad)), ladder.path("b"), ladder.clock()))
    assert ladder.b.core.counters().sessions == 0
    ladder.b.do(ladder.b.core.receive(request, ladder.path("b"), ladder.clock()))
    reply = parse_message(taken(ladder, "a"))
    bad = [replace(payload, data=public) if isinstance(payload, p.KeyExchangePayload) else payload for payload in reply.payloads]
    ladder.a.do(ladder.a.core.receive(build_message(reply.with_payloads(bad)), ladder.path("a"), ladder.clock()))
    assert ladder.a.kinds() == [Kind.HINT]
    ladder.run(20)
    ladder.check()


@pytest.mark.parametrize("bad", [{"data": bytes(32)}, {"data": bytes(33)}, {"group": 19}])
def test_a_key_exchange_that_must_not_be_used_leaves_no_spi_of_a_child_sa_behind(bad):
    """RFC 7296 §2.17: no CHILD_SA comes of such an answer, the one before goes on, and the SPI that we offered is free again."""
    esp = parse_esp(["aes128gcm16-x25519"])
    ladder = Ladder(a=[peer("a", esp_proposals=esp)], b=[peer("b", esp_proposals=esp)]).up()
    keys = ladder.b.core.sessions("to-a")[0].sa.outgoing
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.deliver("b")
    sealed = taken(ladder, "a")
    reply = open_message(ladder.a.core.sessions("to-b")[0].sa.incoming, sealed, parse_message(sealed))
    payloads = [replace(each, **bad) if isinstance(each, p.KeyExchangePayload) else each for each in reply.payloads]
    answer = seal_message(keys, reply.header, payloads, ladder.b.randbytes)
    ladder.a.do(ladder.a.core.receive(answer, ladder.path("a"), ladder.clock()))
    assert ladder.a.sad.log[-1] == ("ReleaseSpi", 0)
    assert not ladder.a.sad.reserved
    assert ladder.a.sad.sending == [1]
    ladder.run(60)
    ladder.check()


def test_an_identity_of_a_length_that_cannot_be():
    """Of an identity no octet is looked at before its length is known to fit; the SA comes to nothing."""
    nets = NETS["a"]
    for body in (p.IdentificationInitiator(2, b"a" * 5000), p.IdentificationInitiator(9, b"\x30\x84\xff\xff\xff\xff")):
        again = half_open()
        answer = again.ask(
            ExchangeType.IKE_AUTH,
            body,
            p.Authentication(2, bytes(32)),
            p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), b"\0\0\x99\x99")),
            p.TrafficSelectorsInitiator((nets.local,)),
            p.TrafficSelectorsResponder((nets.remote,)),
            number=1,
        )
        assert errors(answer) == [NotifyType.AUTHENTICATION_FAILED]
        assert again.ladder.b.sad.log == []


def test_selectors_that_only_have_types_nobody_knows():
    traitor = Traitor()
    nets = NETS["a"]

    class Unknown(p.TrafficSelectorsInitiator):
        def build(self, writer):
            for octet in (1, 0, 0, 0, 99, 0, 0, 8, 1, 2, 3, 4):
                writer.u8(octet)

    answer = traitor.ask(
        CREATE,
        p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), b"\0\0\x99\x99")),
        p.Nonce(bytes(32)),
        Unknown(()),
        p.TrafficSelectorsResponder((nets.remote,)),
    )
    assert errors(answer) == [NotifyType.TS_UNACCEPTABLE]
    assert not traitor.ladder.b.sad.reserved


def test_a_flood_of_selectors_installs_no_more_than_is_configured():
    traitor = Traitor()
    many = tuple(TrafficSelector(4, (10 << 24) + n, (10 << 24) + n) for n in range(255))
    nets = NETS["a"]
    traitor.ask(
        CREATE,
        p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), b"\0\0\x99\x99")),
        p.Nonce(bytes(32)),
        p.TrafficSelectorsInitiator((*many[:200], nets.local)),
        p.TrafficSelectorsResponder((*many[:200], nets.remote)),
    )
    (new,) = [inbound for number, inbound in traitor.ladder.b.sad.inbound.items() if number == 2]
    assert len(new.selectors) == 1


@pytest.mark.parametrize("protocol", [ProtocolId.AH, ProtocolId.ESP])
def test_an_spi_in_a_rekey_notify_that_is_not_ours(protocol):
    """It is echoed in CHILD_SA_NOT_FOUND as it came, 4 octets of AH or ESP, and nothing is looked up by it."""
    traitor = Traitor()
    answer = traitor.child(b"\0\0\x99\x99", p.Notify(NotifyType.REKEY_SA, b"", protocol, b"\xde\xad\xbe\xef"))
    (notify,) = answer.all(p.Notify)
    assert notify == p.Notify(NotifyType.CHILD_SA_NOT_FOUND, b"", protocol, b"\xde\xad\xbe\xef")
    assert len(traitor.ladder.b.sad.inbound) == 1


def test_a_rekey_notify_without_an_spi_or_with_that_of_ah():
    traitor = Traitor()
    (outbound,) = traitor.ladder.b.sad.outbound.values()
    for notify in (
        p.Notify(NotifyType.REKEY_SA),
        p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.AH, outbound.spi.to_bytes(4, "big")),
    ):
        assert errors(traitor.child(b"\0\0\x99\x99", notify)) == [NotifyType.CHILD_SA_NOT_FOUND]
    assert len(traitor.ladder.b.sad.inbound) == 1


def test_duplicate_delete_and_use_after_delete():
    """The same SPI five times, in one payload, in two, in another message; then a rekey of what is gone."""
    traitor = Traitor()
    (outbound,) = traitor.ladder.b.sad.outbound.values()
    spi = outbound.spi.to_bytes(4, "big")
    one = p.Delete(ProtocolId.ESP, (spi,))
    answer = traitor.ask(INFORMATIONAL, one, one)
    assert [payload.spis for payload in answer.all(p.Delete)] == [((0x1000).to_bytes(4, "big"),)]
    assert traitor.ask(INFORMATIONAL, one).all(p.Delete) == ()
    rekey = p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, spi)
    assert errors(traitor.child(b"\0\0\x99\x99", rekey)) == [NotifyType.CHILD_SA_NOT_FOUND]
    assert traitor.ladder.b.sad.inbound == {}
    assert traitor.ladder.b.kinds().count(Kind.CHILD_DOWN) == 1


def test_after_the_ike_sa_is_deleted_nothing_more_is_done_on_it():
    """Also: a log line about a state that is no more."""
    traitor = Traitor()
    assert traitor.ask(INFORMATIONAL, p.Delete(ProtocolId.IKE), p.Delete(ProtocolId.ESP, (b"\0\0\x10\0",))) is not None
    log = list(traitor.ladder.b.sad.log)
    assert traitor.child() is None
    assert traitor.ask(INFORMATIONAL, p.Delete(ProtocolId.IKE)) is None
    assert traitor.ladder.b.sad.log == log
    assert traitor.ladder.b.causes() == [Cause.PEER]


def test_memory_growth_from_crafted_exchanges():
    """A peer that makes CHILD_SAs without end, and one that rekeys the IKE SA without ever deleting the old."""
    traitor = Traitor()
    kinds = [errors(traitor.child(number.to_bytes(4, "big"))) for number in range(0x5000, 0x5000 + 200)]
    assert kinds[0] == []
    assert kinds[-1] == [NotifyType.NO_ADDITIONAL_SAS]
    assert len(traitor.ladder.b.sad.inbound) < 100


def test_keys_of_no_length_from_an_unexpected_transform():
    """ENCR_NULL, an AEAD without a key length, an AEAD beside an integrity algorithm: nothing is chosen, no key is derived."""
    traitor = Traitor()
    for transforms in (
        (Transform(1, 11), Transform(5, 0)),
        (Transform(1, 20), Transform(5, 0)),
        (Transform(1, 20, 128), Transform(3, 12), Transform(5, 0)),
        (Transform(1, 12, 128), Transform(3, 0), Transform(5, 0)),
        (Transform(1, 12, 128), ESN),
    ):
        assert errors(traitor.child(proposals=(Proposal(1, ProtocolId.ESP, b"", transforms),))) == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert len(traitor.ladder.b.sad.inbound) == 1
    assert not traitor.ladder.b.sad.reserved


def test_a_certificate_by_url_is_never_fetched_and_never_taken():
    traitor = half_open()
    nets = NETS["a"]
    answer = traitor.ask(
        ExchangeType.IKE_AUTH,
        p.IdentificationInitiator(2, b"gwa.example"),
        p.Certificate(12, bytes(20) + b"http://192.0.2.99/x"),
        p.Authentication(14, bytes(64)),
        p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), b"\0\0\x99\x99")),
        p.TrafficSelectorsInitiator((nets.local,)),
        p.TrafficSelectorsResponder((nets.remote,)),
        number=1,
    )
    assert errors(answer) == [NotifyType.AUTHENTICATION_FAILED]
    assert traitor.ladder.b.sad.log == []


def test_a_badly_formed_request_is_fatal_once_it_is_authenticated():
    """INVALID_SYNTAX inside the protection ends the SA on both sides (RFC 7296 §2.21.3)."""
    traitor = Traitor()
    assert errors(traitor.ask(CREATE, p.Nonce(bytes(32)))) == [NotifyType.INVALID_SYNTAX]
    assert traitor.ladder.b.causes() == [Cause.SYNTAX]
    assert not traitor.ladder.b.sad.inbound


def test_a_reflected_message_is_not_the_peers():
    ladder = Ladder().up()
    for delivery, _ in list(ladder.wire.log):
        site = ladder.sites[delivery.sender]
        log = list(site.sad.log)
        assert site.core.receive(delivery.data[0], ladder.path(delivery.sender), ladder.clock()) == []
        assert site.sad.log == log


def test_transport_mode_and_ipcomp_are_declined_by_silence():
    """RFC 7296 §1.3.1, §2.22: what is not echoed is not in force."""
    traitor = Traitor()
    answer = traitor.child(
        b"\0\0\x99\x99", p.Notify(NotifyType.USE_TRANSPORT_MODE), p.Notify(NotifyType.IPCOMP_SUPPORTED, b"\0\1\2")
    )
    assert answer.all(p.Notify) == ()
    assert answer.get(p.SecurityAssociation) is not None


# --- anything at all -------------------------------------------------------------------------------------------------

ANYTHING = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
def recorded():
    """Datagrams of a whole life, as (receiver, octets)."""
    ladder = Ladder().up()
    for ike in (False, True):
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))
        ladder.settle()
    return [(delivery.receiver, delivery.data[0]) for delivery, _ in ladder.wire.log]


@ANYTHING
@given(data=st.data())
def test_no_alteration_of_a_datagram_changes_or_breaks_anything(recorded, data):
    """At any point of a life a datagram with any octet changed, cut short or made longer changes no state and raises nothing."""
    ladder = Ladder()
    ladder.initiate("a")
    for _ in range(data.draw(st.integers(0, 3))):
        ladder.deliver("b") or ladder.deliver("a")
    receiver, datagram = data.draw(st.sampled_from([item for item in recorded if item[1][18] != ExchangeType.IKE_SA_INIT]))
    at = data.draw(st.integers(0, len(datagram) - 1))
    altered = datagram[:at] + bytes([datagram[at] ^ data.draw(st.integers(1, 255))]) + datagram[at + 1 :]
    cut = altered[: data.draw(st.integers(0, len(altered)))] if data.draw(st.booleans()) else altered
    site = ladder.sites[receiver]
    site.do(site.core.receive(cut, ladder.path(receiver), ladder.clock()))
    ladder.settle()
    ladder.check()


@ANYTHING
@given(chain=chains)
def test_no_request_of_an_authenticated_peer_raises_or_leaks(chain):
    """Whatever payloads stand in it: an answer or none, and every SPI is installed, released or still reserved for nobody."""
    traitor = Traitor()
    for exchange in (INFORMATIONAL, CREATE):
        try:
            traitor.ask(exchange, *chain)
        except (IkeError, ValueError):
            return  # what cannot be built cannot be sent
    traitor.ladder.settle()
    assert not traitor.ladder.b.sad.reserved


@pytest.mark.parametrize("number", range(2, 10))
def test_a_message_whose_icv_does_not_hold_is_not_answered_and_changes_nothing(number):
    """Each message of a life, spoiled in its last octet, in front of the genuine one."""
    ladder = Ladder()
    ladder.initiate("a")
    rekeyed = False
    while ladder.wire.waiting("a") + ladder.wire.waiting("b") or not rekeyed:
        if not ladder.wire.waiting("a") + ladder.wire.waiting("b"):
            rekeyed = True
            ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
        receiver = "b" if ladder.wire.waiting("b") else "a"
        if len(ladder.wire.log) == number + 1:
            datagram = ladder.wire.log[number][0].data[0]
            site, log = ladder.sites[receiver], list(ladder.sites[receiver].sad.log)
            spoiled = datagram[:-1] + bytes([datagram[-1] ^ 1])
            told = site.core.receive(spoiled, ladder.path(receiver), ladder.clock())
            kinds = [action.event.kind if isinstance(action, Report) else action for action in told]
            assert kinds == [Kind.HINT] * (number == 3), "where the request makes an IKE SA"
            assert site.core.counters().unauthenticated == 1
            assert site.sad.log == log
        ladder.deliver(receiver)
    ladder.check()
