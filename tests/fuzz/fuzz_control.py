"""Fuzz target: whatever line comes to the control socket is answered by one line of JSON, and changes nothing it should not."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["ipsec_dp.gateway.control", "ipsec_dp.gateway.gateway"]):
    from ipsec_dp.gateway import control, gateway
from ipsec_dp.config.findings import Findings
from ipsec_dp.config.load import resolve_document
from ipsec_dp.config.read import parse_toml
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
VERBS = ("status", "down", "initiate", "rekey", "terminate", "reload", "nonsense")


class Asked:
    """In IKE's place: what it was asked."""

    def __init__(self) -> None:
        self.names: set[Any] = set()

    def __getattr__(self, verb: str) -> Any:
        del verb
        return lambda name, **_: self.names.add(name)


def running() -> tuple[gateway.Gateway, Asked]:
    document = parse_toml(CONFIG, Findings("fuzz.toml"))
    assert document is not None
    made, asked = (
        gateway.Gateway(resolve_document(document, Path("fuzz.toml"), Findings("fuzz.toml")), Path("build/fuzz/fuzz.sock")),
        Asked(),
    )
    made._ike = asked  # type: ignore[assignment]
    made._torn_down.set()  # `down` is answered at once
    return made, asked


LOOP = asyncio.new_event_loop()


def receive(data: bytes) -> None:
    made, asked = running()
    server: control.ControlServer = made._control
    line = data.replace(b"\n", b" ") + b"\n"
    answer = LOOP.run_until_complete(server._answer(line))
    assert json.dumps(answer).isprintable()
    assert isinstance(answer["ok"], bool)
    assert asked.names <= {"to-b"}


def seeds() -> Iterator[bytes]:
    for verb in VERBS:
        yield json.dumps({"verb": verb, "name": "to-b", "ike": True}).encode()
    yield b'{"verb": ' + b"[" * 4000


if __name__ == "__main__":
    target.run("control", receive, seeds(), longest=8192)
