"""When the kernel's guard and zones are written: as the configuration, the host and a reload have them, and not more often."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.host import guard_table, nft, zones
from ipsec_dp.host.guard import Device
from ipsec_dp.host.outer import InsideNetwork
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network import guard as network_guard
from ipsec_dp.network.desired import zone_rule
from ipsec_dp.network.guard import LinuxGuard
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import PSK, configured, proxy_id, tunnel

ZONES = '[[zone]]\nname = "vpn"\ninterfaces = ["ipsec0"]\n[[zone]]\nname = "lan"\ninterfaces = ["eth1"]\n'
RULE = '[[zone_rule]]\nfrom = "lan"\nto = "vpn"\n'
HUB = proxy_id("10.1.0.0/16", "10.0.0.0/8") + PSK  # what is local lies in what is remote
ANY_OF_10 = proxy_id("10.0.0.0/8", "10.0.0.0/8") + PSK


DEVICES = {"ipsec0": 7, "ipsec1": 8}  # our interfaces that there are
IPSEC0, IPSEC1 = (7, "ipsec0"), (8, "ipsec1")


class Table:
    """The kernel's guard: what it was last made to keep closed, by remote addresses."""

    table = "ipsec_dp_gw"
    made: Table

    def __init__(self, *_: Any) -> None:
        self.calls: list[tuple[str, list[str], set[Device]]] = []
        Table.made = self

    def note(self, what: str, selectors: Any, tunnels: Any) -> None:
        self.calls.append((what, [str(each.remote) for each in selectors], set(tunnels)))

    async def apply(self, selectors: Any, tunnels: Any) -> None:
        self.note("apply", selectors, tunnels)

    async def widen(self, selectors: Any, tunnels: Any) -> None:
        self.note("widen", selectors, tunnels)

    async def settle(self, tunnels: Any) -> None:
        self.note("settle", (), tunnels)

    async def exempt(self, tunnels: Any) -> None:
        self.note("exempt", (), tunnels)

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

    async def networks(_ipr: Any, outer: set[int]) -> list[Any]:
        assert outer == {2, *DEVICES.values()}, "what leads into our own interfaces is not on this side"
        return [InsideNetwork(AddressRange.of(each.rstrip("?")).prefixes[0], 3, not each.endswith("?")) for each in inside]

    async def outer_interfaces(config: Any) -> set[int]:
        del config
        return {2}

    peers: Any = SimpleNamespace(outer_interfaces=outer_interfaces)
    monkeypatch.setattr(guard_table, "Guard", Table)
    monkeypatch.setattr(zones, "Zones", Zones)
    monkeypatch.setattr(network_guard, "inside_networks", networks)

    def made(*tables: str) -> Any:
        config, conditions = configured(tmp_path, *(tables or (tunnel(keys=B),))), Conditions(FakeClock())
        one: Any = LinuxGuard(config, lambda: peers, lambda: cast("Any", None), lambda: DEVICES, conditions)
        one.inside, one.conditions = inside, conditions
        return one

    return made


B, C = (proxy_id("10.1.0.0/24", f"10.{number}.0.0/24") + PSK for number in (2, 3))
REMOTE_B, REMOTE_C = ("10.2.0.0-10.2.0.255", "10.3.0.0-10.3.0.255")


def test_narrow_keeps_closed_what_the_configuration_protects(made):
    asyncio.run(made().narrow())
    assert Table.made.calls == [("apply", [REMOTE_B], {IPSEC0})]


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
    assert Table.made.calls[1] == ("widen", [REMOTE_C], {IPSEC0, IPSEC1})
    assert Table.made.calls[2] == ("settle", [], {IPSEC1})


def test_after_a_reload_that_was_taken_back_the_former_one_is_closed_alone(made, tmp_path):
    one, new = made(), configured(tmp_path, tunnel("c", interface="ipsec1", keys=C))

    async def reload() -> None:
        await one.widen(new)
        await one.narrow()

    asyncio.run(reload())
    assert Table.made.calls[-1] == ("apply", [REMOTE_B], {IPSEC0})


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


# ---- which of our interfaces are exempt


def test_an_interface_is_exempt_only_while_the_device_is_ours(made, monkeypatch):
    """Of the names that a configuration has, those that we made: by number and name."""
    one = made()

    async def life() -> None:
        monkeypatch.delitem(DEVICES, "ipsec0")
        await one.narrow()
        assert Table.made.calls[-1] == ("apply", [REMOTE_B], set())
        monkeypatch.setitem(DEVICES, "ipsec0", 9)
        await one.exempt()
        assert Table.made.calls[-1] == ("exempt", [], {(9, "ipsec0"), IPSEC1})

    asyncio.run(life())


# ---- routes of others that narrow it

EVERYTHING = proxy_id("0.0.0.0/0", "0.0.0.0/0") + PSK
ROUTED = 'routes = ["0.0.0.0/0"]'
STRICT = "strict = true\n"  # of [gateway], with which the file begins


def protected(address: str) -> bool:
    """Whether the guard, as it was last made, holds packets to an address back."""
    return any(AddressRange.of(address).overlaps(AddressRange.of(each)) for each in Table.made.calls[-1][1])


def test_a_route_of_somebody_elses_narrows_it_and_is_told_while_it_lasts(made, caplog):
    one = made(tunnel("b", ROUTED, keys=EVERYTHING))
    one.inside += ["10.1.0.0/16", "8.0.0.0/8?"]

    async def life() -> None:
        await one.narrow()
        assert (protected("8.8.8.8"), protected("10.1.0.1"), protected("9.9.9.9")) == (False, False, True)
        (text,) = one.conditions.texts
        assert text.startswith("8.0.0.0/8 is reached through interface 3 by a route of somebody else's")
        assert "strict = true in [gateway] closes it" in text
        assert caplog.text.count(text) == 1
        one.inside.remove("8.0.0.0/8?")
        await one.renew()
        assert protected("8.8.8.8")
        assert one.conditions.texts == []

    asyncio.run(life())


def test_strict_takes_only_networks_of_fixed_addresses_for_this_side(made):
    one = made(STRICT, tunnel("b", ROUTED, keys=EVERYTHING))
    one.inside += ["10.1.0.0/16", "8.0.0.0/8?"]
    asyncio.run(one.narrow())
    assert (protected("8.8.8.8"), protected("10.1.0.1")) == (True, False)
    (text,) = one.conditions.texts
    assert "it stays protected (strict)" in text


def test_a_network_that_a_bypass_names_is_no_surprise(made):
    bypass = '[[policy]]\naction = "bypass"\nlocal = "0.0.0.0/0"\nremote = "8.0.0.0/8"\n'
    one = made(tunnel("b", ROUTED, keys=EVERYTHING), bypass)
    one.inside.append("8.0.0.0/8?")
    asyncio.run(one.narrow())
    assert one.conditions.texts == []


def test_where_selectors_leave_this_side_out_themselves_routes_narrow_nothing(made):
    one = made(tunnel("b", ROUTED, keys=proxy_id("10.1.0.0/24", "0.0.0.0/0") + PSK))
    one.inside.append("8.0.0.0/8?")
    asyncio.run(one.narrow())
    assert protected("8.8.8.8")
    assert one.conditions.texts == []
