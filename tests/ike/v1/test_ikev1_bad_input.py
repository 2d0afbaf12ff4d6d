"""What cannot be, from a peer that has authenticated: no SA comes of it, it is counted or told once, and the next one is taken."""

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.v1 import offers, proxy
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.message import build_isakmp, build_payloads
from ipsec_dp.ike.v1.registry import suites_phase2
from ipsec_dp.ike.v1.wire import EncapsulationMode, ExchangeMode, HeaderFlag, NotifyCode, PayloadKind, Protocol

from .gateways import Gateways, peer, texts
from .isakmp_peer import sealed

OURS = peer("a")
SA = offers.phase2_offer(suites_phase2(OURS.esp_proposals), b"\0\0\x20\0", EncapsulationMode.TUNNEL, OURS.child_life)
NONCE = p.NoncePayload(bytes(32))
IDS = tuple(proxy.id_of(side) for side in OURS.proxy_ids[0])


class _Raw(p.IsakmpPayload):
    """A payload of any kind with any body."""

    def __init__(self, kind, octets):
        self.type = kind  # type: ignore[misc]
        self.octets = octets

    def build(self, writer):
        writer.octets(self.octets)


EMPTY_SA = _Raw(PayloadKind.SA, bytes.fromhex("0000000100000001"))
# Payloads behind the hash, and what is counted of them, or what is told.
BAD = {
    "an SA without a proposal": ((EMPTY_SA, NONCE, *IDS), "unauthenticated"),
    "an SA twice": ((SA, SA, NONCE, *IDS), "unauthenticated"),
    "a nonce twice": ((SA, NONCE, NONCE, *IDS), "unauthenticated"),
    "three IDs": ((SA, NONCE, *IDS, IDS[0]), "unauthenticated"),
    "one ID": ((SA, NONCE, IDS[0]), "message 1 lacks payloads"),
    "no SA": ((NONCE, *IDS), "message 1 lacks payloads"),
    "no nonce": ((SA, *IDS), "message 1 lacks payloads"),
    "a nonce too short": ((SA, _Raw(PayloadKind.NONCE, bytes(7)), *IDS), "unauthenticated"),
    "an ID shorter than it says": ((SA, NONCE, IDS[0], p.IdPayload(4, 0, 0, bytes(7))), "type 4 with 7 octets"),
    "an ID longer than it says": ((SA, NONCE, p.IdPayload(1, 0, 0, bytes(16)), IDS[1]), "type 1 with 16 octets"),
    "an ID of no octets": ((SA, NONCE, IDS[0], p.IdPayload(6, 0, 0, b"")), "type 6 with 0 octets"),
    "an ID too short for its own header": ((SA, NONCE, IDS[0], _Raw(PayloadKind.ID, b"\1\0")), "unauthenticated"),
    "a range backwards": (
        (SA, NONCE, IDS[0], p.IdPayload(7, 0, 0, bytes([10, 2, 0, 9, 10, 2, 0, 1]))),
        "addresses run backwards",
    ),
    "a mask with holes": ((SA, NONCE, IDS[0], p.IdPayload(4, 0, 0, bytes([10, 2, 0, 0, 255, 0, 255, 0]))), "mask has holes"),
    "a port without a protocol": ((SA, NONCE, IDS[0], p.IdPayload(1, 0, 80, bytes(4))), "port 80 and no protocol"),
    "a name as a proxy ID": ((SA, NONCE, IDS[0], p.IdPayload(2, 0, 0, b"net.example")), "type 2"),
}


def up():
    gateways = Gateways([peer("a", encapsulation="esp")]).start()
    return gateways, gateways.b.core.ikev1.sessions("to-a")[-1]


def give(gateways, datagram):
    gateways.b.do(gateways.b.core.receive(datagram, gateways.path("b"), gateways.clock()))


@pytest.mark.parametrize("case", BAD)
def test_a_quick_mode_that_cannot_be(case):
    payloads, said = BAD[case]
    gateways, context = up()
    before = len(gateways.b.sad.log)
    give(gateways, sealed(context, payloads, ExchangeMode.QUICK))
    assert len(gateways.b.sad.log) == before
    if said == "unauthenticated":
        assert gateways.faults()["b"] == {said: 1}
    else:
        assert gateways.faults()["b"] == {"malformed": 1}
        (text,) = texts(gateways.b, Kind.CHILD_FAILED)
        assert said in text
    give(gateways, sealed(context, (SA, NONCE, *IDS), ExchangeMode.QUICK, 78))
    assert [name for name, _ in gateways.b.sad.log[before:]] == ["InstallInbound", "InstallOutbound"]


@pytest.mark.parametrize("padding", [bytes(240), b"\xff" * 240, bytes(range(3))])
def test_padding_may_be_anything(padding):
    """And up to a block more, which encryption adds."""
    gateways, context = up()
    give(gateways, sealed(context, (SA, NONCE, *IDS), ExchangeMode.QUICK, behind=padding))
    assert 2 in gateways.b.sad.inbound


def test_more_than_padding_is_none():
    gateways, context = up()
    give(gateways, sealed(context, (SA, NONCE, *IDS), ExchangeMode.QUICK, behind=bytes(256)))
    assert 2 not in gateways.b.sad.inbound
    assert gateways.faults()["b"] == {"unauthenticated": 1}


# --- the commit bit, and notifications -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 10))
def test_the_commit_bit_is_survived_in_any_message(number):
    """Nobody waits here for a CONNECTED, and whoever sends one need not fear."""
    gateways = Gateways()
    gateways.initiate("a")
    for place in range(1, 10):
        receiver = "b" if place % 2 else "a"
        datagram, path = gateways.taken(receiver)
        if place == number:
            datagram = datagram[:19] + bytes([datagram[19] | HeaderFlag.COMMIT]) + datagram[20:]
        who = gateways.sites[receiver]
        who.do(who.core.receive(datagram, gateways.translate(path, receiver), gateways.clock()))
    gateways.check()
    assert gateways.faults() == {"a": {}, "b": {}}


@pytest.mark.parametrize("code", [NotifyCode.CONNECTED, NotifyCode.REPLAY_STATUS, 9999, 40_000, 65_535])
def test_notifications_that_nobody_knows_are_survived(code):
    gateways, context = up()
    notification = p.NotificationPayload(Protocol.ESP, code, b"\0\0\x10\0", b"data")
    give(gateways, sealed(context, [notification]))
    give(gateways, sealed(context, (SA, NONCE, *IDS, notification), ExchangeMode.QUICK, 78))
    assert 2 in gateways.b.sad.inbound
    assert gateways.faults()["b"] == {}


def test_an_informational_message_that_says_nothing_changes_nothing():
    """An empty one, one whose DELETE names nothing, one of a protocol that is not there, one of another ISAKMP SA."""
    gateways, context = up()
    for number, payloads in enumerate(
        ([], [p.DeletePayload(Protocol.ESP, ())], [p.DeletePayload(2, (b"\0\0\x10\0",))], [p.DeletePayload(1, (bytes(16),))]), 100
    ):
        give(gateways, sealed(context, payloads, message_id=number))
    assert gateways.b.sad.sending == [1]
    assert gateways.faults()["b"] == {}


def test_in_clear_where_encryption_is_due():
    gateways, context = up()
    for exchange in (ExchangeMode.QUICK, ExchangeMode.INFORMATIONAL):
        first, octets = build_payloads((p.HashPayload(bytes(32)), SA, NONCE, *IDS))
        give(gateways, build_isakmp(context.header(exchange, 77), first, octets))
    assert gateways.faults()["b"] == {"unauthenticated": 2}
    assert 2 not in gateways.b.sad.inbound
