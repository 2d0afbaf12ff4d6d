"""Several proxy IDs: brought up as a whole where that is wanted, whatever part of them the peer takes in one exchange."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.v2 import child_respond, ts

from .ladder import Ladder, packet, peer, proxy_id

COUNT = 4
MINE = tuple(proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(COUNT))
THEIRS = tuple(type(one)(one.remote, one.local) for one in MINE)
ALL = [[f"10.1.{number}.0/24"] for number in range(COUNT)]


@pytest.fixture
def narrows(monkeypatch):
    """The responder narrows to the first pair of what it is asked for, as some appliances do (RFC 7296 §2.9)."""
    whole = ts.permitted
    monkeypatch.setattr(child_respond, "permitted", lambda *asked: whole(*asked)[:1])


def ladder_of(start="on-demand", mine=MINE, theirs=THEIRS):
    return Ladder(a=[peer("a", proxy_ids=mine, start=start)], b=[peer("b", proxy_ids=theirs)])


def carried(ladder):
    """What each CHILD_SA of A holds that sends."""
    return sorted([pair.local_text for pair in ladder.a.sad.inbound[child].selectors] for child in ladder.a.sad.sending)


@pytest.mark.parametrize("start", ["start", "on-demand", "respond"])
def test_a_peer_that_takes_one_pair_gets_one_child_sa_for_each(narrows, start):
    ladder = ladder_of(start)
    ladder.initiate("a")  # what `initiate` and `start` do
    ladder.settle()
    # IKE_SA_INIT, IKE_AUTH with all pairs; CREATE_CHILD_SA for each of the other three
    assert ladder.messages("a") == ["ab IKE_SA_INIT", "ab IKE_AUTH", *["ab CREATE_CHILD_SA"] * (COUNT - 1)]
    ladder.check()
    assert carried(ladder) == ALL


def test_a_peer_that_takes_several_gets_one_child_sa():
    ladder = ladder_of()
    ladder.initiate("a")
    ladder.settle()
    assert len(ladder.messages("a")) == 2
    assert len(ladder.a.sad.sending) == 1


def test_a_packet_asks_for_its_own_proxy_id_only(narrows):
    ladder = ladder_of()
    ladder.initiate("a", asks=packet("10.1.2.5", "10.2.2.5"))
    ladder.run(30)
    assert carried(ladder) == [ALL[0], ALL[2]], "what the peer chose in IKE_AUTH, and what the packet needs"
    assert len(ladder.messages("a")) == 3


@pytest.mark.parametrize("when", ["up", "under way"])
def test_initiate_completes_what_a_packet_began(narrows, when):
    ladder = ladder_of()
    ladder.initiate("a", asks=packet("10.1.0.5", "10.2.0.5"))
    if when == "up":
        ladder.settle()
        assert len(ladder.a.sad.sending) == 1
    ladder.initiate("a")
    ladder.settle()
    ladder.check()
    assert [held for held in carried(ladder) if held in ALL] == ALL  # beside the one of the packet alone


def test_initiate_twice_makes_nothing_twice(narrows):
    ladder = ladder_of()
    for _ in range(3):
        ladder.initiate("a")
        ladder.settle()
    assert carried(ladder) == ALL


def test_a_proxy_id_that_the_peer_narrowed_is_not_asked_for_again():
    wide = (proxy_id("10.1.0.0/16", "10.2.0.0/16"),)
    ladder = ladder_of("start", mine=wide, theirs=THEIRS[:1])
    for _ in range(2):
        ladder.initiate("a")
        ladder.settle()
    assert carried(ladder) == ALL[:1]
    assert len(ladder.messages("a")) == 2


def test_a_service_within_another_proxy_id_leaves_the_rest_to_be_asked_for(narrows):
    """What came of the narrower proxy ID is not the wider one's."""
    service, rest = proxy_id("10.1.0.0/24", "10.2.0.0/24", 6, (443, 443)), proxy_id("10.1.0.0/24", "10.2.0.0/24")
    mirrored = tuple(type(one)(one.remote, one.local) for one in (service, rest))
    ladder = ladder_of(mine=(service, rest), theirs=mirrored)
    ladder.initiate("a")
    ladder.settle()
    assert len(ladder.a.sad.sending) == 2


def test_what_the_peer_refuses_is_told_and_the_others_come_up(narrows):
    ladder = ladder_of("start", theirs=THEIRS[:1] + THEIRS[2:])
    ladder.initiate("a")
    ladder.run(30)
    assert carried(ladder) == ALL[:1] + ALL[2:]
    failed = [event for event in ladder.a.events if event.kind is Kind.CHILD_FAILED]
    assert [event.cause for event in failed] == [Cause.SELECTORS]
    assert "10.1.1.0/24" in failed[0].text


def test_the_state_is_rekeying_while_keys_are_made_anew():
    """What `status` shows (`rekeying`), for both kinds of rekey, at the side that asked."""
    for ike in (False, True):
        ladder = ladder_of().up()
        assert [status.state for status in ladder.a.status] == ["up"]
        ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))
        assert [status.state for status in ladder.a.status] == ["rekeying"]
        ladder.settle()
        ladder.run(1)
        assert [status.state for status in ladder.a.status] == ["up"]
