"""How loud events are: nothing that was asked for is an ERROR, nor anything that nobody has proven."""

from __future__ import annotations

import logging
from itertools import product

import pytest

from ipsec_dp.ike.actions import Cause, Event, Kind, Origin
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.keying.levels import level
from tests.ike.ladder import Ladder, peer

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


def event(kind, cause=None, origin=Origin.OURS):
    return Event(kind, "to-b", bytes(8), bytes(8), "", "why", cause, origin=origin)


@pytest.mark.parametrize(
    ("kind", "cause", "origin", "loud"),
    [
        (Kind.IKE_DOWN, Cause.LIVENESS, Origin.OURS, WARNING),
        (Kind.IKE_DOWN, Cause.TIMEOUT, Origin.PEER, WARNING),
        (Kind.IKE_DOWN, Cause.LIFETIME, Origin.OURS, WARNING),
        (Kind.IKE_DOWN, Cause.PEER, Origin.OURS, INFO),
        (Kind.IKE_DOWN, Cause.LOCAL, Origin.OURS, INFO),
        (Kind.IKE_DOWN, Cause.CLONED, Origin.OURS, WARNING),
        (Kind.CHILD_DOWN, Cause.LIFETIME, Origin.OURS, WARNING),
        (Kind.CHILD_DOWN, Cause.IDLE, Origin.OURS, INFO),
        (Kind.CHILD_DOWN, Cause.PEER, Origin.PEER, INFO),
        (Kind.IKE_FAILED, Cause.TIMEOUT, Origin.OURS, ERROR),
        (Kind.IKE_FAILED, Cause.LOCAL, Origin.OURS, INFO),
        (Kind.IKE_FAILED, Cause.REPLACED, Origin.OURS, INFO),
        (Kind.IKE_FAILED, Cause.PROPOSAL, Origin.CLAIMED, WARNING),
        (Kind.IKE_FAILED, Cause.AUTHENTICATION, Origin.STRANGER, WARNING),
        (Kind.CHILD_FAILED, Cause.SELECTORS, Origin.PEER, ERROR),
        (Kind.HINT, Cause.PROPOSAL, Origin.OURS, WARNING),
        (Kind.WARNING, None, Origin.PEER, WARNING),
        (Kind.IKEV1, None, Origin.STRANGER, WARNING),
        (Kind.CHILD_REKEYED, None, Origin.OURS, INFO),
        (Kind.PATH, None, Origin.PEER, INFO),
    ],
)
def test_each_event_is_as_loud_as_it_means(kind, cause, origin, loud):
    assert level(event(kind, cause, origin)) == loud


def test_an_error_is_ours_or_our_peers_and_was_not_asked_for():
    loud = [(k, c, o) for k, c, o in product(Kind, (None, *Cause), Origin) if level(event(k, c, o)) >= ERROR]
    assert loud
    assert {origin for _, _, origin in loud} == {Origin.OURS, Origin.PEER}
    assert {kind for kind, _, _ in loud} == {Kind.IKE_FAILED, Kind.CHILD_FAILED}
    assert not {cause for _, cause, _ in loud} & {Cause.LOCAL, Cause.REPLACED, Cause.IDLE}


@pytest.mark.parametrize("messages", range(5))
@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_clean_end_is_no_error_whenever_it_comes(how, messages):
    """In the middle of a handshake, before and after."""
    ladder = Ladder()
    ladder.initiate()
    for _ in range(messages):
        ladder.deliver("b") or ladder.deliver("a")
    before = len(ladder.a.events)
    ladder.a.do(ladder.a.core.close(ladder.clock()) if how == "close" else ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.settle()
    assert max(map(level, ladder.a.events[before:]), default=INFO) <= INFO
    assert len(ladder.a.events) > before, "it is told"


def test_death_is_a_warning():
    ladder = Ladder(a=[peer("a", liveness=Liveness(10.0, 3))]).up()
    ladder.wire.cut("a", "b")
    ladder.run(60)
    (died,) = [event for event in ladder.a.events if event.kind is Kind.IKE_DOWN]
    assert level(died) == WARNING
