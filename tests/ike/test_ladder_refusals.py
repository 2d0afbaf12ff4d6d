"""A rekey of a CHILD_SA that the peer refuses: told once by the notify's name, with what it may be about, and new keys in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.v2 import transitions
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

from .ladder import ESP, Ladder, peer

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
