"""A tunnel whose ESP could go in UDP and gets no way there falls back to IP protocol 50 by itself, and tries UDP anew later."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from ipsec_dp.ike.actions import Cause, Endpoint, Event, Kind, Origin, Path
from ipsec_dp.ike.peer import Peer
from ipsec_dp.keying.encapsulations import ANEW_S, SOON_S, Between, Encapsulations, FindingState
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import PSK, tunnel
from tests.unit.ike_driver_site import LOCAL, Site, event

HERE = Between(ip_address("192.0.2.1"), ip_address("192.0.2.2"))
ELSEWHERE = Between(ip_address("198.51.100.1"), ip_address("192.0.2.2"))
AUTO = Peer(tunnel="to-b", auth=None, ike_proposals=(), esp_proposals=(), proxy_ids=(), encapsulation="auto")  # type: ignore[arg-type]


class Known:
    """What IKE is told of one tunnel's peer."""

    def __init__(self):
        self.clock = FakeClock()
        self.conditions = Conditions(self.clock)
        self.applied: list[str] = []
        self.found = Encapsulations(self.apply, self.conditions, self.clock)

    def apply(self, name):
        assert name == "to-b"
        self.applied.append(self.now)

    @property
    def now(self):
        """What is negotiated from now on."""
        return self.found.applied(AUTO).encapsulation

    def hears(self, kind, cause=None):
        return self.found.event(Event(kind, "to-b", bytes(8), bytes(8), "", "why", cause, origin=Origin.OURS))


def in_loop(life):
    async def run():
        await life(Known())

    asyncio.run(run())


def test_port_4500_without_an_answer_leads_to_protocol_50_for_a_while():
    async def life(known):
        assert known.now == "auto"
        known.found.no_way("to-b", HERE, "192.0.2.2 did not answer")
        assert (known.now, known.applied) == ("esp", ["esp"])
        (text,) = known.conditions.texts
        assert text.startswith('tunnel "to-b": its ESP goes as IP protocol 50, a fallback, which costs throughput')
        assert "192.0.2.2 did not answer: let UDP port 4500 pass" in text
        assert "UDP is tried anew after 1 h, and by the first IKE SA that is made after a reload" in text
        known.hears(Kind.CHILD_UP)
        await known.clock.advance(ANEW_S - 1)
        assert known.now == "esp"
        await known.clock.advance(2)
        assert (known.now, known.applied[-1]) == ("auto", "auto")
        assert known.conditions.texts == []

    in_loop(life)


@pytest.mark.parametrize(("came_up", "then"), [(False, "auto"), (True, "esp")])
def test_an_attempt_over_protocol_50_that_fails_too_shows_that_udp_was_not_the_cause(came_up, then):
    async def life(known):
        known.found.no_way("to-b", HERE, "why")
        if came_up:
            known.hears(Kind.CHILD_UP)
        known.hears(Kind.IKE_FAILED)
        assert known.now == then

    in_loop(life)


@pytest.mark.parametrize(
    ("kind", "cause", "up", "after", "anew", "then"),
    [
        (Kind.CHILD_DOWN, Cause.PEER, True, 0, True, "auto"),
        (Kind.IKE_DOWN, Cause.SELECTORS, False, 0, True, "auto"),
        (Kind.IKE_FAILED, Cause.PROPOSAL, False, 0, False, "auto"),
        (Kind.IKE_FAILED, Cause.TIMEOUT, False, 2 * SOON_S, False, "auto"),
        (Kind.IKE_FAILED, Cause.LOCAL, False, 0, False, "esp"),
        (Kind.IKE_FAILED, Cause.TIMEOUT, True, 0, False, "esp"),
        (Kind.IKE_DOWN, Cause.LOCAL, False, 0, False, "esp"),
        (Kind.CHILD_FAILED, Cause.PROPOSAL, True, 0, False, "esp"),
        (Kind.CHILD_DOWN, Cause.PEER, True, SOON_S + 1, False, "esp"),
    ],
)
def test_who_will_not_have_protocol_50_where_nothing_came_back_has_udp_again(kind, cause, up, after, anew, then):
    async def life(known):
        known.found.nothing_back("to-b", HERE)
        if up:
            known.hears(Kind.CHILD_UP)
        await known.clock.advance(after)
        assert (known.hears(kind, cause), known.now) == (anew, then)
        assert known.found.nothing_back("to-b", HERE) is (then == "esp"), "and UDP is not blamed"

    in_loop(life)


def test_silence_over_both_is_not_blamed_on_udp():
    async def life(known):
        assert known.found.nothing_back("to-b", HERE)
        assert known.now == "esp"
        assert "nothing came back of ESP in UDP" in known.conditions.texts[0]
        assert known.found.nothing_back("to-b", HERE), "nor over protocol 50"
        assert (known.now, known.conditions.texts) == ("auto", [])
        assert not known.found.nothing_back("to-b", HERE), "that is known"
        await known.clock.advance(ANEW_S + 1)
        assert known.found.nothing_back("to-b", HERE), "and may be otherwise now"

    in_loop(life)


def test_the_same_peer_by_ikev1_is_met_likewise():
    async def life(known):
        known.found.no_way("to-b", HERE, "why")
        older = known.found.applied(replace(AUTO, fallback=AUTO)).fallback
        assert older.encapsulation == "esp"

    in_loop(life)


@pytest.mark.parametrize(("between", "then"), [(HERE, "esp"), (ELSEWHERE, "auto")])
def test_what_was_found_is_true_between_two_addresses(between, then):
    async def life(known):
        known.found.no_way("to-b", HERE, "why")
        known.found.calls("to-b", between)
        assert known.now == then
        known.found.forget_all()
        assert known.now == "auto"

    in_loop(life)


# ---- another process -------------------------------------------------------------------------------------------------------------


def over_the_wire(found):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=dict[str, FindingState])


@pytest.mark.parametrize("came_up", [False, True])
def test_what_was_found_goes_along_for_as_long_as_it_would_have_held(came_up):
    async def life(known):
        known.found.no_way("to-b", HERE, "192.0.2.2 did not answer")
        if came_up:
            known.hears(Kind.CHILD_UP)
        await known.clock.advance(ANEW_S - 60)
        after, texts = Known(), known.conditions.texts
        after.clock = known.clock
        after.found = Encapsulations(after.apply, after.conditions, after.clock)
        after.found.resume("to-b", over_the_wire(known.found.export())["to-b"])
        assert (after.now, after.applied, after.conditions.texts) == ("esp", ["esp"], texts)
        assert after.found.export() == known.found.export()
        after.hears(Kind.IKE_FAILED)
        assert after.now == ("esp" if came_up else "auto")
        await known.clock.advance(61)
        assert (after.now, after.found.export(), after.conditions.texts) == ("auto", {}, [])

    in_loop(life)


def test_silence_over_both_goes_along():
    async def life(known):
        for _ in range(2):
            known.found.nothing_back("to-b", HERE)
        after = Known()
        after.found.resume("to-b", known.found.export()["to-b"])
        assert (after.now, after.conditions.texts) == ("auto", [])
        assert not after.found.nothing_back("to-b", HERE), "that is known"
        after.found.calls("to-b", ELSEWHERE)
        assert after.found.export() == {}

    in_loop(life)


@pytest.mark.parametrize("change", [{"until": 0.0}, {"because": "a whim"}, {"local": b"123"}])
def test_what_is_over_or_cannot_be_is_not_taken(change):
    async def life(known):
        known.found.no_way("to-b", HERE, "why")
        state = msgspec.structs.replace(known.found.export()["to-b"], **change)
        after = Known()
        await after.clock.advance(1)
        with nullcontext() if "until" in change else pytest.raises(ValueError, match=r"whim|b'123'"):
            after.found.resume("to-b", state)
        assert after.now == "auto"

    in_loop(life)


def test_a_time_that_is_too_far_away_is_no_longer_than_any():
    async def life(known):
        known.found.no_way("to-b", HERE, "why")
        after = Known()
        after.found.resume("to-b", msgspec.structs.replace(known.found.export()["to-b"], until=1e12))
        await after.clock.advance(ANEW_S + 1)
        assert after.now == "auto"

    in_loop(life)


def test_a_host_without_protocol_50_takes_none_of_it():
    async def life(known):
        known.found.no_way("to-b", HERE, "why")
        after = Known()
        after.found = Encapsulations(after.apply, after.conditions, after.clock, "no")
        after.found.resume("to-b", known.found.export()["to-b"])
        assert (after.now, after.applied) == ("udp", [])

    in_loop(life)


# ---- the driver -----------------------------------------------------------------------------------------------------------------

FLOATED = Path(Endpoint(LOCAL, 4500), Endpoint(ip_address("192.0.2.2"), 4500), natt=True)


FOUND = FindingState(HERE.local.packed, HERE.remote.packed, "port 4500", "why", 600.0, True)


@dataclass
class Sa:
    udp: bool = True
    encapsulation_why: str = "auto"
    state: str = "up"
    path: Path = FLOATED
    spi_i: bytes = bytes(8)
    spi_r: bytes = bytes(8)
    role: str = "initiator"

    def __getattr__(self, _: str) -> Any:
        return None


@pytest.fixture
def made(tmp_path):
    return lambda *lines, remote="192.0.2.2": Site(
        tmp_path, tunnel("to-b", *lines, remote=remote, keys=f'{PSK}  remote_id = "gw.example"\n')
    )


def met_with(site):
    """How the peer is met now, as the core knows it."""
    told = [call[1].encapsulation for call in site.core.of("set_peer")]
    return told[-1] if told else None


def test_it_is_called_again_at_once_without(made):
    site = made()
    site.core.answers["latest"] = (Sa(state="negotiating"),)

    async def life():
        site.hand(event(Kind.NO_UDP))
        await settle()
        assert [name for name, *_ in site.core.calls if name in ("leave", "set_peer", "initiate")][-1] == "initiate"
        assert (site.called(), met_with(site)) == (["to-b"], "esp")
        assert "a fallback" in site.conditions.texts[0]
        await site.driver.reconfigure([], {}, {})
        assert (met_with(site), site.conditions.texts) == ("auto", []), "a reload begins anew"

    site.run(life)


@pytest.mark.parametrize(
    ("sa", "line", "goes"),
    [
        (Sa(), "", True),
        (Sa(role="responder"), "", False),
        (Sa(udp=False, encapsulation_why="peer"), "", False),
        (Sa(udp=False, encapsulation_why="shared"), "", False),
        (Sa(encapsulation_why="nat"), "", False),
        (Sa(encapsulation_why="peer"), "", False),
        (Sa(encapsulation_why="configured"), 'encapsulation = "udp"', False),
        (Sa(udp=False, encapsulation_why="configured"), 'encapsulation = "esp"', False),
        (Sa(state="negotiating"), "", False),
    ],
)
def test_where_nothing_comes_back_another_way_is_tried_if_there_is_one(made, sa, line, goes):
    site = made(line)
    site.core.answers["latest"] = (sa,)

    async def life():
        assert site.driver.nothing_back("to-b") is goes
        await settle()
        assert (site.core.of("leave") != [], site.called()) == (goes, ["to-b"] if goes else [])
        assert met_with(site) == ("esp" if goes else None)

    site.run(life)


def test_where_nothing_comes_back_either_way_udp_is_taken_again(made):
    site = made()

    async def life():
        for sa, then in ((Sa(), "esp"), (Sa(udp=False, encapsulation_why="configured"), "auto")):
            site.core.answers["latest"] = (sa,)
            assert site.driver.nothing_back("to-b")
            await settle()
            assert met_with(site) == then
        site.core.answers["latest"] = (Sa(),)
        assert not site.driver.nothing_back("to-b"), "and that is all"

    site.run(life)


def test_a_tunnel_that_is_up_is_not_left_for_an_attempt_beside_it(made):
    site = made()
    site.core.answers["latest"] = (Sa(spi_i=b"the old1"), Sa(state="negotiating"))

    async def life():
        site.hand(event(Kind.NO_UDP))
        await settle()
        assert (site.core.of("leave"), site.called(), met_with(site)) == ([], [], None)

    site.run(life)


def test_who_only_waits_for_the_peer_does_nothing(made):
    site = made(remote="any")
    site.core.answers["latest"] = (Sa(),)

    async def life():
        assert not site.driver.nothing_back("to-b")

    site.run(life)


def test_the_driver_gives_what_was_found_and_takes_it_of_its_own_tunnels(made):
    async def life():
        site = made()
        found = msgspec.structs.replace(FOUND, until=site.clock.now() + 60)
        site.driver.take_findings({"to-b": found, "elsewhere": found})
        assert met_with(site) == "esp"
        assert site.driver.export_findings() == {"to-b": found}
        written = made('encapsulation = "udp"')
        written.driver.take_findings({"to-b": found})
        assert (met_with(written), written.driver.export_findings()) == (None, {})

    asyncio.run(life())
