"""When the kernel's guard and zones are written: as the configuration, the host and a reload have them, and not more often."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.host import guard_table, nft, zones
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network import guard as network_guard
from ipsec_dp.network.desired import zone_rule
from ipsec_dp.network.guard import LinuxGuard
from tests.doubles.config import PSK, configured, proxy_id, tunnel

ZONES = '[[zone]]\nname = "vpn"\ninterfaces = ["ipsec0"]\n[[zone]]\nname = "lan"\ninterfaces = ["eth1"]\n'
RULE = '[[zone_rule]]\nfrom = "lan"\nto = "vpn"\n'
HUB = proxy_id("10.1.0.0/16", "10.0.0.0/8") + PSK  # what is local lies in what is remote
ANY_OF_10 = proxy_id("10.0.0.0/8", "10.0.0.0/8") + PSK


class Table:
    """The kernel's guard: what it was last made to keep closed, by remote addresses."""

    table = "ipsec_dp_gw"
    made: Table

    def __init__(self, *_: Any) -> None:
        self.calls: list[tuple[str, list[str], set[str]]] = []
        Table.made = self

    def note(self, what: str, selectors: Any, tunnels: Any) -> None:
        self.calls.append((what, [str(each.remote) for each in selectors], set(tunnels)))

    async def apply(self, selectors: Any, tunnels: Any) -> None:
        self.note("apply", selectors, tunnels)

    async def widen(self, selectors: Any, tunnels: Any) -> None:
        self.note("widen", selectors, tunnels)

    async def settle(self) -> None:
        self.note("settle", (), ())

    async def remove(self) -> None:
        self.note("remove", (), ())

    async def counts(self) -> dict[str, nft.Count]:
        return {"cleartext_out4": nft.Count(3, 200)}


class Zones:
    """The kernel's zones."""

    made: Zones

    def __init__(self, *_: Any) -> None:
        self.applied: list[tuple[list[str], int, set[str]]] = []
        self.held: dict[str, nft.Count] = {}
        Zones.made = self

    async def apply(self, wanted: Any, rules: Any, tunnels: Any) -> None:
        self.applied.append(([each.name for each in wanted], len(rules), set(tunnels)))

    async def remove(self) -> None:
        Table.made.note("remove zones", (), ())

    async def counts(self) -> dict[str, nft.Count]:
        return self.held


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A guard of a configuration, the networks on this side, and what reads configurations."""
    inside: list[str] = []

    async def networks(outer: set[int]) -> list[Any]:
        assert outer == {2}
        return [AddressRange.of(each).prefixes[0] for each in inside]

    async def outer_interfaces(config: Any) -> set[int]:
        del config
        return {2}

    peers: Any = SimpleNamespace(outer_interfaces=outer_interfaces)
    monkeypatch.setattr(guard_table, "Guard", Table)
    monkeypatch.setattr(zones, "Zones", Zones)
    monkeypatch.setattr(network_guard, "inside_networks", networks)

    def made(*tables: str) -> Any:
        one: Any = LinuxGuard(configured(tmp_path, *(tables or (tunnel(keys=B),))), lambda: peers)
        one.inside = inside
        return one

    return made


B, C = (proxy_id("10.1.0.0/24", f"10.{number}.0.0/24") + PSK for number in (2, 3))
REMOTE_B, REMOTE_C = ("10.2.0.0-10.2.0.255", "10.3.0.0-10.3.0.255")


def test_narrow_keeps_closed_what_the_configuration_protects(made):
    asyncio.run(made().narrow())
    assert Table.made.calls == [("apply", [REMOTE_B], {"ipsec0"})]


def test_a_reload_widens_it_for_the_new_configuration_and_settles_there(made, tmp_path):
    one, new = made(tunnel(keys=ANY_OF_10)), configured(tmp_path, tunnel("c", interface="ipsec1", keys=C))
    one.inside.append("10.1.0.0/16")

    async def reload() -> None:
        await one.narrow()
        await one.widen(new)
        one.inside.append("10.2.0.0/16")
        await one.renew()  # the host is another one meanwhile
        await one.settle()

    asyncio.run(reload())
    assert [call[0] for call in Table.made.calls] == ["apply", "widen", "settle"], "nothing narrows it in between"
    assert Table.made.calls[1] == ("widen", [REMOTE_C], {"ipsec1"})


def test_after_a_reload_that_was_taken_back_the_former_one_is_closed_alone(made, tmp_path):
    one, new = made(), configured(tmp_path, tunnel("c", interface="ipsec1", keys=C))

    async def reload() -> None:
        await one.widen(new)
        await one.narrow()

    asyncio.run(reload())
    assert Table.made.calls[-1] == ("apply", [REMOTE_B], {"ipsec0"})


def test_what_is_on_this_side_is_not_for_the_tunnel_where_local_lies_in_remote(made):
    one = made(tunnel(keys=HUB))
    one.inside.append("10.200.0.0/16")
    asyncio.run(one.narrow())
    (_, remotes, _), *_ = Table.made.calls
    assert not [each for each in remotes if AddressRange.of("10.1.0.0/16").overlaps(AddressRange.of(each))]


def test_a_changed_host_is_written_only_where_it_makes_a_difference(made):
    one = made(tunnel(keys=ANY_OF_10))

    async def life() -> None:
        one.inside.append("10.1.0.0/16")
        await one.narrow()
        await one.renew()
        assert len(Table.made.calls) == 1
        one.inside.append("10.2.0.0/16")
        await one.renew()
        assert len(Table.made.calls) == 2

    asyncio.run(life())


def test_zones_go_before_the_guard(made):
    asyncio.run(made().remove())
    assert [call[0] for call in Table.made.calls] == ["remove zones", "remove"]


def test_zones_are_those_of_the_configuration_that_is_given(made, tmp_path):
    one, zoned = made(), configured(tmp_path, tunnel(keys=B), ZONES, RULE)
    asyncio.run(one.apply_zones(zoned))
    assert Zones.made.applied == [(["vpn", "lan"], 1, {"ipsec0"})]


def test_status_counts_what_was_dropped_and_what_each_rule_held(made, tmp_path):
    one = made(tunnel(keys=B), ZONES, RULE)
    (rule,) = configured(tmp_path, tunnel(keys=B), ZONES, RULE).zone_rules
    Zones.made.held = {
        zones.DENIED: nft.Count(5, 300),
        zones.counter_name(1, zone_rule(rule)): nft.Count(7, 400),
    }
    assert asyncio.run(one.counts()) == {"cleartext_out4": 3}
    assert asyncio.run(one.zone_counts()) == {
        "denied": 5,
        "rules": [{"from": "lan", "to": "vpn", "action": "allow", "packets": 7, "octets": 400}],
    }
    assert asyncio.run(made().zone_counts()) is None
