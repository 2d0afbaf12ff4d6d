"""The odd peer that is called: what a gateway of ours makes of answers that are late, doubled, refused or in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType
from ipsec_dp.rig import impair, packets
from ipsec_dp.rig.odd_answers import changing, late, never, redundant, refusing, twice
from ipsec_dp.rig.odd_exchanges import create_child, delete_child, delete_ike, rekey_ike
from ipsec_dp.rig.odd_parts import RawPayload
from ipsec_dp.rig.odd_responder import rightly_called
from tests.unit.odd_calls import calling

INFORMATIONAL, CREATE = ExchangeType.INFORMATIONAL, ExchangeType.CREATE_CHILD_SA
HELLO = packets.udp("10.1.0.5", "10.2.0.5", b"hello")


def agree(a, peer):
    """Both have the same one CHILD_SA."""
    peer.listen(lambda _: False, 10.0, len(peer.heard))
    (sa,), (child,) = a.sas(), peer.children
    assert sa.spi_out == f"0x{child.incoming.spi.hex()}"
    assert sa.spi_in == f"0x{child.outgoing.spi.hex()}"


def ike_spi(gateway):
    ike = gateway.tunnel().ike
    return None if ike is None else ike.spi_i


def kinds(gateway):
    return [str(event.kind) for event in gateway.events()]


def test_a_call_comes_up_and_packets_go_both_ways():
    with calling() as (a, peer):
        assert peer.await_call()
        agree(a, peer)
        a.inject(HELLO)
        heard = peer.listen(lambda each: each.esp is not None, 1.0, 0)
        assert heard is not None
        assert heard.esp is not None
        assert heard.esp.payload == HELLO
        back = packets.udp("10.2.0.5", "10.1.0.5", b"back")
        peer.wire.send(peer.children[0].outgoing.seal(back, 1), natt=True)
        a.wait("packet")
        assert a.received() == [back]


@pytest.mark.parametrize(
    "answering",
    [
        late(2, rightly_called),
        twice(rightly_called),
        changing(lambda parts: parts[::-1], then=rightly_called),
        changing(lambda parts: [RawPayload(200, b"?"), *parts, p.Notify(40_000), p.VendorId(b"odd")], then=rightly_called),
        changing(
            lambda parts: [
                p.SecurityAssociation(tuple(replace(each, transforms=each.transforms[::-1]) for each in part.proposals))
                if isinstance(part, p.SecurityAssociation)
                else part
                for part in parts
            ],
            then=rightly_called,
        ),
        refusing(NotifyType.COOKIE, b"a cookie", exchange=ExchangeType.IKE_SA_INIT, then=rightly_called),
    ],
    ids=["late", "twice", "in another order", "unknown payloads", "transforms in another order", "after a cookie"],
)
def test_an_odd_but_right_answer_comes_up(answering):
    with calling() as (a, peer):
        peer.answering = answering
        assert peer.await_call()
        agree(a, peer)


def test_a_call_that_is_never_answered_is_repeated_octet_for_octet():
    with calling() as (a, peer):
        peer.answering = never
        assert not peer.await_call(5.0)
        assert len(peer.calls) >= 2
        assert len(set(peer.calls)) == 1
        assert a.tunnel().state == "negotiating"


def test_a_cookie_comes_back_and_before_all_else():
    with calling() as (_, peer):
        peer.answering = refusing(NotifyType.COOKIE, b"a cookie", exchange=ExchangeType.IKE_SA_INIT, then=rightly_called)
        assert peer.await_call()
        first, second = map(parse_message, dict.fromkeys(peer.calls))
        assert second.payloads == (p.Notify(NotifyType.COOKIE, b"a cookie"), *first.payloads)


def test_an_unauthenticated_refusal_does_not_end_the_call():
    with calling() as (a, peer):
        peer.answering = refusing(NotifyType.NO_PROPOSAL_CHOSEN, exchange=ExchangeType.IKE_SA_INIT, then=rightly_called)
        assert peer.await_call(200.0)
        agree(a, peer)


def test_an_auth_that_does_not_hold_brings_nothing():
    def broken(parts):
        return [replace(part, data=bytes(32)) if isinstance(part, p.Authentication) else part for part in parts]

    with calling() as (a, peer):
        peer.answering = changing(broken, ExchangeType.IKE_AUTH, rightly_called)
        peer.await_call()
        peer.listen(lambda _: False, 1.0, len(peer.heard))
        assert "IKE SA up" not in kinds(a)
        assert a.sas() == ()


def test_a_request_that_is_repeated_has_the_same_response_and_makes_nothing_twice():
    with calling() as (a, peer):
        lost = impair.drop(a.network.wire, impair.nth(impair.ike("IKE_AUTH", response=True), 1))
        assert peer.await_call()
        agree(a, peer)
        assert lost.hits == 1
        assert a.tunnel().state == "up"


def test_a_gateway_with_another_key_is_not_believed():
    with calling(psk=PreSharedKey.from_text("a secret that only one of them knows")) as (a, peer):
        assert not peer.await_call(30.0)
        assert peer.calls
        assert not peer.children
        assert a.sas() == ()


def test_a_rekey_of_both_kinds_at_once_and_a_delete_early():
    with calling() as (a, peer):
        assert peer.await_call()
        old = peer.children[0]
        create_child(peer, old)
        delete_child(peer, old)
        agree(a, peer)
        answer, before = rekey_ike(peer)
        assert answer is not None
        new, peer.sa = peer.sa, before
        peer.ask(INFORMATIONAL, [p.Delete(1)])
        peer.sa = new
        agree(a, peer)
        assert ike_spi(a) == new.spi_i.hex()
        assert delete_ike(peer) is not None
        assert a.sas() == ()


@pytest.mark.parametrize("ike", [False, True], ids=["CHILD_SA", "IKE SA"])
def test_a_rekey_by_the_gateway_is_followed(ike):
    with calling() as (a, peer):
        assert peer.await_call()
        agree(a, peer)
        before = a.sas()[0].spi_in, ike_spi(a)
        peer.answering = rightly_called
        a.rekey(ike=ike)
        agree(a, peer)
        after = a.sas()[0].spi_in, ike_spi(a)
        assert [one != other for one, other in zip(before, after, strict=True)] == [not ike, ike]


@pytest.mark.parametrize("kind", [NotifyType.TEMPORARY_FAILURE, NotifyType.NO_PROPOSAL_CHOSEN])
def test_a_rekey_that_is_refused_leaves_the_sa_and_is_tried_again(kind):
    with calling() as (a, peer):
        assert peer.await_call()
        agree(a, peer)
        before = a.sas()[0].spi_in
        peer.answering = refusing(kind, then=rightly_called)
        a.rekey()
        refused = peer.hears(CREATE)
        assert refused is not None
        assert [sa.spi_in for sa in a.sas()] == [before]
        since = len(peer.heard)
        if peer.hears(CREATE, 60.0, since) is None:  # it waits for its soft limit
            a.rekey()
        agree(a, peer)
        assert a.sas()[0].spi_in != before


@pytest.mark.parametrize("we_lose", [True, False])
def test_rekeys_that_cross_leave_one_child_sa(we_lose):
    """Whose exchange has the lowest of the four nonces deletes what it made (RFC 7296 §2.8.1)."""
    lowest, highest = bytes(32), b"\xff" * 32
    with calling() as (a, peer):
        assert peer.await_call()
        agree(a, peer)
        (old,) = peer.children
        peer.nonce = iter([lowest, highest] if we_lose else [highest, lowest]).__next__  # of our request, and of our response
        a.rekey()
        create_child(peer, old)
        theirs, ours = (next(child for child in peer.children[1:] if child.ours is each) for each in (False, True))
        lost = redundant(theirs, ours)
        assert (lost is ours) is we_lose
        delete_child(peer, ours if we_lose else old)
        agree(a, peer)
        assert peer.children == [theirs if we_lose else ours]


@pytest.mark.parametrize("gateway_is_right", [True, False])
def test_a_collision_that_nobody_clears_up_ends_with_one_child_sa_of_the_gateway_alone(gateway_is_right):
    """A peer that never deletes the SA that it is to delete does not leave the gateway sending on two."""
    with calling() as (a, peer):
        assert peer.await_call()
        agree(a, peer)
        peer.nonce = iter([bytes(32), b"\xff" * 32] if gateway_is_right else [b"\xff" * 32, bytes(32)]).__next__
        a.rekey()
        create_child(peer, peer.children[0])
        peer.listen(lambda _: False, 300.0, len(peer.heard))
        a.inject(HELLO)
        assert peer.listen(lambda each: each.esp is not None, 1.0, 0) is not None
        assert a.tunnel().state == "up"
