"""Whatever is asked at the control socket, of whatever types: an answer in words, no fault, and the gateway goes on."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipsec_dp.gateway.control import REQUEST_MAX
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.gateway.messages import ControlRequest
from tests.doubles.clock import FakeClock
from tests.doubles.host import MemoryHost
from tests.doubles.loop_thread import running
from tests.unit.gateway_doubles import TEXT, config_of

REQUESTS = {str(kind.__struct_config__.tag): kind for kind in ControlRequest.__subclasses__()}
ENDS = "down"  # has no field, and ends the gateway
WORDS = st.sampled_from(
    [
        *("up", "waiting", "by-hand", "a", "all", "", "10.1.0.5", "10.3.0.9", "fe80::1%eth0", "::1", "10.1.0.5/33", "udp", "icmp"),
        *("300", "-1", "443-80", "any", "any/", "\x00", "a\x00b", "\ud800", "\x1b[2J\n", "x" * 5000, "/", "/dev/null", "a.toml"),
    ]
)
SCALARS = st.one_of(WORDS, st.text(max_size=8), st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats())
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8)


def fields_of(kind: type[msgspec.Struct]) -> Any:
    """Requests of one verb: a good half of what it needs is there, and of every type."""
    needed = {field.encode_name for field in msgspec.structs.fields(kind) if field.required}
    fields = {field.encode_name: WORDS | VALUES for field in msgspec.structs.fields(kind)}
    rest = {name: values for name, values in fields.items() if name not in needed}
    whole = st.fixed_dictionaries(dict.fromkeys(needed, WORDS), optional=rest | {"nonsense": VALUES})
    return whole | st.fixed_dictionaries({}, optional=fields)


WAITS = "test"  # for the peer, by a clock that stands still here: `test_trials` asks it
ASKED = st.one_of(
    [st.tuples(st.just(verb), fields_of(kind)) for verb, kind in sorted(REQUESTS.items()) if verb not in (ENDS, WAITS)]
)


@pytest.fixture(scope="module")
def gateway():
    """A whole one on a host in memory, in a thread of its own; its control socket, and what its tasks raised."""
    with tempfile.TemporaryDirectory() as name:
        directory, faults = Path(name), []
        path, loop = directory / "a.sock", asyncio.new_event_loop()
        loop.set_exception_handler(lambda _, context: faults.append(context))
        config = config_of(directory, TEXT)

        async def start() -> Gateway:
            clock = FakeClock()
            made = Gateway(config, path, host=MemoryHost(config, clock), clock=clock)
            await made.start()
            return made

        made = loop.run_until_complete(start())
        with running(loop, made.close):
            yield path, faults


def ask(path: Path, asked: object) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(json.dumps(asked).encode()[: REQUEST_MAX - 1] + b"\n")
        with client.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
    return answer


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(ASKED)
@example(("reload", {"file": "a\x00b"}))
@example(("reload", {"file": "\ud800"}))
@example(("reload", {"file": "x" * 5000}))
@example(("reload", {"confirm_s": float("nan")}))
@example(("reload", {"confirm_s": 2**70}))
@example(("explain", {"source": "10.1.0.5", "destination": "10.3.0.9", "iif": "a\x00b"}))
@example(("explain", {"source": "10.1.0.5", "destination": "10.3.0.9", "protocol": 2**70}))
@example(("explain", {"inbound": "\ud800"}))
@example(("explain", {"source": "fe80::1%\x00", "destination": "fe80::2"}))
def test_every_verb_answers_whatever_its_fields_hold(gateway, caplog, asked):
    path, faults = gateway
    verb, fields = asked
    answer = ask(path, {"verb": verb, **fields})
    assert answer["ok"] or "fault of ipsec-dp" not in answer["error"], answer
    assert faults == []
    assert [record.exc_info for record in caplog.records if record.exc_info] == []
    assert ask(path, {"verb": "status", "name": "up"})["ok"], "and it goes on"


@given(VALUES)
def test_what_is_no_request_is_told_so(gateway, value):
    path, _ = gateway
    answer = ask(path, value)
    assert not answer["ok"]
    assert "a request is" in answer["error"]


def test_every_verb_is_asked():
    verbs = "bugreport capture confirm down explain follow initiate log preview rekey reload status terminate test unpin upgrade"
    assert sorted(REQUESTS) == verbs.split()
