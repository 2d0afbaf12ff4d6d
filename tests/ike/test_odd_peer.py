"""The odd peer with our own gateway in memory: what it follows and answers, and that it is as odd as it was told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.wire import CRITICAL, ExchangeType, NotifyType
from ipsec_dp.rig.odd_exchanges import create_child, delete_ike, rekey_ike
from ipsec_dp.rig.odd_parts import RawPayload, build_parts, raw
from ipsec_dp.rig.odd_peer import OddPeer

from .under_test import AGREED, SUITE, LadderWire


def peer(wire=None, **changes):
    return OddPeer(replace(AGREED, **changes), wire or LadderWire())


def up(wire=None):
    one = peer(wire)
    one.init()
    one.auth()
    assert one.authentic
    return one


def test_it_comes_up_and_both_have_the_same_child_sa():
    wire = LadderWire()
    one = up(wire)
    (child,) = one.children
    assert wire.ladder.b.receives_on() == [int.from_bytes(child.outgoing.spi, "big")]
    assert wire.ladder.b.sends_to() == [int.from_bytes(child.incoming.spi, "big")]


def test_it_comes_back_with_the_cookie_that_it_is_asked_for():
    wire = LadderWire()
    for _ in range(20):
        assert peer(wire).init() is not None
    last = peer(wire)
    assert last.init().get(p.SecurityAssociation) is not None
    assert any(heard.message.notify(NotifyType.COOKIE) for heard in last.heard)
    assert last.auth().get(p.Authentication) is not None


def test_it_comes_back_with_the_group_that_it_is_asked_for():
    one = peer(ike=parse_ike(["aes128gcm16-prfsha256-x25519-ecp256"]))
    assert one.exchanged.group.keyword == "x25519"
    one.init()
    one.auth()
    assert one.exchanged.group.keyword == "ecp256"
    assert one.authentic


def test_it_does_not_believe_a_gateway_that_is_somebody_else():
    one = peer(remote_id=AGREED.local_id)
    one.init()
    one.auth(lambda parts: [part for part in parts if not isinstance(part, p.IdentificationResponder)])
    assert not one.authentic
    assert one.children == []


def test_it_answers_what_the_gateway_asks():
    wire = LadderWire()
    one, b = up(wire), wire.ladder.b
    b.do(b.core.terminate("to-a", wire.now()))
    wire.collect()
    assert one.listen(lambda heard: heard.protected and not heard.message.header.is_response, 5.0, 0) is not None
    assert one.gone
    assert not b.status


def test_it_answers_late_and_twice_when_it_is_told_to():
    wire = LadderWire()
    one, b = up(wire), wire.ladder.b
    asked = []
    one.answering = lambda _peer, request: asked.append(request)
    b.do(b.core.terminate("to-a", wire.now()))
    wire.collect()
    assert one.listen(lambda _heard: len(asked) == 3, 20.0, len(one.heard)) is not None, "it is asked again and again"
    assert b.status
    one.answer(asked[0], [])
    one.answer(asked[0], [])
    assert not b.status


def test_both_kinds_of_sa_are_rekeyed():
    wire = LadderWire()
    one = up(wire)
    create_child(one, one.children[0])
    assert len(one.children) == 2
    old = one.sa
    answer, returned = rekey_ike(one)
    assert answer is not None
    assert returned is old
    assert one.ask(ExchangeType.INFORMATIONAL) is not None
    assert delete_ike(one) is not None
    assert wire.ladder.b.ups == []


def test_a_raw_payload_is_as_it_was_told():
    first, octets = build_parts([RawPayload(100, b"abc", CRITICAL, 9), raw(p.Nonce(bytes(16)), flags=0x7F), p.VendorId(b"v")])
    assert first == 100
    assert octets == b"\x28\x80\0\x09abc" + b"\x2b\x7f\0\x14" + bytes(16) + b"\0\0\0\5v"
    assert build_parts([]) == (0, b"")


def test_a_request_right_in_all_is_read_as_it_was_meant():
    one = peer()
    parts = one.init_parts()
    message = parse_message(one.init_request(parts))
    assert message.payloads == tuple(parts)
    assert (message.header.spi_i, message.header.message_id) == (one.sa.spi_i, 0)
    assert message.get(p.SecurityAssociation) == p.SecurityAssociation(parse_ike([SUITE]))


def test_nothing_is_sealed_without_keys():
    with pytest.raises(RuntimeError, match="no keys before IKE_SA_INIT was answered"):
        peer().sealed(ExchangeType.INFORMATIONAL, [])


def test_no_key_shows_in_what_is_printed():
    one = up()
    secrets = [bytes(getattr(one.sa.keys, name)).hex() for name in ("sk_d", "sk_ei", "sk_er", "sk_pi", "sk_pr")]
    printed = f"{one.sa!r} {one.agreed!r} {one.children!r} {one.agreed.psk!r} {vars(one)!r}"
    assert not [secret for secret in secrets if secret in printed]
    assert "a secret both of them know" not in printed
