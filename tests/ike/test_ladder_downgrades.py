"""What is told, and how loudly, of a peer whose keys do not withstand a quantum adversary though ours could have."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.ppk import Ppk
from ipsec_dp.ike.proposal import CLASSIC_IKE, DEFAULT_IKE, parse_ike
from ipsec_dp.ike.v2.downgrades import REMEMBERED, Downgrades

from .ladder import OTHER, Ladder, peer

DEFAULTS = {"ike_proposals": parse_ike(DEFAULT_IKE), "by_default": True}
CLASSIC = {"ike_proposals": parse_ike(CLASSIC_IKE)}
LESS = "the keys do not withstand a quantum adversary who records today"


def told(site):
    """What it says of it since it was asked last: in warnings, and where an IKE SA is said to be up."""
    found = [(event.kind, event.text) for event in site.events if LESS in event.text]
    site.events.clear()
    return [kind for kind, _ in found]


def again(ladder, first, **peers):
    """Both go down, are configured so, and come up again."""
    for name, changes in peers.items():
        ladder.sites[name].core.set_peers([peer(name, **changes)])
    ladder.a.do(ladder.a.core.terminate(ladder.a.tunnel, ladder.clock()))
    ladder.settle()
    return ladder.up(first)


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("site", ["a", "b"])
def test_a_peer_without_the_defaults_ml_kem_is_told_of_once_and_without_a_warning(site, first):
    ladder = Ladder(**{site: [peer(site, **DEFAULTS)], OTHER[site]: [peer(OTHER[site], **CLASSIC)]}).up(first)
    assert ladder.a.status[0].proposal == "aes256gcm16-prfsha384-x25519"
    assert told(ladder.sites[site]) == [Kind.IKE_UP]
    assert told(ladder.sites[OTHER[site]]) == []  # which has nothing better to offer
    again(ladder, first)
    assert told(ladder.sites[site]) == []


@pytest.mark.parametrize("first", ["a", "b"])
def test_both_by_default_have_ml_kem_and_nothing_is_told(first):
    ladder = Ladder(a=[peer("a", **DEFAULTS)], b=[peer("b", **DEFAULTS)]).up(first)
    assert ladder.a.status[0].proposal == "aes256gcm16-prfsha384-x25519-ke1_mlkem768"
    assert told(ladder.a) == told(ladder.b) == []


def test_a_peer_that_had_ml_kem_and_has_it_no_longer_is_a_warning_each_time():
    ladder = Ladder(a=[peer("a", **DEFAULTS)], b=[peer("b", **DEFAULTS)]).up()
    assert told(ladder.a) == []
    for _ in range(2):
        again(ladder, "a", b=CLASSIC)
        assert told(ladder.a) == [Kind.WARNING]
    again(ladder, "a", b=DEFAULTS)
    assert told(ladder.a) == []


def test_whose_own_proposals_have_no_ml_kem_any_more_is_not_warned_of_the_peer():
    ladder = Ladder(a=[peer("a", **DEFAULTS)], b=[peer("b", **DEFAULTS)]).up()
    again(ladder, "a", a=CLASSIC)
    assert told(ladder.a) == []


@pytest.mark.parametrize(
    "asked", [{"by_default": False}, {"ppks": (Ppk(b"one", PreSharedKey.from_text("p" * 32)),), "ppk": "if-offered"}]
)
def test_what_somebody_has_written_is_a_warning_each_time(asked):
    ladder = Ladder(a=[peer("a", **(DEFAULTS | asked))], b=[peer("b", **CLASSIC)]).up()
    assert told(ladder.a) == [Kind.WARNING]
    again(ladder, "a")
    assert told(ladder.a) == [Kind.WARNING]


def test_no_more_peers_are_remembered_than_there_is_room_for():
    ladder, downgrades = Ladder(a=[peer("a", **DEFAULTS)], b=[peer("b", **CLASSIC)]).up(), Downgrades()
    (context,) = ladder.a.core.sessions()

    def judged(tunnel):
        return downgrades.of(peer("a", tunnel=tunnel, **DEFAULTS), context.ends.identities, context.sa)

    assert judged("to-b") is not None
    assert judged("to-b") is None
    for number in range(REMEMBERED):
        assert judged(str(number)) is not None
    assert judged("to-b") is not None
