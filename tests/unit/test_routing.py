"""When routes are written, what stands in the way, and whose address a probe has. The kernel's table and rules are in memory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.host import bypass, routes
from ipsec_dp.host.outer import OwnAddress
from ipsec_dp.network import routing
from ipsec_dp.network.routing import LinuxRouting
from tests.doubles.config import PSK, configured, proxy_id, tunnel

KEYED = proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK
OTHER = proxy_id("10.1.0.0/24", "10.3.0.0/24") + PSK
IPR: Any = None
OWN = [OwnAddress(ip_address("192.0.2.1"), "wan"), OwnAddress(ip_address("10.1.0.1"), "lan")]


class Table:
    """The kernel's routes of this gateway: prefixes that are held, and those that lead on."""

    made: Table

    def __init__(self, *_: Any) -> None:
        self.calls: list[tuple[str, list[str], list[str]]] = []
        self.conflicts: list[str] = []
        self.adapts, self.left = True, False
        self.tunnels: frozenset[int] = frozenset()
        Table.made = self

    def _note(self, what: str, prefixes: Any, wanted: Any) -> list[str]:
        self.calls.append((what, [str(each) for each in prefixes], [str(each.prefix) for each in wanted]))
        return self.conflicts

    async def apply(self, prefixes: Any, wanted: Any) -> list[str]:
        return self._note("apply", prefixes, wanted)

    async def change(self, prefixes: Any, wanted: Any) -> list[str]:
        return self._note("change", prefixes, wanted)

    async def adapt(self, added: Any, removed: Any) -> bool:
        self._note("adapt", [each.prefix for each in removed], added)
        return self.adapts

    async def remove(self) -> None:
        self._note("remove", (), ())

    async def as_left(self) -> bool:
        return self.left


class Site:
    def __init__(self, directory, monkeypatch, *tables: str) -> None:
        self.directory, self.own, self.bypasses = directory, list(OWN), 0
        self.interfaces = cast("Any", SimpleNamespace(indices={"ipsec0": 5}, mtus={"b": 1400, "c": 1400}))

        async def apply(matches: Any) -> int:
            del matches
            self.bypasses += 1
            return 0

        async def own_sources(ipr: Any) -> list[OwnAddress]:
            del ipr
            return self.own

        monkeypatch.setattr(routes, "RouteTable", Table)
        monkeypatch.setattr(bypass, "BypassRules", lambda *_: SimpleNamespace(apply=apply))
        monkeypatch.setattr(routing, "own_sources", own_sources)
        self.config = configured(directory, *(tables or (tunnel("b", keys=KEYED),)))
        self.routing = LinuxRouting(self.config, lambda: IPR, self.interfaces)

    @property
    def done(self) -> list[str]:
        return [call[0] for call in Table.made.calls]


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


B = "10.2.0.0/24"


def test_while_it_is_started_prefixes_lead_into_the_interface_and_then_they_are_unreachable(site):
    async def life() -> None:
        async with AsyncExitStack() as stack:
            await site.routing.start(stack)

    asyncio.run(life())
    assert Table.made.calls == [("apply", [B], [B]), ("apply", [B], [])]
    assert site.bypasses == 1, "what bypasses is past the tunnels before anything leads into them"
    assert Table.made.tunnels == {5}


def test_what_was_unreachable_and_still_is_need_not_be_read_from_the_kernel_again_when_routes_begin_to_lead(site):
    async def life() -> None:
        async with AsyncExitStack() as stack:
            await site.routing.hold()
            Table.made.left = True
            await site.routing.start(stack)

    asyncio.run(life())
    assert Table.made.calls[:2] == [("apply", [B], []), ("change", [B], [B])]


def test_a_changed_host_is_of_no_concern_before_routes_lead_anywhere(site):
    async def life() -> None:
        await site.routing.hold()
        await site.routing.renew()
        assert site.done == ["apply"]
        await site.routing.apply()
        await site.routing.renew()
        assert site.done == ["apply", "apply", "apply"]

    asyncio.run(life())


def test_a_reload_that_adds_tunnels_adds_their_routes_alone(site, tmp_path):
    async def life() -> None:
        await site.routing.apply()
        (added,) = configured(tmp_path, tunnel("c", keys=OTHER, remote="192.0.2.3")).tunnels
        site.routing.reconfigure(replace(site.config, tunnels=(*site.config.tunnels, added)))
        await site.routing.apply(known=True)
        assert Table.made.calls[-1] == ("adapt", [], ["10.3.0.0/24"])

    asyncio.run(life())


def test_a_reload_that_takes_tunnels_away_takes_their_routes_alone(site, tmp_path):
    async def life() -> None:
        await site.routing.apply()
        site.routing.reconfigure(configured(tmp_path, tunnel("c", keys=OTHER)))
        await site.routing.apply(known=True)
        assert Table.made.calls[-1] == ("adapt", [B], ["10.3.0.0/24"])

    asyncio.run(life())


@pytest.mark.parametrize(("known", "done"), [(True, "change"), (False, "apply")])
def test_otherwise_all_are_looked_at_and_the_kernel_is_asked_unless_it_is_known(site, tmp_path, known, done):
    async def life() -> None:
        await site.routing.apply()
        Table.made.adapts = False
        site.routing.reconfigure(configured(tmp_path, tunnel("c", keys=OTHER)))
        await site.routing.apply(known=known)
        assert Table.made.calls[-1] == (done, ["10.3.0.0/24"], ["10.3.0.0/24"])

    asyncio.run(life())


def test_what_stands_in_the_way_is_a_note_and_in_the_log_while_it_is_new(site, caplog):
    async def life() -> None:
        await site.routing.hold()
        Table.made.conflicts = ["10.2.0.0/24 is routed through eth1"]
        for _ in range(2):
            await site.routing.apply()
        assert site.routing.notes == ["route 10.2.0.0/24 is routed through eth1"]
        Table.made.conflicts = []
        await site.routing.apply()
        assert site.routing.notes == []

    asyncio.run(life())
    assert [record.message for record in caplog.records] == ["route 10.2.0.0/24 is routed through eth1"]


def test_mtus_are_a_reason_only_where_routes_differ(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch, tunnel("b", keys=KEYED), tunnel("c", keys=OTHER, remote="192.0.2.3"))

    async def life() -> None:
        await site.routing.apply_mtus()  # routes lead nowhere yet
        await site.routing.apply()
        for mtus, count in (({"b": 1400, "c": 1400}, 1), ({"b": 1300, "c": 1300}, 1), ({"b": 1300, "c": 1400}, 2)):
            site.interfaces.mtus = mtus
            await site.routing.apply_mtus()
            assert len(site.done) == count, mtus

    asyncio.run(life())


@pytest.mark.parametrize(
    ("lines", "target", "source"),
    [
        ((), "10.2.0.9", "10.1.0.1"),
        (('address = ["10.1.0.7/32"]',), "10.2.0.9", "10.1.0.7"),
        (('address = ["169.254.10.1/30"]',), "10.2.0.9", "10.1.0.1"),
        ((), "fd00::9", None),
    ],
    ids=["inside the selectors", "the interface's own first", "unless it lies outside", "of the target's version"],
)
def test_a_probe_goes_from_an_address_that_the_tunnel_carries(tmp_path, monkeypatch, lines, target, source):
    site = Site(tmp_path, monkeypatch, tunnel("b", *lines, keys=KEYED))
    found = asyncio.run(site.routing.probe_source(site.config.tunnels[0], ip_address(target)))
    assert (None if found is None else str(found)) == source
