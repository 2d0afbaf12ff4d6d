"""What is left of a gateway: what is said of it is what the kernel has."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.host import PROTOCOL, HostError, claim, guard, nft, nft_state, zones
from ipsec_dp.host.bulk import KernelRoute
from ipsec_dp.host.bypass import OWNER
from ipsec_dp.host.routes import UNREACHABLE, table_base
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network import remains
from ipsec_dp.network.remains import Remains

PREFIXES = tuple(AddressRange.of(each).prefixes[0] for each in ("10.2.0.0/24", "fd00:2::/64"))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Remains("a", guard=True, unreachable=PREFIXES), "the guard and unreachable routes keep protected traffic from"),
        (Remains("a", guard=True), "the guard alone keeps protected traffic from"),
        (Remains("a", unreachable=PREFIXES), "unreachable routes alone keep .*: there is no guard"),
        (Remains("a", unreachable=PREFIXES, unseen="nft: no"), r"unreachable routes alone .* does cannot be seen \(nft: no\)"),
        (Remains("a", unseen="nft: no"), r"no unreachable routes keep .*, and whether the guard does cannot be seen \(nft: no\)"),
        (Remains("a"), "nothing keeps .*: there is neither guard nor unreachable route"),
    ],
)
def test_only_what_is_there_is_said_to_hold(found, text):
    assert re.match(text, found.text)
    assert found.advice.startswith(found.text)
    assert ("`ipsec-dp open a`" in found.advice) is (found.text[:7] != "nothing")


def test_what_is_held_is_what_either_part_holds():
    found = Remains("a", guarded=(AddressRange.of("10.2.0.0/24"), AddressRange.of("10.3.0.1")), unreachable=PREFIXES)
    assert found.held == ["10.2.0.0/24", "10.3.0.1/32", "fd00:2::/64"]


@pytest.fixture
def kernel(monkeypatch):
    """What it has: nftables tables with their sets, routes of any gateway, rules."""
    has = SimpleNamespace(tables={}, unreachable=[], routed=[], rules=[], nft=None, nfnetlink=None, living=set())

    async def tables() -> list[str]:
        if has.nfnetlink is not None:
            raise has.nfnetlink
        return list(has.tables)

    async def listed(*scope: str) -> list[dict[str, Any]]:
        if has.nft is not None:
            raise has.nft
        return has.tables[scope[-1]]

    class Table:
        def __init__(self, *_: Any) -> None: ...

        async def unreachable(self) -> list[Any]:
            return has.unreachable

        async def routed(self) -> list[Any]:
            return has.routed

    @asynccontextmanager
    async def netlink():
        yield SimpleNamespace(rule=None)

    async def rules(*_: Any, family: int) -> list[dict[str, int]]:
        return has.rules if family == 2 else []

    monkeypatch.setattr(nft_state, "tables", tables)
    monkeypatch.setattr(nft, "listed", listed)
    monkeypatch.setattr(remains, "RouteTable", Table)
    monkeypatch.setattr(remains, "open_netlink", netlink)
    monkeypatch.setattr(remains, "dump", rules)
    monkeypatch.setattr(claim, "holder", lambda name: claim.Holder(1, 0) if name in has.living else None)
    return has


SETS = [
    {"name": "tunnels", "elem": ["ipsec0"]},
    {"name": "remote4", "elem": [{"prefix": {"addr": "10.9.0.0", "len": 16}}, "10.3.0.5"]},
    {"name": "pairs4", "elem": [{"concat": [{"prefix": {"addr": "10.1.0.0", "len": 24}}, {"range": ["10.4.0.1", "10.4.0.9"]}]}]},
    {"name": "remote6"},
]


def test_the_guards_sets_say_what_it_holds(kernel):
    kernel.tables = {guard.table_name("a"): SETS, zones.table_name("a"): [], guard.table_name("ab"): []}
    found = asyncio.run(remains.find("a"))
    assert (found.guard, found.zones) == (True, True)
    assert [str(each) for each in found.guarded] == ["10.9.0.0-10.9.255.255", "10.3.0.5", "10.4.0.1-10.4.0.9"]


def test_what_stands_in_for_a_guard_that_is_replaced_holds_as_well(kernel):
    kernel.tables = {guard.stand_in_name("a"): SETS}
    found = asyncio.run(remains.find("a"))
    assert (found.guard, len(found.guarded)) == (True, 3)


def test_rules_are_counted_by_the_gateways_own_tables_and_our_protocol(kernel):
    base = table_base("a")
    for table, protocol in (
        (base + 24, PROTOCOL),
        (base + OWNER, PROTOCOL),
        (base + 24, 4),
        (base + 256, PROTOCOL),
        (254, PROTOCOL),
    ):
        kernel.rules.append({"FRA_TABLE": table, "FRA_PROTOCOL": protocol})
    found = asyncio.run(remains.find("a"))
    assert found.rules == 2
    assert found


def test_without_nftables_routes_are_seen_all_the_same(kernel):
    kernel.unreachable, kernel.nfnetlink = list(PREFIXES), HostError("not permitted")
    found = asyncio.run(remains.find("a"))
    assert (found.unreachable, found.guard, found.unseen) == (PREFIXES, False, "not permitted")


@pytest.mark.parametrize("tables", [{}, {guard.table_name("a"): SETS, zones.table_name("a"): []}])
def test_without_the_program_nft_all_is_seen_but_what_the_guard_holds(kernel, tables):
    kernel.tables, kernel.unreachable, kernel.nft = tables, list(PREFIXES), HostError("nft is not installed")
    found = asyncio.run(remains.find("a"))
    assert (found.unreachable, found.guard, found.zones, found.unseen) == (PREFIXES, bool(tables), bool(tables), "")
    assert (found.guarded, found.unlisted) == ((), "nft is not installed" if tables else "")
    assert "ipsec-dp open a" in found.advice
    assert [each.gateway for each in asyncio.run(remains.dead())] == (["a"] if tables else [])


def test_dead_gateways_are_those_of_our_tables_that_nobody_lives_for(kernel):
    kernel.tables = {guard.table_name(name): [] for name in ("a", "b.c", "ü_1")} | {zones.table_name("d"): [], "filter": []}
    kernel.tables[guard.stand_in_name("f")] = []
    kernel.living = {"a"}
    assert [each.gateway for each in asyncio.run(remains.dead(["e"]))] == ["b.c", "ü_1", "d", "f"]


def route(gateway, prefix, interface=0):
    return KernelRoute(prefix, table_base(gateway) + prefix.prefixlen, 1, PROTOCOL, UNREACHABLE, interface)


def test_routes_alone_of_a_gateway_of_any_name_are_found(kernel, monkeypatch):
    """Those that run, and those whose name is known, are told by it."""
    kernel.tables = {guard.table_name("guarded"): []}
    routes = [route(name, prefix) for name in ("guarded", "asked", "lives", "unknown") for prefix in reversed(PREFIXES)]
    routes += [route("runs", PREFIXES[0]), route("runs", PREFIXES[0], interface=7)]

    async def of_all():
        return {base: [one for one in routes if one.table & ~0xFF == base] for base in {one.table & ~0xFF for one in routes}}

    monkeypatch.setattr(remains, "of_all", of_all)
    monkeypatch.setattr(claim, "names", lambda _: ["lives"])
    (found,) = asyncio.run(remains.nameless(["asked"]))
    assert (found.table, found.unreachable) == (table_base("unknown"), PREFIXES)


def test_who_may_hold_a_name():
    assert claim.Holder(4, 0).may_be_a_gateway
    assert not claim.Holder(4, 65533).may_be_a_gateway
    assert not claim.Holder().may_be_a_gateway
    assert [str(each) for each in (claim.Holder(4, 0), claim.Holder(4, 7), claim.Holder())] == [
        "process 4",
        "process 4 of user 7",
        "somebody",
    ]
