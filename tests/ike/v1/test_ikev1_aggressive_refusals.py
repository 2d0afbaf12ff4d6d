"""What is refused in aggressive mode, and what is then said on both sides: alike main mode."""

from typing import Any

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.message import build_clear
from tests.ike.ladder import proxy_id

from .gateways import Gateways, aggressive, peer
from .isakmp_peer import in_words, sent


def both(**changes):
    """Gateways of which each speaks aggressive mode, but for what is said."""
    return Gateways([aggressive("a", **changes.get("of_a", {}))], [aggressive("b", **changes.get("of_b", {}))])


def give(gateways, site, datagram):
    """As it comes from the address of the peer."""
    who = gateways.sites[site]
    who.do(who.core.receive(datagram, gateways.path(site), gateways.clock()))


KEYS = "the shared keys or the identities differ; its log tells (not authenticated)"
OTHER_MODE = "it may be told to speak another mode: both sides must be told the same one (ike.mode) (not authenticated)"
OURS = "aes256-sha256-ecp256-psk), or expects nobody from here; its log tells (not authenticated)"
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "main mode is expected": (
        {"of_b": {"mode": "main"}},
        "the peer refuses aggressive mode: INVALID-EXCHANGE-TYPE: " + OTHER_MODE,
        "192.0.2.1:500 begins aggressive mode, and the tunnel is to speak main mode: both sides must be told the same one",
    ),
    "aggressive mode is expected": (
        {"of_a": {"mode": "main"}},
        "the peer refuses main mode: INVALID-EXCHANGE-TYPE: " + OTHER_MODE,
        "192.0.2.1:500 begins main mode, and the tunnel is to speak aggressive mode: both sides must be told the same one",
    ),
    "another identity": (
        {"of_b": {"remote_id": Identity.from_text("else.example")}},
        "the peer refuses aggressive mode: AUTHENTICATION-FAILED: " + KEYS,
        "192.0.2.1:500 did not prove who it is: expected else.example; the peer says it is gwa.example; they differ in value",
    ),
    "proposals": (
        {"of_b": {"ike_proposals": parse_ike(["aes128-sha256-ecp256"])}},
        "the peer refuses aggressive mode: NO-PROPOSAL-CHOSEN: it takes none of our phase-1 proposals (" + OURS,
        "differs: encryption (ours aes128, peer's aes256)",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refusal_is_counted_and_told_on_both_sides(why):
    changes, ours, theirs = REFUSED[why]
    gateways = both(**changes)
    gateways.initiate("a")
    gateways.run(200)
    (failed,) = [event for event in gateways.a.events if event.kind is Kind.IKE_FAILED]
    assert failed.text == ours
    (told,) = gateways.b.events
    assert told.kind is Kind.IKE_FAILED
    assert told.text.endswith(theirs)
    assert gateways.faults()["b"] == {"refused": 1}
    assert len(gateways.modes()) == 2
    assert [one.core.counters().sessions for one in gateways.sites.values()] == [0, 0]


def test_another_secret_is_found_by_whoever_begins_and_told_to_the_other():
    gateways = both(of_b={"auth": SharedKeyAuth(PreSharedKey.from_text("another secret"))})
    gateways.initiate("a")
    gateways.run(200)
    (failed,) = [event for event in gateways.a.events if event.kind is Kind.IKE_FAILED]
    assert "did not prove who it is: its hash does not fit: the shared keys differ" in failed.text
    (told,) = [event for event in gateways.b.events if event.kind is Kind.IKE_FAILED]
    assert told.text.endswith(
        "the peer does not take our proof: AUTHENTICATION-FAILED: the shared keys or the identities differ (not authenticated)"
    )
    (hint,) = [event for event in gateways.b.events if event.kind is Kind.HINT]
    assert hint.text.endswith("the shared keys or the identities differ (not authenticated)")
    assert not any(one.ups for one in gateways.sites.values())


def test_a_public_value_of_another_group_is_explained():
    gateways = both(of_b={"ike_proposals": parse_ike(["aes256-sha256-ecp384"])})
    two = Gateways([aggressive("a", ike_proposals=parse_ike(["aes256-sha256-ecp384"]))])
    two.initiate("a")
    other, mine = in_words(sent(two, "a", 1)), begun(gateways)
    mixed = [mine.get(p.KePayload) if type(one) is p.KePayload else one for one in other.payloads]
    give(gateways, "b", build_clear(other.header, mixed))
    assert "offers ecp384, and brings a public value of another group" in gateways.b.events[0].text
    assert gateways.faults()["b"] == {"refused": 1}


def begun(gateways):
    """Message 1 of a, which does not arrive."""
    gateways.initiate("a")
    gateways.taken("b")
    return in_words(sent(gateways, "a", 1))


def test_an_answer_in_the_other_mode_is_explained():
    """As initiator: somebody answers main mode by aggressive mode, which is counted and does not end the attempt."""
    gateways = Gateways()
    gateways.initiate("a")
    first, second = sent(gateways, "a", 1), both().start()
    answer = sent(second, "b", 1)
    give(gateways, "a", first[:8] + answer[8:])
    assert gateways.faults()["a"] == {"out_of_window": 1}
    assert (
        gateways.a.events[0].text
        == "192.0.2.2:500 answers in aggressive mode, and the tunnel is to speak main mode (not authenticated)"
    )
    gateways.settle()
    gateways.check()


def test_tunnels_of_both_modes_may_share_an_address():
    one = peer(
        "b", tunnel="main", remote_id=Identity.from_text("other.example"), proxy_ids=(proxy_id("10.9.0.0/24", "10.8.0.0/24"),)
    )
    gateways = Gateways([aggressive("a")], [one, aggressive("b")]).start("a")
    gateways.check()
    assert {event.tunnel for event in gateways.b.events} == {"to-a"}
