"""The verbs of a running gateway: who is asked, what is answered, and what is said where nobody can."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.control import ControlServer
from ipsec_dp.gateway.explain import HoldingChild
from ipsec_dp.gateway.messages import ReloadRefusal
from ipsec_dp.gateway.verbs import GatewayVerbs
from ipsec_dp.host.decision import Way
from ipsec_dp.host.filters import Filter
from tests.unit.gateway_doubles import Calls, config_of


async def nothing() -> None:
    pass


async def ipsec1(*_: Any) -> Way:
    return Way("ipsec1")


async def nobody() -> set[Any]:
    return set()


async def unfiltered() -> Filter:
    return Filter(())


async def refusal(path: Path) -> ReloadRefusal:
    return ReloadRefusal(file=str(path))


@pytest.fixture
def site(tmp_path):
    """A gateway that is up; `engine` None: one that is not."""
    config, ike = config_of(tmp_path), Calls("ike")
    child = HoldingChild(0x1001, 0x2001, "10.1.0.0/16 <-> 10.3.0.0/16")
    inspection = Calls("inspection", children_holding=[child])
    engine = SimpleNamespace(ike=ike, inspection=inspection, reloader=Calls("reloader", reload=refusal))
    host = SimpleNamespace(peers=Calls("peers", way=ipsec1, own_addresses=nobody), guard=Calls("guard", host_filter=unfiltered))
    return SimpleNamespace(config=config, engine=engine, ike=ike, host=host, down=nothing)


def ask(site, verb, **fields):
    server = ControlServer(Path("a.sock"), GatewayVerbs(cast("Any", site), site.down).table)
    answer: Any = asyncio.run(server.answer(json.dumps({"verb": verb, **fields}).encode()))
    return json.loads(answer.line)


def result(site, verb, **fields):
    answer = ask(site, verb, **fields)
    assert answer["ok"] is True, answer
    return answer["result"]


def error(site, verb, **fields):
    answer = ask(site, verb, **fields)
    assert answer["ok"] is False, answer
    return answer["error"]


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ({"verb": "initiate", "name": "up"}, ("ike.initiate", "up")),
        ({"verb": "rekey", "name": "up"}, ("ike.rekey", "up", False)),
        ({"verb": "rekey", "name": "up", "ike": True}, ("ike.rekey", "up", True)),
        ({"verb": "terminate", "name": "up"}, ("ike.terminate", "up")),
    ],
)
def test_verbs_of_ike_ask_the_driver(site, asked, called):
    assert result(site, **asked) == {"tunnel": "up", "verb": asked["verb"]}
    assert site.ike.calls == [called]


@pytest.mark.parametrize("verb", ["initiate", "rekey", "terminate"])
@pytest.mark.parametrize("name", ["by-hand", "nobody"])
def test_a_tunnel_that_ike_does_not_negotiate_is_refused_with_those_that_it_does(site, verb, name):
    assert error(site, verb, name=name) == f'no tunnel "{name}" that IKE negotiates; there are: up, waiting'
    assert site.ike.calls == []


def test_reload_takes_the_file_that_is_named_or_the_last_one(site):
    assert result(site, "reload")["file"] == str(site.config.path)
    assert result(site, "reload", file="/etc/b.toml")["file"] == "/etc/b.toml"


def test_explain_asks_the_hosts_routing_and_the_sas(site):
    made = result(site, "explain", source="10.1.0.5", destination="10.3.0.9", protocol="tcp", sport=40000, dport="443")
    assert list(made) == ["schema", "direction", "packet", "verdict", "text", "route", "rule", "sa", "steps"]
    assert made["packet"] == {"source": "10.1.0.5", "destination": "10.3.0.9", "protocol": 6, "sport": 40000, "dport": 443}
    assert (made["verdict"], made["route"]["interface"]) == ("protect", "ipsec1")
    assert made["sa"] == {"tunnel": "up", "spi_out": "0x2001", "selectors": "10.1.0.0/16 <-> 10.3.0.0/16"}


def test_explain_of_what_is_no_packet_says_so(site):
    assert "is not an IP address" in error(site, "explain", source="here", destination="there")


def test_down_answers_when_nothing_is_left(site):
    assert result(site, "down") == {"stopped": "a"}


def test_down_says_what_is_left(site):
    async def down() -> None:
        raise ControlError("stopped, but not everything is taken away: the guard")

    site.down = down
    assert error(site, "down") == "stopped, but not everything is taken away: the guard"


@pytest.mark.parametrize(
    ("verb", "fields"), [("status", {}), ("reload", {}), ("explain", {"source": "10.1.0.5", "destination": "10.3.0.9"})]
)
def test_while_it_starts_or_stops_it_says_so(site, verb, fields):
    site.engine = None
    assert error(site, verb, **fields) == "the gateway is starting or stopping; ask again"


def test_while_it_starts_or_stops_ike_is_asked_nothing(site):
    site.ike = None
    assert "no tunnel" in error(site, "initiate", name="up")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"verb": "status", "name": ["up"]}, "name"),
        ({"verb": "status", "state": 1}, "state"),
        ({"verb": "reload", "file": {}}, "file"),
        ({"verb": "initiate"}, "name"),
        ({"verb": "rekey", "name": "up", "ike": "yes"}, "ike"),
        ({"verb": "terminate", "name": None}, "name"),
        ({"verb": "explain", "source": "10.1.0.5", "destination": "10.3.0.9", "inbound": 1}, "inbound"),
        ({"verb": "explain", "source": "10.1.0.5", "destination": "10.3.0.9", "protocol": 6.0}, "protocol"),
        ({"verb": "explain", "source": "10.1.0.5"}, "destination"),
    ],
)
def test_a_field_of_the_wrong_type_is_named_and_nobody_is_asked(site, asked, field):
    said = error(site, **asked)
    assert said.startswith(f'the request "{asked["verb"]}" is wrong: ')
    assert field in said
    assert (site.ike.calls, site.engine.inspection.calls, site.engine.reloader.calls) == ([], [], [])


def test_every_request_has_a_verb_of_its_own():
    table = GatewayVerbs(cast("Any", None), nothing).table
    assert [verb.name for verb in table] == ["status", "down", "reload", "explain", "initiate", "rekey", "terminate"]
    assert all(msgspec.structs.fields(verb.request) is not None for verb in table)
