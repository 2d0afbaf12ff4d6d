"""Who hears of an event of the IKE core: everybody of one that is proven, the log alone of a stranger's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.ike import actions as act
from ipsec_dp.keying.ike_events import IkeEvents
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock

from .ike_driver_site import Double


@pytest.fixture
def heard():
    return Double()


@pytest.fixture
def events(heard):
    clock: Any = FakeClock()
    core: Any = Double(latest=(), fallback=None)
    peers: Any = SimpleNamespace(get=lambda _: None, encapsulations=SimpleNamespace(event=heard.encapsulations))
    intent = SimpleNamespace(event=lambda *_, others: heard.intent(others), claimed=heard.claimed, cannot_carry=heard.cannot_carry)
    calls: Any = SimpleNamespace(intents={"to-b": intent}, answered=heard.answered)
    return IkeEvents(
        core, peers, calls, Conditions(clock), clock, reported=heard.reported, no_udp=heard.no_udp, restart=heard.restart
    )


def told(kind, origin=act.Origin.OURS, name="to-b"):
    return act.Event(kind, name, bytes(8), bytes(8), "", "why", origin=origin)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (told(act.Kind.CHILD_UP), ["reported", "encapsulations", "intent"]),
        (told(act.Kind.IKE_UP), ["reported", "encapsulations", "intent", "answered"]),
        (told(act.Kind.IKE_FAILED), ["reported", "encapsulations", "intent", "answered"]),
        (told(act.Kind.NO_UDP), ["reported", "encapsulations", "intent", "no_udp"]),
        (told(act.Kind.IKE_FAILED, act.Origin.CLAIMED), ["reported", "claimed"]),
        (told(act.Kind.IKE_FAILED, act.Origin.STRANGER), ["reported"]),
        (told(act.Kind.IKE_UP, name="to-nobody"), ["reported"]),
    ],
)
def test_who_hears_of_an_event(events, heard, event, expected):
    events.report(event)
    assert [call[0] for call in heard.calls] == expected


def test_who_will_not_have_protocol_50_is_called_anew_once_the_tunnel_knows_why(events, heard):
    heard.answers["encapsulations"] = True
    events.report(told(act.Kind.CHILD_DOWN, act.Origin.PEER))
    assert heard.calls[2:] == [("intent", False), ("restart", "to-b")]


def test_a_tunnel_knows_what_this_host_cannot_have(events, heard):
    events.unmade("to-b", "no room")
    assert heard.calls == [("cannot_carry", "no room")]
