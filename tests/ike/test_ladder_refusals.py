"""What a peer refuses is told by each name in its response, with what it may be about and what to set; new keys come in time."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Cause, Kind, Path
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.v2 import child_respond, transitions
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

from .ladder import ESP, Ladder, packet, peer

LONG = {"ike_life": Life(99999.0)}
PFS = parse_esp(["aes128gcm16-x25519-esn-noesn"])


@pytest.fixture
def refuses(monkeypatch):
    """B answers a request for a CHILD_SA by this notify; not IKE_AUTH, which has one too."""

    def made(kind):
        def row(state, message):
            found = whole(state, message)
            if found is None or found.exchange is not ExchangeType.CREATE_CHILD_SA:
                return found
            return replace(found, answer=lambda _context, _received: [Notify(kind)])

        monkeypatch.setattr(transitions, "request_row", row)

    whole = transitions.request_row
    return made


def ladder_of(ours=ESP, **changes):
    return Ladder(a=[peer("a", esp_proposals=ours, **(LONG | changes))], b=[peer("b", **LONG)]).up()


def warnings(site):
    return [event for event in site.events if event.kind is Kind.WARNING]


@pytest.mark.parametrize(
    ("ours", "suspects"),
    [
        (PFS, "asks for x25519: does the peer's? (esp.proposals here: aes128gcm16-x25519"),
        (ESP, "ours has none: does the peer"),
    ],
)
def test_the_first_rekey_after_ike_auth_suspects_forward_secrecy(refuses, ours, suspects):
    ladder = ladder_of(ours)
    (child,) = ladder.a.sad.inbound
    refuses(NotifyType.NO_PROPOSAL_CHOSEN)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(300)
    (told,) = warnings(ladder.a)
    assert told.child == child
    for words in ("is not rekeyed: the peer refuses: NO_PROPOSAL_CHOSEN", "made in IKE_AUTH", suspects):
        assert words in told.text
    assert ladder.messages("a").count("ab CREATE_CHILD_SA") > 5, "tried again, and told once"


@pytest.mark.parametrize(("kind", "told"), [(NotifyType.INVALID_SELECTORS, 1), (NotifyType.TEMPORARY_FAILURE, 0)])
def test_any_other_refusal_is_told_by_its_name(refuses, kind, told):
    ladder = ladder_of()
    refuses(kind)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(60)
    assert [f"refuses: {kind.name}" in event.text for event in warnings(ladder.a)] == [True] * told


def test_a_peer_that_makes_no_further_sa_is_called_beside_the_old_ike_sa(refuses):
    """NO_ADDITIONAL_SAS: some peers know no CREATE_CHILD_SA at all. No packet is without an SA."""
    ladder = ladder_of(child_life=Life(1000.0))
    first = ladder.a.ups[0].spi_i
    refuses(NotifyType.NO_ADDITIONAL_SAS)
    ladder.run(990)
    ladder.check()
    assert ladder.a.ups[0].spi_i != first
    for site in ladder.sites.values():
        assert Kind.CHILD_DOWN not in site.kinds()
        assert len(site.sad.sending) == 1
    assert "a new IKE SA is made instead" in warnings(ladder.a)[0].text


def test_an_ike_sa_that_cannot_be_rekeyed_is_replaced_by_another(refuses):
    ladder = Ladder(a=[peer("a", ike_life=Life(1000.0))], b=[peer("b", **LONG)]).up()
    first = ladder.a.ups[0].spi_i
    refuses(NotifyType.NO_ADDITIONAL_SAS)
    ladder.run(990)
    ladder.check()
    assert ladder.a.ups[0].spi_i != first
    assert "a new IKE SA is made instead" in warnings(ladder.a)[0].text
    assert Kind.IKE_DOWN not in ladder.b.kinds()


# ---- INVALID_KE_PAYLOAD


@pytest.fixture
def wants_group(monkeypatch):
    """B answers requests for a CHILD_SA by INVALID_KE_PAYLOAD with this group."""
    whole = transitions.request_row

    def made(number):
        def row(state, message):
            found = whole(state, message)
            if found is None or found.exchange is not ExchangeType.CREATE_CHILD_SA:
                return found
            return replace(found, answer=lambda _c, _r: [Notify(NotifyType.INVALID_KE_PAYLOAD, number.to_bytes(2, "big"))])

        monkeypatch.setattr(transitions, "request_row", row)

    return made


TWO_GROUPS = parse_esp(["aes128gcm16-x25519-ecp256-esn-noesn"])


def test_the_group_that_the_peer_wants_is_tried_where_it_is_configured():
    other_order = parse_esp(["aes128gcm16-ecp256-x25519-esn-noesn"])
    ladder = Ladder(a=[peer("a", esp_proposals=TWO_GROUPS, **LONG)], b=[peer("b", esp_proposals=other_order, **LONG)]).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.run(1)
    ladder.check()
    assert ladder.messages("a").count("ab CREATE_CHILD_SA") == 2
    assert warnings(ladder.a) == []
    assert "ecp256" in ladder.a.events[-1].text


@pytest.mark.parametrize("rekey", [True, False])
def test_else_it_is_said_which_and_what_to_set(wants_group, rekey):
    both = {site: [peer(site, esp_proposals=TWO_GROUPS, **LONG)] for site in "ab"}
    ladder = Ladder(**both).up()
    wants_group(14)
    if rekey:
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    else:
        (child,) = ladder.a.sad.inbound
        ladder.a.do(ladder.a.core.delete_child("to-b", child, ladder.clock()))
        ladder.a.do(ladder.a.core.acquire("to-b", packet("10.1.0.1", "10.2.0.1"), ladder.clock()))
    ladder.run(30)
    told = [event.text for event in ladder.a.events if event.kind in (Kind.WARNING, Kind.CHILD_FAILED)]
    assert len(told) == 1
    for words in ("the peer wants modp2048 (group 14), which esp.proposals does not name", "add modp2048 there", "x25519/ecp256"):
        assert words in told[0]


# ---- errors beside each other in IKE_AUTH


@pytest.fixture
def answers_first(monkeypatch):
    """The part of B's IKE_AUTH response that is about the CHILD_SA: these notifies, behind the genuine payloads if `made`."""
    whole = child_respond.answer_first

    def made(*kinds, genuine=False):
        def answer(context, received):
            payloads = whole(context, received) if genuine else []
            return [*payloads, *map(Notify, kinds)]

        monkeypatch.setattr(child_respond, "answer_first", answer)

    return made


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([NotifyType.FAILED_CP_REQUIRED, NotifyType.TS_UNACCEPTABLE], ("it wants to hand out addresses", "none of our selectors")),
        ([NotifyType.INTERNAL_ADDRESS_FAILURE], ("INTERNAL_ADDRESS_FAILURE (it has no address to hand out", "without a pool")),
        ([NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.FAILED_CP_REQUIRED], ("FAILED_CP_REQUIRED", "none of our ESP proposals")),
        (
            [NotifyType.NO_ADDITIONAL_SAS, 48, 9001],
            ("NO_ADDITIONAL_SAS (it takes no", "TS_MAX_QUEUE", "notify 9001 (error for private"),
        ),
        ([NotifyType.SINGLE_PAIR_REQUIRED], ("SINGLE_PAIR_REQUIRED: the peer accepts none of our selectors",)),
        ([], ("the peer made no CHILD_SA (10.1.0.0/24 <-> 10.2.0.0/24)",)),
    ],
)
def test_every_error_in_an_ike_auth_response_is_named(answers_first, kinds, words):
    answers_first(*kinds)
    ladder = Ladder()
    ladder.initiate("a")
    ladder.settle()
    (told,) = [event.text for event in ladder.a.events if event.kind is Kind.CHILD_FAILED]
    for one in (*words, *(kind.name for kind in kinds if isinstance(kind, NotifyType))):
        assert one in told
    assert Kind.IKE_UP in ladder.a.kinds(), "whatever it says"


def test_an_error_beside_a_child_sa_that_was_made_is_told(answers_first):
    answers_first(NotifyType.INTERNAL_ADDRESS_FAILURE, genuine=True)
    ladder = Ladder().up()
    (told,) = warnings(ladder.a)
    assert "says besides: INTERNAL_ADDRESS_FAILURE" in told.text


def test_another_error_beside_that_of_authentication_is_named(monkeypatch):
    both = [NotifyType.FAILED_CP_REQUIRED, NotifyType.AUTHENTICATION_FAILED]
    whole = transitions.request_row

    def row(state, message):
        found = whole(state, message)
        if found is None or found.exchange is not ExchangeType.IKE_AUTH:
            return found
        return replace(found, answer=lambda _c, _r: list(map(Notify, both)))

    monkeypatch.setattr(transitions, "request_row", row)
    ladder = Ladder()
    ladder.initiate("a")
    ladder.settle()
    (told,) = [event for event in ladder.a.events if event.kind is Kind.IKE_FAILED]
    assert told.cause is Cause.AUTHENTICATION
    assert "FAILED_CP_REQUIRED (it wants to hand out addresses" in told.text
    assert "either the secrets differ" in told.text


# ---- a peer that sends from elsewhere


class Moved:
    """From some moment on what A sends comes from another address."""

    def __call__(self, path, receiver):
        if receiver == "b":
            return Path(path.remote, path.local._replace(address=ip_address("203.0.113.1")), path.natt)
        return Path(path.remote, path.local, path.natt)


def test_an_authenticated_peer_at_another_address_is_told_and_not_followed():
    ladder = Ladder().up()
    ladder.translate = Moved()
    for _ in range(3):
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
        ladder.run(10)
    (told,) = warnings(ladder.b)
    for words in ("come from 203.0.113.1 and not from 192.0.2.1", "no NAT was found before it", "MOBIKE is not spoken here"):
        assert words in told.text
    assert ladder.b.moved == []
    ladder.run(60)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    assert len(warnings(ladder.b)) == 2, "and again after a minute"


def test_who_is_nobody_is_not_told_of_from_elsewhere():
    """A replayed or forged message says nothing about the peer."""
    ladder = Ladder().up()
    ladder.translate = Moved()
    for delivery, _ in list(ladder.wire.log):
        datagram, path = delivery.data
        if delivery.receiver == "b":
            ladder.b.do(ladder.b.core.receive(datagram, ladder.translate(path, "b"), ladder.clock()))
            ladder.b.do(ladder.b.core.receive(datagram[:-1] + b"\0", ladder.translate(path, "b"), ladder.clock()))
    assert [event.tunnel for event in warnings(ladder.b)] == [""], "one about the stranger that IKE_SA_INIT seems to be from"
