"""Which routes lead into the interfaces: from which source, with which metric and MTU, and past interfaces that are withdrawn."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.host.outer import OwnAddress
from ipsec_dp.host.routes import METRIC
from ipsec_dp.network.route_plan import RouteContext, RoutePlan
from ipsec_dp.network.source_address import Sources
from tests.doubles.config import PSK, configured, proxy_id, tunnel

B = ip_network("10.2.0.0/24")
KEYS = proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK
SPARE = '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "spare"\nmetric = 200\n'
TO_EVERYTHING = proxy_id("10.1.0.0/24", "0.0.0.0/0") + PSK
OWN = [OwnAddress(ip_address("192.0.2.1"), "wan"), OwnAddress(ip_address("10.1.0.1"), "lan")]


@pytest.fixture
def config(tmp_path):
    spare = tunnel("spare", "routes = []", interface="ipsec1", keys=TO_EVERYTHING)
    return configured(tmp_path, tunnel("b", keys=KEYS), spare, SPARE)


def context(config, *, own=OWN, withdrawn=(), without_ipv6=()):
    return RouteContext({"ipsec0": 5, "ipsec1": 6}, own, frozenset(withdrawn), config.routes, frozenset(without_ipv6))


def plan(config, *, b=1400, spare=1400, **how):
    return RoutePlan(config, context(config, **how), {"b": b, "spare": spare})


def led(made):
    return sorted((str(each.prefix), each.interface, each.metric, each.mtu) for each in made.wanted)


def test_a_prefix_leads_into_every_interface_that_has_it_by_its_metric(config):
    assert led(plan(config)) == [("10.2.0.0/24", 5, METRIC, None), ("10.2.0.0/24", 6, 200, None)]


def test_our_own_packets_take_a_source_inside_the_selectors(config):
    assert {str(each.source) for each in plan(config).wanted} == {"10.1.0.1"}
    assert plan(config).notes == []


def test_a_lack_of_one_is_a_note_and_no_obstacle(config):
    made = plan(config, own=OWN[:1])
    assert {each.source for each in made.wanted} == {None}
    assert any(note.startswith("ipsec0: this host has no address in 10.1.0.0/24") for note in made.notes)


def test_one_network_behind_thousands_of_tunnels_is_looked_at_once(tmp_path, monkeypatch):
    keys = [proxy_id(f"10.{100 + number // 256}.{number % 256}.0/24", "10.2.0.0/24") + PSK for number in range(2_000)]
    config = configured(tmp_path, *(tunnel(f"t{number}", keys=each) for number, each in enumerate(keys)))
    asked, to = [], Sources.to

    def noting(sources, prefix):
        asked.append(prefix)
        return to(sources, prefix)

    monkeypatch.setattr(Sources, "to", noting)
    made = RoutePlan(config, context(config), {each.name: 1400 for each in config.tunnels})
    assert led(made) == [("10.2.0.0/24", 5, METRIC, None)]
    assert asked == [B]
    assert made.prefixes == {B: 2_000}
    (note,) = made.notes
    assert "this host has no address in 10.100.0.0/24, 10.100.1.0/24, 10.100.2.0/24 and 1997 more, so its own packets" in note


@pytest.mark.parametrize(
    ("withdrawn", "interfaces"), [((), {5, 6}), (("ipsec0",), {6}), (("ipsec1",), {5}), (("ipsec0", "ipsec1"), {5, 6})]
)
def test_a_withdrawn_interface_gets_no_route_where_another_has_the_prefix(config, withdrawn, interfaces):
    made = plan(config, withdrawn=withdrawn)
    assert {each.interface for each in made.wanted} == interfaces
    assert list(made.prefixes) == [B], "it is unreachable at the least"


def test_a_tunnel_narrower_than_its_interface_has_an_mtu_on_its_routes(tmp_path):
    wide = proxy_id("10.1.0.0/24", "10.3.0.0/24") + PSK
    config = configured(tmp_path, tunnel("b", keys=KEYS), tunnel("wide", remote="192.0.2.3", keys=wide))
    made = RoutePlan(config, context(config), {"b": 1300, "wide": 1400})
    assert led(made) == [("10.2.0.0/24", 5, METRIC, 1300), ("10.3.0.0/24", 5, METRIC, None)]


def test_one_prefix_in_two_interfaces_by_one_metric_is_refused(tmp_path):
    config = configured(
        tmp_path, tunnel("b", keys=KEYS), tunnel("spare", "routes = []", interface="ipsec1", keys=TO_EVERYTHING), SPARE
    )
    config = replace(config, routes=(replace(config.routes[0], metric=METRIC),))
    with pytest.raises(HostError, match=r"10\.2\.0\.0/24 is routed into two interfaces with metric 50; give one"):
        plan(config)


def test_it_serves_for_the_same_tunnels_and_mtus_only(config):
    made = plan(config)
    assert made.suits(config, {"b": 1400, "spare": 1400})
    assert not made.suits(config, {"b": 1300, "spare": 1400})
    assert not made.suits(replace(config, tunnels=config.tunnels[:1]), {"b": 1400})


def test_where_ipv6_is_disabled_its_prefixes_are_protected_and_ipv4_is_routed(tmp_path):
    keys = "".join(proxy_id(f"fd00:1::{n}", f"fd00:2::{n}") for n in range(5)) + KEYS
    two = configured(tmp_path, tunnel("b", keys=keys), tunnel("spare", "routes = []", interface="ipsec1", keys=TO_EVERYTHING))
    made = plan(two, without_ipv6=["ipsec0"])
    assert led(made) == [("10.2.0.0/24", 5, METRIC, None)]
    assert ip_network("fd00:2::3/128") in made.prefixes
    (note,) = [note for note in made.notes if "IPv6" in note]
    assert note.startswith(
        "IPv6 is disabled on ipsec0 by this host's settings: fd00:2::/128, fd00:2::1/128, fd00:2::2/128 and 2 more stay"
    )
    assert len(led(plan(two))) == 6
