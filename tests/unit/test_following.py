"""The events on the control socket and in `status --follow`: whoever reads them slowly, or leaves, holds nobody up."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from ipsec_dp.cli import following, main
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import control
from ipsec_dp.gateway.control import ControlServer, Verb, follow, request
from ipsec_dp.gateway.event_stream import EventStream
from ipsec_dp.gateway.following import FollowedAnswer
from ipsec_dp.gateway.messages import DownRequest, FollowAnswer, FollowRequest
from ipsec_dp.gateway.stream_event import SCHEMA
from tests.doubles.clock import FakeClock

EVENTS = 10_000


class Served:
    """An event stream behind a control socket, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.loop = path, asyncio.new_event_loop()
        self.stream = EventStream("a", lambda _: None, FakeClock())
        self.server = ControlServer(path, [Verb(FollowRequest, self._follow, reads=True), Verb(DownRequest, self._echo)])
        self.loop.run_until_complete(self.server.start())
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def _follow(self, asked: FollowRequest) -> FollowedAnswer:
        return FollowedAnswer(FollowAnswer(schema=SCHEMA, gateway="a"), await self.stream.follow([], asked.name))

    @staticmethod
    async def _echo(asked: Any) -> Any:
        return asked

    def drops(self, count: int) -> None:
        """So many events, one after the other while others are served too."""

        async def put() -> None:
            for number in range(count):
                self.stream.drops("replay", number, "x" * 200)
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(put(), self.loop).result(60)

    def stop(self, *, told: bool = True) -> None:
        async def stop() -> None:
            if told:
                self.stream.close()
            await self.server.close()

        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(stop(), self.loop).result(10)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()


@pytest.fixture
def served():
    with tempfile.TemporaryDirectory() as directory:
        made = Served(Path(directory) / "a.sock")
        try:
            yield made
        finally:
            made.stop()


def test_events_come_as_they_happen(served):
    events = follow(served.path, {"verb": "follow"})
    assert next(events)["event"] == "begin"
    served.drops(2)
    assert [next(events)["count"] for _ in range(2)] == [0, 1]
    events.close()


def test_a_reader_that_does_not_read_is_told_what_it_missed_and_nothing_else_suffers(served):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(served.path))
        client.sendall(b'{"verb": "follow"}\n')
        with client.makefile("rb") as lines:
            assert json.loads(lines.readline())["ok"] is True
            other = follow(served.path, {"verb": "follow"})
            assert next(other)["event"] == "begin"
            for _ in range(10):
                served.drops(EVENTS // 10)
                assert request(served.path, {"verb": "down"}, timeout=5) == {"verb": "down"}
                assert [next(other)["count"] for _ in range(EVENTS // 10)][-1] == EVENTS // 10 - 1
            found = missed = 0
            assert json.loads(lines.readline())["event"] == "begin"
            while found + missed < EVENTS:
                event = json.loads(lines.readline())
                found, missed = found + (event["event"] == "drops"), missed + (event["event"] == "missed" and event["count"])
            other.close()
            assert missed > 0
            assert found + missed == EVENTS
            served.stop()
            assert json.loads(lines.readline())["event"] == "end"


@pytest.mark.parametrize("says", [b"", b'{"verb": "down"}\n'], ids=["leaves", "says more"])
def test_a_client_that_leaves_or_says_more_follows_no_longer(served, says):
    for _ in range(control.CLIENTS_MAX + 1):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(served.path))
            client.sendall(b'{"verb": "follow"}\n')
            with client.makefile("rb") as lines:
                assert json.loads(lines.readline())["ok"] is True, "there is room for it"
                assert json.loads(lines.readline())["event"] == "begin"
                if says:
                    client.sendall(says)
                    assert lines.readline() == b""


def test_what_stops_says_so_and_what_breaks_off_is_an_error(served):
    told, broken = follow(served.path, {"verb": "follow"}), follow(served.path, {"verb": "follow"})
    assert next(told)["event"] == next(broken)["event"] == "begin"
    served.stop(told=True)
    assert [each["event"] for each in told] == ["end"]
    with tempfile.TemporaryDirectory() as directory:
        other = Served(Path(directory) / "a.sock")
        events = follow(other.path, {"verb": "follow"})
        next(events)
        other.stop(told=False)
        with pytest.raises(ControlError, match="broke off"):
            next(events)


# ---- status --follow -------------------------------------------------------------------------------------------------------------

UP = {"schema": 1, "event": "tunnel_up", "at": "2026-01-01T00:00:00.000+00:00", "text": "up", "tunnel": "to-b", "later": 5}
END = {"schema": 1, "event": "end", "at": "2026-01-01T00:00:01.000+00:00", "text": "gateway a has stopped"}


def told(monkeypatch, capsys, *arguments, events=(UP, END), error=None):
    """Exit status, lines, and what was asked."""
    asked = []

    def events_of(path, message):
        asked.append((str(path), message))
        yield from events
        if error is not None:
            raise error

    monkeypatch.setattr(control, "follow", events_of)
    status = main(["status", "--follow", "--control", "/tmp/x.sock", *arguments])
    return status, capsys.readouterr().out.splitlines(), asked


def test_as_text(monkeypatch, capsys):
    status, lines, asked = told(monkeypatch, capsys, "to-b")
    assert (status, asked) == (3, [("/tmp/x.sock", {"verb": "follow", "name": "to-b"})])
    assert [line[8:] for line in lines] == [f" {'tunnel_up':18} to-b: up", f" {'end':18} gateway a has stopped"]


def test_as_json_with_what_a_newer_gateway_says_besides(monkeypatch, capsys):
    status, lines, asked = told(monkeypatch, capsys, "--json")
    assert (status, [json.loads(line) for line in lines]) == (3, [UP, END])
    assert asked == [("/tmp/x.sock", {"verb": "follow"})]


def test_ctrl_c_is_the_end_and_no_failure(monkeypatch, capsys):
    assert told(monkeypatch, capsys, events=(UP,), error=KeyboardInterrupt())[0] == 0


def test_what_broke_off_is_a_failure(monkeypatch, capsys):
    assert told(monkeypatch, capsys, events=(UP,), error=ControlError("broke off"))[0] == 1


def test_what_is_not_authenticated_is_said_to_be(monkeypatch, capsys):
    assert following.text_of(UP | {"unproven": True}).endswith(" (not authenticated)")


@pytest.mark.parametrize("other", [["--watch"], ["--check"], ["--state", "up"]])
def test_it_goes_with_json_and_a_name_alone(other):
    assert main(["status", "--follow", *other]) == 2
