"""Fuzz target: whatever line comes to the control socket is answered by one line of JSON, and changes nothing it should not."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import atheris

with atheris.instrument_imports(include=["ipsec_dp.gateway.control", "ipsec_dp.gateway.messages", "ipsec_dp.gateway.verbs"]):
    from ipsec_dp.gateway import control, verbs
from ipsec_dp.config.findings import Findings
from ipsec_dp.config.load import resolve_document
from ipsec_dp.config.read import parse_toml
from ipsec_dp.gateway.event_stream import EventStream
from ipsec_dp.gateway.explain import HoldingChild
from ipsec_dp.gateway.following import FollowedAnswer
from ipsec_dp.gateway.messages import ReloadRefusal
from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus
from ipsec_dp.host.decision import Way
from ipsec_dp.host.filters import Filter
from ipsec_dp.ipsec.addresses import Address
from ipsec_dp.util.clock import SystemClock
from tests.fuzz import target

CONFIG = """
[gateway]
name = "fuzz"
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
[tunnel.auth]
psk_file = "none.psk"
"""
VERBS = ("status", "down", "initiate", "rekey", "terminate", "unpin", "reload", "explain", "follow", "nonsense")


class Asked:
    """In IKE's place: what it was asked."""

    def __init__(self) -> None:
        self.names: set[Any] = set()

    def __getattr__(self, verb: str) -> Any:
        del verb
        return lambda name, **_: self.names.add(name)


class Found:
    """In the place of what looks at tunnels, routes and files: there is nothing."""

    async def gateway(self) -> GatewayStatus:
        return GatewayStatus()

    async def tunnels(self, *_: object) -> AsyncIterator[TunnelStatus]:
        yield TunnelStatus()

    def children_holding(self, *_: object) -> list[HoldingChild]:
        return []

    async def way(self, *_: object) -> Way:
        return Way(None)

    async def own_addresses(self) -> set[Address]:
        return set()

    async def host_filter(self) -> Filter:
        return Filter(())

    async def reload(self, path: Path) -> ReloadRefusal:
        return ReloadRefusal(file=str(path))


async def down() -> None:
    """Nothing is left at once."""


def server() -> tuple[control.ControlServer, Asked]:
    """A gateway's whose every part answers, and changes nothing."""
    document = parse_toml(CONFIG, Findings("fuzz.toml"))
    assert document is not None
    config, asked = resolve_document(document, Path("fuzz.toml"), Findings("fuzz.toml")), Asked()
    engine = SimpleNamespace(inspection=Found(), reloader=Found())
    host = SimpleNamespace(peers=Found(), guard=Found())
    stream = EventStream("fuzz", lambda _: None, SystemClock())
    parts = cast("Any", SimpleNamespace(config=config, ike=asked, engine=engine, host=host, stream=stream))
    return control.ControlServer(Path("build/fuzz/fuzz.sock"), verbs.GatewayVerbs(parts, down).table), asked


async def answered(made: control.ControlServer, line: bytes) -> bytes:
    answer = await made.answer(line)
    if isinstance(answer, FollowedAnswer):
        answer.followed.close()
        return answer.line
    return answer.line if isinstance(answer, control.Answer) else b"".join([piece async for piece in answer.pieces()])


LOOP = asyncio.new_event_loop()


def receive(data: bytes) -> None:
    made, asked = server()
    line = data.replace(b"\n", b" ") + b"\n"
    text = LOOP.run_until_complete(answered(made, line)).decode()
    assert text[:-1].isprintable()
    assert isinstance(json.loads(text)["ok"], bool)
    assert asked.names <= {"to-b"}


def seeds() -> Iterator[bytes]:
    for verb in VERBS:
        yield json.dumps({"verb": verb, "name": "to-b", "ike": True}).encode()
    yield b'{"verb": "explain", "source": "10.1.0.5", "destination": "10.2.0.9", "protocol": 6, "sport": 1, "dport": "any"}'
    for field, value in (("name", 5), ("ike", "yes"), ("state", ["up"]), ("file", {}), ("inbound", None)):
        for verb in VERBS:
            yield json.dumps({"verb": verb, "name": "to-b", field: value}).encode()
    yield b'{"verb": ' + b"[" * 4000


if __name__ == "__main__":
    target.run("control", receive, seeds(), longest=8192)
