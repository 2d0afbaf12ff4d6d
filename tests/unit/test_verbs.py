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
from ipsec_dp.gateway.confirmation import Confirmation
from ipsec_dp.gateway.control import ControlServer
from ipsec_dp.gateway.explain import HoldingChild
from ipsec_dp.gateway.messages import ConfirmRequest, ReloadRefusal, ReloadRequest, ReloadResult
from ipsec_dp.gateway.reload import ReloadFailedError
from ipsec_dp.gateway.verbs import GatewayVerbs
from ipsec_dp.host.decision import Way
from ipsec_dp.host.filters import Filter
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle
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
    confirmation = Confirmation(Conditions(clock := FakeClock()), clock)
    return SimpleNamespace(config=config, engine=engine, ike=ike, host=host, down=nothing, confirmation=confirmation, clock=clock)


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
        ({"verb": "unpin", "name": "up"}, ("ike.unpin", "up")),
    ],
)
def test_verbs_of_ike_ask_the_driver(site, asked, called):
    assert result(site, **asked) == {"tunnel": "up", "verb": asked["verb"]}
    assert site.ike.calls == [called]


@pytest.mark.parametrize("verb", ["initiate", "rekey", "terminate", "unpin"])
@pytest.mark.parametrize("name", ["by-hand", "nobody"])
def test_a_tunnel_that_ike_does_not_negotiate_is_refused_with_those_that_it_does(site, verb, name):
    assert error(site, verb, name=name) == f'no tunnel "{name}" that IKE negotiates; there are: up, waiting'
    assert site.ike.calls == []


def test_reload_takes_the_file_that_is_named_or_the_last_one(site):
    assert result(site, "reload")["file"] == str(site.config.path)
    assert result(site, "reload", file="/etc/b.toml")["file"] == "/etc/b.toml"


def test_a_dry_run_is_a_verb_of_its_own_that_reloads_nothing(site):
    """A gateway that does not know it says so, and does not reload."""
    site.engine.reloader = Calls("reloader", preview=refusal)
    assert result(site, "preview", file="/etc/b.toml")["file"] == "/etc/b.toml"
    assert result(site, "preview")["file"] == str(site.config.path)
    assert [call[0] for call in site.engine.reloader.calls] == ["reloader.preview"] * 2


def test_explain_asks_the_hosts_routing_and_the_sas(site):
    made = result(site, "explain", source="10.1.0.5", destination="10.3.0.9", protocol="tcp", sport=40000, dport="443")
    assert list(made) == ["schema", "direction", "packet", "verdict", "text", "route", "rule", "sa", "steps"]
    assert made["packet"] == {"source": "10.1.0.5", "destination": "10.3.0.9", "protocol": 6, "sport": 40000, "dport": 443}
    assert (made["verdict"], made["route"]["interface"]) == ("protect", "ipsec1")
    assert made["sa"] == {"tunnel": "up", "spi_out": "0x00002001", "selectors": "10.1.0.0/16 <-> 10.3.0.0/16"}


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


@pytest.mark.parametrize("verb", ["initiate", "rekey", "terminate"])
def test_while_it_starts_or_stops_ike_is_asked_nothing_and_the_tunnel_is_not_denied(site, verb):
    site.ike = site.engine = None
    assert error(site, verb, name="up") == "the gateway is starting or stopping; ask again"
    assert error(site, verb, name="nobody") == 'no tunnel "nobody" that IKE negotiates; there are: up, waiting'


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"verb": "status", "name": ["up"]}, "name"),
        ({"verb": "status", "state": 1}, "state"),
        ({"verb": "reload", "file": {}}, "file"),
        ({"verb": "reload", "confirm_s": "60s"}, "confirm_s"),
        ({"verb": "confirm", "name": 1}, "name"),
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
    names = "status upgrade down reload preview capture explain initiate rekey terminate unpin test confirm follow log bugreport"
    assert [verb.name for verb in table] == names.split()
    assert all(msgspec.structs.fields(verb.request) is not None for verb in table)


def test_a_fault_is_an_answer_and_no_end_of_the_client(site):
    site.engine.inspection = None
    assert error(site, "status").startswith('the request "status" failed: AttributeError: ')


# ---- what has to be confirmed ----------------------------------------------------------------------------------------------------

DONE = ReloadResult(file="a.toml", added=("more",), removed=(), changed=(), kept=3, findings=(), read_s=0.0, applied_s=0.0)


class MemoryReloader:
    """Reloads as `answer` says; notes what was asked."""

    def __init__(self, *, fails: ReloadFailedError | None = None, incomplete: bool = False, applies: bool = True) -> None:
        self.calls: list[str] = []
        self.fails, self.incomplete, self.applies = fails, incomplete, applies
        self.goes_on: asyncio.Event | None = None  # for which every step waits

    async def reload(self, path: Path, *, on_trial: bool = False) -> ReloadResult | ReloadRefusal:
        self.calls.append("reload on trial" if on_trial else "reload")
        if self.goes_on is not None:
            await self.goes_on.wait()
        if self.fails is not None:
            raise self.fails
        return DONE if self.applies else ReloadRefusal(file=str(path))

    async def go_back(self) -> None:
        self.calls.append("go back")
        if self.goes_on is not None:
            await self.goes_on.wait()

    def forget_former(self) -> None:
        self.calls.append("forget")


def on_trial(site, reloader, *steps):
    """Asks one after the other, or moves the clock by seconds; the answers."""
    site.engine.reloader = reloader
    server = ControlServer(Path("a.sock"), GatewayVerbs(cast("Any", site), site.down).table)

    async def life() -> list[Any]:
        answers: list[Any] = []
        for step in steps:
            if isinstance(step, dict):
                answer: Any = await server.answer(json.dumps(step).encode())
                answers.append(json.loads(answer.line))
            else:
                await site.clock.advance(step)
        return answers

    return asyncio.run(life())


RELOAD = {"verb": "reload", "confirm_s": 60}
CONFIRM = {"verb": "confirm"}


def test_a_reload_that_nobody_confirms_goes_back(site):
    reloader = MemoryReloader()
    (answer,) = on_trial(site, reloader, RELOAD, 61)
    assert answer["result"]["confirm_within_s"] == 60
    assert reloader.calls == ["reload on trial", "go back"]


def test_a_reload_that_is_confirmed_stays(site):
    reloader = MemoryReloader()
    _, answer = on_trial(site, reloader, RELOAD, 59, CONFIRM, 1000)
    assert answer["result"] == {"gateway": "a", "confirmed": f"the reload of {site.config.path}"}
    assert reloader.calls == ["reload on trial", "forget"]


def test_without_confirm_s_nothing_waits(site):
    reloader = MemoryReloader()
    first, answer = on_trial(site, reloader, {"verb": "reload"}, CONFIRM, 1000)
    assert "confirm_within_s" not in first["result"]
    assert answer["error"] == "nothing waits to be confirmed"
    assert reloader.calls == ["reload"]


def test_a_second_reload_waits_for_the_first_to_be_confirmed(site):
    reloader = MemoryReloader()
    _, answer = on_trial(site, reloader, RELOAD, {"verb": "reload"})
    assert "is not confirmed yet: first `ipsec-dp confirm a`" in answer["error"]
    assert reloader.calls == ["reload on trial"]


def test_of_two_reloads_at_once_the_second_waits_for_the_first_to_be_confirmed(site):
    """Or the configuration before the first would be forgotten, and only what nobody confirmed could come back."""
    site.engine.reloader = reloader = MemoryReloader()
    verbs = GatewayVerbs(cast("Any", site), site.down)

    async def life() -> None:
        reloader.goes_on = asyncio.Event()
        asked = [asyncio.ensure_future(verbs.reload(ReloadRequest(confirm_s=60))) for _ in range(2)]
        await settle()
        reloader.goes_on.set()
        first, second = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(first, ReloadResult)
        assert "is not confirmed yet" in str(second)
        await site.clock.advance(61)

    asyncio.run(life())
    assert reloader.calls == ["reload on trial", "go back"]


def test_while_the_former_configuration_comes_back_no_other_is_taken_over(site):
    site.engine.reloader = reloader = MemoryReloader()
    verbs = GatewayVerbs(cast("Any", site), site.down)

    async def life() -> None:
        await verbs.reload(ReloadRequest(confirm_s=60))
        reloader.goes_on = asyncio.Event()
        await site.clock.advance(61)
        async with asyncio.timeout(5):
            with pytest.raises(ControlError, match="the former configuration is coming back; ask again"):
                await verbs.reload(ReloadRequest())
        reloader.goes_on.set()
        await settle()
        await verbs.reload(ReloadRequest())

    asyncio.run(life())
    assert reloader.calls == ["reload on trial", "go back", "reload"]


def test_what_is_refused_does_not_go_back(site):
    reloader = MemoryReloader(applies=False)
    on_trial(site, reloader, RELOAD, 61)
    assert reloader.calls == ["reload on trial"]


@pytest.mark.parametrize(("incomplete", "calls"), [(True, ["reload on trial", "go back"]), (False, ["reload on trial"])])
def test_a_reload_on_trial_that_breaks_off_half_way_goes_back_at_once(site, incomplete, calls):
    reloader = MemoryReloader(fails=ReloadFailedError("broke off"), incomplete=incomplete)
    (answer,) = on_trial(site, reloader, RELOAD)
    assert ("the former configuration is in force again" in answer["error"]) is incomplete
    assert reloader.calls == calls


@pytest.mark.parametrize("seconds", [0, -1, 86401, 1e300])
def test_a_time_in_which_nobody_can_confirm_is_refused_before_anything_changes(site, seconds):
    reloader = MemoryReloader()
    (answer,) = on_trial(site, reloader, {"verb": "reload", "confirm_s": seconds})
    assert "give 1 to 86400" in answer["error"]
    assert reloader.calls == []


def test_a_start_is_confirmed_when_it_has_come_up_and_not_before(site):
    """One that hangs would be kept for ever."""

    async def life() -> None:
        site.confirmation.expect("a", "this start", 60, "it stops", lambda: None)
        site.engine = None
        with pytest.raises(ControlError, match="starting or stopping"):
            await GatewayVerbs(cast("Any", site), site.down).confirm(ConfirmRequest())
        assert site.confirmation.waits_for == "this start"

    asyncio.run(life())


def test_confirm_for_another_gateway_is_refused(site):
    _, answer = on_trial(site, MemoryReloader(), RELOAD, {"verb": "confirm", "name": "b"})
    assert answer["error"] == "this is gateway a, not b"
