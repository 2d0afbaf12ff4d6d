"""What is told of a gateway's tunnels as it happens, to as many as follow, however slowly they read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import event_stream
from ipsec_dp.gateway.event_stream import EventStream
from ipsec_dp.gateway.messages import FollowRequest, ReportRequest
from ipsec_dp.gateway.stream_event import SCHEMA, StreamEvent, schema_text
from ipsec_dp.ike.actions import NO_SPI, Event, Kind, Origin
from ipsec_dp.keying.status import KeyingStatus
from ipsec_dp.rig import NatBox, Network, Wire
from ipsec_dp.rig.packets import udp
from tests.doubles.clock import FakeClock
from tests.unit.rig_sites import site, sites

PUBLISHED = Path(__file__).resolve().parents[2] / "conf" / "events.schema.json"
TYPES = {"string": str, "integer": int, "boolean": bool, "null": type(None)}


def kinds(schema: dict[str, Any]) -> set[str]:
    return {each["type"] for each in schema.get("anyOf", [schema])}


def checked(line: bytes) -> dict[str, Any]:
    """An event that is as the published schema says, whole."""
    published = json.loads(PUBLISHED.read_text())
    schema = published["$defs"]["StreamEvent"]
    event = json.loads(line)
    assert line.endswith(b"\n")
    assert set(schema["required"]) <= event.keys() <= schema["properties"].keys()
    for name, value in event.items():
        what = schema["properties"][name]
        if "enum" in what:
            assert value in what["enum"]
        else:
            assert type(value) in {TYPES[kind] for kind in kinds(what)}, name
    assert event["schema"] == SCHEMA
    msgspec.convert(event, StreamEvent)
    return event


class Followed:
    """What a rig's gateway tells from now on."""

    def __init__(self, gateway: Any, name: str | None = None) -> None:
        self.answer = gateway.network.loop.call(gateway.site.gateway.verbs.follow(FollowRequest(name=name)), 10)

    def events(self) -> list[dict[str, Any]]:
        return [checked(line) for line in self.answer.followed.take()]

    def named(self) -> list[str]:
        return [event["event"] for event in self.events()]


def stream_of(**states: str) -> tuple[EventStream, dict[str, str]]:
    """Of tunnels whose state a test changes."""

    def keying(name: str) -> KeyingStatus | None:
        state = states.get(name)
        error = f"{name} has no way" if state == "failed" else None
        return None if state is None else KeyingStatus(state=state, state_text=state, remote="192.0.2.2", last_error=error)

    return EventStream("a", keying, FakeClock()), states


def an_event(tunnel: str, kind: Kind = Kind.NOTE, origin: Origin = Origin.OURS) -> Event:
    return Event(kind, tunnel, NO_SPI, NO_SPI, "", "told", origin=origin)


def test_the_published_schema_is_that_of_the_events():
    assert PUBLISHED.read_text() == schema_text(), "run: python -m ipsec_dp.gateway.stream_event > conf/events.schema.json"


def test_the_life_of_a_tunnel():
    with sites(up=False) as (a, _):
        followed = Followed(a)
        a.wait("up")
        begin, *first = followed.events()
        assert (begin["event"], begin["gateway"]) == ("begin", "a")
        assert [each["event"] for each in first] == ["ike_up", "child_up", "tunnel_up"]
        assert first[-1] | {"at": ""} == {
            "schema": 1, "event": "tunnel_up", "at": "", "text": "up", "tunnel": "to-b", "state": "up", "was": "negotiating"
        }  # fmt: skip
        assert {each.get("tunnel") for each in first} == {"to-b"}
        a.rekey()
        a.wait(Kind.CHILD_REKEYED)
        assert followed.named() == ["child_rekeyed"]
        a.rekey(ike=True)
        a.wait(Kind.IKE_REKEYED)
        assert followed.named() == ["ike_rekeyed"]
        a.terminate()
        a.wait("down")
        *_, down = followed.events()
        assert (down["event"], down["was"], down["state"]) == ("tunnel_down", "up", "down")


def test_the_last_are_remembered_though_nobody_follows_and_no_more_than_a_few():
    with sites() as (a, _):
        answer = a.network.loop.call(a.site.gateway.verbs.report(ReportRequest()), 10)
        assert [event["event"] for event in answer.events] == ["ike_up", "child_up"]
        for event in answer.events:
            checked(json.dumps(event).encode() + b"\n")
        stream = stream_of()[0]
        for number in range(2 * event_stream.KEPT_MOST):
            stream.drops("replay", number, "dropped")
        assert [event.count for event in stream.last()] == list(range(event_stream.KEPT_MOST, 2 * event_stream.KEPT_MOST))


def test_what_failed_is_told_with_its_explanation_each_time_and_once_for_its_state():
    with Network() as network:
        network.gateway(site("b"), files={"site.psk": "another secret of the same length, or so"})
        a = network.gateway(site("a", start="on-demand"))
        followed = Followed(a)
        a.initiate()
        a.wait("failed")
        events = {each["event"]: each for each in followed.events()}
        failed = events["tunnel_failed"]
        assert failed["error"]
        assert failed["error"] in failed["text"]
        assert events["ike_failed"]["text"] in failed["error"] or failed["error"] in events["ike_failed"]["text"]
        a.initiate()
        a.wait(Kind.IKE_FAILED)
        network.advance(10)
        again = followed.named()
        assert "ike_failed" in again
        assert "tunnel_failed" not in again


def test_a_peer_that_moves():
    box = NatBox("a", "203.0.113.1")
    with Network(wire=Wire(nat=box)) as network:
        b, a = network.gateway(site("b", remote="203.0.113.1")), network.gateway(site("a"))
        a.wait("up")
        b.wait("up")
        followed = Followed(b)
        box.rebind()
        a.inject(udp("10.1.0.5", "10.2.0.5", b"from another port"))
        b.wait("packet")
        network.advance(1)
        moved = followed.events()[1]
        assert (moved["event"], moved["tunnel"]) == ("moved", "to-a")


def test_a_gateway_that_stops_says_so_last():
    with sites() as (a, _):
        followed = Followed(a)
        a.close()
        events = followed.events()
        assert events[-1]["event"] == "end"
        assert "ike_down" in [each["event"] for each in events]
        assert followed.answer.followed.ended


def test_one_tunnel_alone_and_what_is_of_the_whole_gateway():
    async def life() -> list[str]:
        stream, _ = stream_of(up="up", other="up")
        follower = await stream.follow(["up", "other"], "up")
        stream.ike(an_event("other", Kind.CHILD_REKEYED))
        stream.ike(an_event("up", Kind.CHILD_REKEYED))
        stream.drops("replay", 3, "packets are dropped")
        stream.monitor("other", False, "no answer")
        return [checked(line)["event"] for line in follower.take()]

    assert asyncio.run(life()) == ["begin", "child_rekeyed", "drops"]


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (("negotiating", "up"), ["tunnel_up"]),
        (("up", "rekeying", "up"), ["tunnel_up"]),
        (("up", "partial", "up"), ["tunnel_up", "tunnel_partial", "tunnel_up"]),
        (("up", "negotiating", "up"), ["tunnel_up", "tunnel_down", "tunnel_up"]),
        (("failed", "negotiating", "failed", "up"), ["tunnel_failed", "tunnel_up"]),
        (("negotiating", "waiting"), []),
    ],
)
def test_how_a_tunnel_is_is_told_when_it_changes(states, told):
    async def life() -> list[str]:
        stream, now = stream_of(t="waiting")
        follower = await stream.follow(["t"])
        for state in states:
            now["t"] = state
            stream.ike(an_event("t"))
            await asyncio.sleep(0)
        return [checked(line)["event"] for line in follower.take()][1:]

    assert asyncio.run(life()) == told


def test_a_tunnel_without_a_way_to_its_peer_is_told_though_no_ike_began():
    async def life() -> dict[str, Any]:
        stream, now = stream_of(t="negotiating")
        follower = await stream.follow(["t"])
        now["t"] = "failed"
        stream.uncalled("t")
        await asyncio.sleep(0)
        return checked(follower.take()[-1])

    assert asyncio.run(life())["error"] == "t has no way"


def test_who_does_not_read_is_told_how_many_events_are_gone_and_nothing_grows():
    async def life() -> None:
        stream, _ = stream_of()
        slow, quick = await stream.follow([]), await stream.follow([])
        read = 0
        for number in range(10_000):
            stream.drops("replay", number, "again")
            read += len(quick.take())
        assert read == 10_001, "with `begin`: whoever reads misses nothing"
        missed, *kept = [checked(line) for line in slow.take()]
        assert (missed["event"], missed["count"]) == ("missed", 10_001 - event_stream.QUEUE_MOST)
        assert [each["count"] for each in kept] == list(range(10_000 - event_stream.QUEUE_MOST, 10_000)), "the newest are kept"
        assert slow.take() == []

    asyncio.run(life())


def test_while_nobody_follows_nothing_is_made_or_kept():
    stream, _ = stream_of(t="up")
    stream.ike(an_event("t", Kind.IKE_UP))
    stream.uncalled("t")
    stream.drops("replay", 1, "x")
    stream.close()


def test_what_a_stranger_causes_is_not_told_and_what_is_claimed_is_marked():
    async def life() -> list[dict[str, Any]]:
        stream, _ = stream_of(t="up")
        follower = await stream.follow(["t"])
        stream.ike(an_event("", Kind.IKE_FAILED, Origin.STRANGER))
        stream.ike(an_event("t", Kind.IKE_FAILED, Origin.CLAIMED))
        stream.ike(an_event("t", Kind.IKE_FAILED, Origin.PEER))
        return [checked(line) for line in follower.take()][1:]

    claimed, proven = asyncio.run(life())
    assert claimed["unproven"] is True
    assert "unproven" not in proven


def test_more_than_there_is_room_for_are_turned_away_until_one_leaves():
    async def life() -> None:
        stream, _ = stream_of()
        followers = [await stream.follow([]) for _ in range(event_stream.FOLLOWERS_MAX)]
        with pytest.raises(ControlError, match="follow the events already"):
            await stream.follow([])
        followers[0].close()
        await stream.follow([])

    asyncio.run(life())


def test_an_sa_says_its_window_its_uses_and_why_it_dropped_last():
    with sites(Wire(duplicate=1.0)) as (a, b):
        (fresh,) = b.sas()
        assert (fresh.window, fresh.first_in_s, fresh.last_error) == (1024, None, None)
        a.inject(udp("10.1.0.5", "10.2.0.5", b"twice"))
        b.wait("packet")
        b.wait(lambda: b.sas()[0].drops.get("replay", 0) > 0)
        a.clock.advance(5)
        (used,) = b.sas()
        assert used.first_in_s == used.last_in_s
        assert used.first_in_s is not None
        assert used.first_in_s >= 5
        assert used.last_error == "the last packet received that it dropped: replay (sequence number was already received)"
        (sent,) = a.sas()
        assert sent.first_out_s is not None
        assert sent.last_error is None
