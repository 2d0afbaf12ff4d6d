"""`status`: the line on the wire is the one that schema 1 has always been, octet by octet.

recorded/status.json is what a gateway sent for the parts below when they still made dictionaries. A field may come; none may go, be
moved or change its type.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp.databases.pad import peer_of
from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import DROP_SENTENCES
from ipsec_dp.gateway.control import ControlServer
from ipsec_dp.gateway.drop_examples import DropExamples
from ipsec_dp.gateway.inspection import Inspection
from ipsec_dp.gateway.notices import Notices
from ipsec_dp.gateway.parts import GatewayParts
from ipsec_dp.gateway.status import GatewayStatus
from ipsec_dp.gateway.verbs import GatewayVerbs
from ipsec_dp.ike.interface import ChildStatus
from ipsec_dp.ike.strangers import StrangersEvents
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.keying.manual import ManualSas
from ipsec_dp.keying.status import KeyingStatus
from ipsec_dp.services.monitor_health import MonitorStatus
from ipsec_dp.services.path_mtu_state import TunnelMtus
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.ike import growth
from tests.unit.gateway_doubles import Calls, MemoryCore, MemoryPlane, MemorySad, config_of, ike_sa, path_to

RECORDED = Path(__file__).parent / "recorded" / "status.json"
MTUS = {"by-hand": TunnelMtus(1438, 1500), "up": TunnelMtus(1422, 1480), "waiting": TunnelMtus(1400, None)}
MONITOR = MonitorStatus(
    state="down", target="10.3.0.9", source="10.1.0.1", action="wait-recover", rtt_ms=1.25, sent=9, lost=7, lost_in_a_row=7
)
TROUBLE = "monitor: 7 probes in a row to 10.3.0.9 got no answer through the tunnel; its routes stay"
SOCKET = 'tunnel "by-hand": outer socket of 192.0.2.1: Network is down'
ZONES: Any = {"denied": 7, "rules": [{"from": "lan", "to": "vpn", "action": "allow", "packets": 12, "octets": 3400}]}


class MemoryHost:
    """What the host says of itself."""

    notes = ["10.4.0.0/16: a route of the host is longer"]  # noqa: RUF012 - nobody writes to it

    def __init__(self):
        self.guard = self.routing = self
        self.conditions = Conditions(FakeClock())
        self.restored = {"guard": 2, "routes": 0}

    async def counts(self):
        return {"out": 3, "in": 0}

    async def zone_counts(self):
        return ZONES


async def no_addresses():
    return ()


@pytest.fixture
def site(tmp_path):
    """A tunnel with manual keys, one that IKE has up and whose monitor is down, and one that waits."""
    config, clock, sad, plane = config_of(tmp_path), FakeClock(), MemorySad(), MemoryPlane()
    spd = Spd(config)
    numbers = spd.tunnel_numbers
    sad.add(numbers["by-hand"], 0x1001, 0x2001, packets=12, octets=3400, sequence=13, last_use=998_760_000_000, drops={"icv": 2})
    sad.add(numbers["up"], 0xC0000001, 0x2002, packets=1, octets=2, sequence=3)
    sad.add(numbers["up"], 0xC0000002, None)
    sad.add(numbers["up"], None, None)
    child = ChildStatus(1, 0xC0000001, 0x2002, "aes256gcm16", True, (), 61.26, 2961.04)
    core, nothing = cast("Any", MemoryCore(up=(ike_sa("192.0.2.3", children=(child,)),))), cast("Any", None)
    children = cast("Any", Calls("children", named={sad.children[numbers["up"]][0].inbound: ("up", 1)}.get))
    tunnels = [tunnel for tunnel in config.tunnels if tunnel.auth is not None]
    peers = {tunnel.name: peer_of(tunnel) for tunnel in tunnels}
    parts = {"core": core, "children": children, "links": nothing, "locate": nothing, "changed": nothing}
    ike = IkeDriver(tunnels, peers, **parts, clock=clock, conditions=Conditions(clock))
    manual = ManualSas(cast("Any", sad), spd, clock.random)
    manual.paths["by-hand"] = path_to("192.0.2.2")
    notices = Notices(clock, StrangersEvents())
    host = MemoryHost()
    monitors = Calls("monitors", status={"up": MONITOR}.get, trouble={"up": TROUBLE}.get)

    examples = DropExamples(
        config, plane=cast("Any", plane), spd=spd, own_addresses=no_addresses, state=lambda _: "up", clock=clock
    )

    site_trouble: dict[str, str] = {}

    def inspection(ike: Any) -> Inspection:
        parts = GatewayParts(
            spd=spd,
            plane=cast("Any", plane),
            sad=cast("Any", sad),
            manual=manual,
            ike=ike,
            host=cast("Any", host),
            mtus=cast("Any", Calls("mtus", status=MTUS.__getitem__)),
            monitors=cast("Any", monitors),
        )
        return Inspection(
            config,
            parts,
            unanswered=cast("Any", Calls("unanswered", trouble=site_trouble.get)),
            drop_examples=examples,
            notices=notices,
            clock=clock,
        )

    return SimpleNamespace(
        config=config, inspection=inspection(ike), inspection_of=inspection, host=host, notices=notices, clock=clock, sad=sad,
        unanswered=site_trouble, core=core, number=numbers["waiting"],
    )  # fmt: skip


def line(site, **asked):
    """What the gateway sends."""

    async def ask():
        parts = SimpleNamespace(config=site.config, engine=SimpleNamespace(inspection=site.inspection))
        server = ControlServer(Path("a.sock"), GatewayVerbs(cast("Any", parts), cast("Any", None)).table)
        answer = cast("Any", await server.answer(json.dumps({"verb": "status", **asked}).encode()))
        return b"".join([piece async for piece in answer.pieces()]) if hasattr(answer, "pieces") else answer.line

    return asyncio.run(ask()).decode()


def tunnels(site, **asked):
    return {tunnel["name"]: tunnel for tunnel in json.loads(line(site, **asked))["result"]["tunnels"]}


def test_the_line_is_the_recorded_one(site):
    site.notices.add(30, SOCKET, tunnel="by-hand")
    assert line(site).replace(json.dumps(DROP_SENTENCES), "{}") == RECORDED.read_text()


def test_what_an_ikev1_peer_says_of_itself(site):
    site.core.sas["up"] = (ike_sa("192.0.2.3", version=1, vendors=("strongSwan", "DPD"), unknown_vendors=2),)
    said = tunnels(site)["up"]["ike"]
    assert [said[name] for name in ("version", "vendors", "unknown_vendors")] == [1, ["strongSwan", "DPD"], 2]


def test_the_recorded_line_is_read_back_whole():
    """No field of it is unknown to the structs, and none of theirs is missing in it."""
    result = json.loads(RECORDED.read_text())["result"]
    status = msgspec.convert(result, GatewayStatus)
    assert json.dumps(msgspec.to_builtins(status)) == json.dumps(result)


def test_what_is_wrong_with_the_host_is_a_warning_while_it_lasts(site):
    before = asyncio.run(site.inspection.gateway()).warnings
    site.host.conditions.begin("rules", "100", "rule 100 comes first")
    assert asyncio.run(site.inspection.gateway()).warnings == (*before, "rule 100 comes first")
    site.host.conditions.end("rules", "100")
    assert asyncio.run(site.inspection.gateway()).warnings == before


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["by-hand", "up", "waiting"]),
        ({"name": "up"}, ["up"]),
        ({"state": "up"}, ["by-hand", "up"]),
        ({"name": "up", "state": "waiting"}, []),
        ({"state": "nonsense"}, []),
    ],
)
def test_one_tunnel_or_those_in_a_state(site, asked, names):
    assert list(tunnels(site, **asked)) == names


def test_a_child_sa_takes_few_steps_since_a_thousand_are_asked_for_at_once(site):
    """About 600; 2,000 where the texts of its selectors are made each time."""
    steps = {}
    for count in (1, 11):
        while len(site.sad.children_of(site.number)) < count:
            site.sad.add(site.number, 0xC0000100, 0x2100)
        asyncio.run(shown(site, "waiting"))  # what is made at the first question
        with growth.opcodes() as counted:
            asyncio.run(shown(site, "waiting"))
        steps[count] = counted.count
    assert steps[11] - steps[1] < 10 * 1000


async def shown(site, name):
    return [each async for each in site.inspection.tunnels(name)]


def test_a_name_that_is_nearly_right_is_suggested(site):
    assert json.loads(line(site, name="wating"))["error"] == 'no tunnel "wating"; did you mean "waiting"?'


def test_a_tunnel_that_goes_while_others_are_shown_is_left_out(site):
    async def shown():
        found = site.inspection.tunnels()
        first = await anext(found)
        without = [tunnel for tunnel in site.config.tunnels if tunnel.name != "up"]
        site.inspection.reconfigure(replace(site.config, tunnels=tuple(without)))
        return [first.name] + [each.name async for each in found]

    assert asyncio.run(shown()) == ["by-hand", "waiting"]


@pytest.mark.parametrize(
    ("says", "up_after_s", "shown"),
    [(None, -1.0, "no way out"), ("the peer refused", -1.0, "the peer refused"), (None, 1.0, None)],
    ids=["noticed", "IKE knows better", "up since then"],
)
def test_the_last_error(site, says, up_after_s, shown):
    site.notices.add(30, "no way out", tunnel="waiting")
    keying = KeyingStatus(state="up", state_text="up", remote="any", last_error=says, up_at=site.clock.now() + up_after_s)
    site.inspection = site.inspection_of(Calls("ike", status=lambda _name: keying, has=lambda _name: True))
    assert tunnels(site)["waiting"]["last_error"] == shown
    assert tunnels(site)["up"]["last_error"] == TROUBLE


def test_what_a_tunnel_carried_and_what_happened_to_it_is_of_all_its_sas(site):
    assert tunnels(site)["up"]["totals"] == {
        "packets_in": 101, "octets_in": 200, "packets_out": 300, "octets_out": 400, "drops": {"icv": 5}
    }  # fmt: skip
    counted = {name: tunnels(site)["up"][name] for name in ("attempts", "failures", "flaps", "retransmissions")}
    assert counted == {"attempts": 0, "failures": 0, "flaps": 0, "retransmissions": 2}


def test_a_way_without_answers_is_the_last_error_while_that_is_so(site):
    site.unanswered["waiting"] = "nothing comes back"
    site.unanswered["up"] = "of which the monitor knows more"
    assert tunnels(site)["waiting"]["last_error"] == "nothing comes back"
    assert tunnels(site)["up"]["last_error"] == TROUBLE
    site.unanswered.clear()
    assert tunnels(site)["waiting"]["last_error"] is None


def test_a_manual_tunnel_without_an_sa_is_down(site):
    site.sad.children.clear()
    assert tunnels(site)["by-hand"]["state"] == "down"
    assert tunnels(site)["by-hand"]["state_text"] == "no SA"


def test_drops_of_both_directions_are_added(site):
    (child,) = tunnels(site)["by-hand"]["children"]
    assert child["drops"] == {"icv": 4}
