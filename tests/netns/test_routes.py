"""Routes into the tunnel beside the host's own: which one a packet takes, what stays when the tunnel goes, what is taken away.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

gwA also has the TUN interface ipsec0; where a packet would go is what `ip route get` says.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.host import MARK, PROTOCOL, HostError
from ipsec_dp.host.bulk import Bulk
from ipsec_dp.host.routes import GUARD_METRIC, Route, table_base
from ipsec_dp.rig import netns
from tests.netns import harness
from tests.netns.routed_gateway import RoutedGateway
from tests.netns.traffic import until

N = ip_network
SITE_B = [N(net) for net in netns.SITE_B_NETS]
EVERYTHING = [N("0.0.0.0/0"), N("::/0")]
OUTER_B = netns.GW_B_OUTER


@pytest.fixture
def gateway(sites):
    made = RoutedGateway(sites.gw_a)
    yield made
    made.tun.close()


@pytest.fixture
def untouched(sites, gateway):
    """What gwA's network looked like before, to be found again at the end."""
    before = sites.gw_a.call(harness.picture)
    yield
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []


def test_routes_lead_into_the_tunnel_and_are_taken_away(gateway, untouched):
    assert gateway.ways(netns.HOST_B) == ["wan", "wan"]
    assert gateway.apply(SITE_B, SITE_B) == []
    assert gateway.ways(netns.HOST_B) == ["ipsec0", "ipsec0"]
    assert gateway.ways(OUTER_B + netns.HOST_A) == ["wan", "wan", "lan", "lan"]
    assert gateway.with_table(lambda table: table.routed()) == SITE_B
    gateway.remove()
    assert gateway.ways(netns.HOST_B) == ["wan", "wan"]


def test_everything_carries_our_protocol_number(gateway):
    gateway.apply(SITE_B, SITE_B)
    listed = gateway.namespace.run("ip", "route", "show", "table", "all", "proto", str(PROTOCOL)).stdout.splitlines()
    base = table_base("test")
    assert [line.split(" table ")[0].strip() for line in listed if f"table {base + 24}" in line] == [
        "10.2.0.0/24 dev ipsec0",
        "unreachable 10.2.0.0/24",
    ]
    rules = [line for line in gateway.namespace.run("ip", "rule").stdout.splitlines() if f"proto {PROTOCOL}" in line]
    assert rules == [
        f"20208:\tfrom all lookup main suppress_prefixlength 24 proto {PROTOCOL}",
        f"20209:\tnot from all fwmark {MARK:#x} lookup {base + 24} proto {PROTOCOL}",
    ]


def test_the_peer_stays_outside_a_tunnel_for_everything(gateway, untouched):
    """Split or full: what carries the mark never enters, what does not carry it does."""
    gateway.apply(EVERYTHING, EVERYTHING)
    beyond = ["198.51.100.7", "2001:db8:ffff::7"]
    assert gateway.ways(beyond) == ["ipsec0", "ipsec0"]
    assert gateway.ways(beyond, mark=MARK) == ["wan", "wan"]
    assert gateway.ways(netns.HOST_A) == ["lan", "lan"], "an attached network is longer than a default route"
    gateway.remove()


def test_the_peer_stays_outside_a_tunnel_for_its_own_address(gateway, untouched):
    """Host to host: the protected address is the outer address."""
    prefixes = [N(address) for address in OUTER_B]
    gateway.apply(prefixes, prefixes)
    assert gateway.ways(OUTER_B) == ["ipsec0", "ipsec0"]
    assert gateway.ways(OUTER_B, mark=MARK) == ["wan", "wan"]
    gateway.remove()


def test_longest_prefix_decides_between_the_host_and_us(gateway, untouched):
    """The hub of 10.0.0.0/8 keeps its own 10.1.0.0/24, and a tunnel inside a network that the host routes elsewhere wins."""
    gateway.namespace.ip("route add 10.64.0.0/10 dev lan", "route add 10.0.0.0/9 dev wan")
    gateway.apply([N("10.0.0.0/8"), N("10.2.0.0/16"), N("10.70.1.1/32")], [N("10.0.0.0/8"), N("10.2.0.0/16"), N("10.70.1.1/32")])
    expected = {
        "10.1.0.2": "lan",  # host /24
        "10.2.0.2": "ipsec0",  # ours /16, in the host's /9
        "10.3.0.1": "wan",  # host /9
        "10.70.1.1": "ipsec0",  # ours /32, in the host's /10
        "10.70.1.2": "lan",  # host /10
        "10.200.0.1": "ipsec0",  # ours /8
        "11.0.0.1": "wan",  # host /0
    }
    assert {address: gateway.way(address) for address in expected} == expected
    gateway.remove()
    gateway.namespace.ip("route del 10.64.0.0/10 dev lan", "route del 10.0.0.0/9 dev wan")


def test_without_the_tunnel_protected_prefixes_are_unreachable(gateway):
    gateway.apply(SITE_B + EVERYTHING, SITE_B)
    gateway.tun.close()
    assert gateway.ways(netns.HOST_B) == [None, None]
    assert gateway.ways(["198.51.100.7", "2001:db8:ffff::7"]) == [None, None]
    assert gateway.ways(OUTER_B, mark=MARK) == ["wan", "wan"]
    gateway.remove()


def test_guard_without_routes_holds_before_the_start_and_after_a_stop_that_keeps_it(gateway, untouched):
    gateway.apply(SITE_B, [])
    assert gateway.ways(netns.HOST_B) == [None, None]
    assert gateway.with_table(lambda table: table.unreachable()) == SITE_B
    gateway.remove()


def test_without_a_carrier_the_next_best_route_is_taken_and_then_the_guard(gateway):
    """Fail-over between interfaces is the kernel's: no route has to be changed for it."""
    second = harness.tun(gateway.namespace, "ipsec1")
    ways = [Route(prefix, tun.index, metric) for prefix in SITE_B for tun, metric in ((gateway.tun, 50), (second, 60))]
    gateway.with_table(lambda table: table.apply(SITE_B, ways))
    assert gateway.ways(netns.HOST_B) == ["ipsec0", "ipsec0"]
    gateway.tun.set_carrier(False)
    until(lambda: gateway.ways(netns.HOST_B) == ["ipsec1", "ipsec1"], "the second interface")
    second.set_carrier(False)
    until(lambda: gateway.ways(netns.HOST_B) == [None, None], "unreachable")
    gateway.tun.set_carrier(True)
    until(lambda: gateway.ways(netns.HOST_B) == ["ipsec0", "ipsec0"], "the first interface again")
    second.close()
    gateway.remove()


# ---- routes of others ---------------------------------------------------------------------------------------------------------


def test_attached_network_is_not_overridden_but_reported(gateway, untouched):
    conflicts = gateway.apply([N("10.1.0.0/24"), N("fd00:1::/64")], [N("10.1.0.0/24"), N("fd00:1::/64")])
    assert [str(conflict) for conflict in conflicts] == [
        "10.1.0.0/24 is routed through lan with metric 0 already, and is not routed into the tunnel",
        "fd00:1::/64 is routed through lan with metric 0 already, and is not routed into the tunnel",
    ]
    assert gateway.ways(netns.HOST_A) == ["lan", "lan"]
    gateway.remove()


@pytest.mark.parametrize(("ours", "way"), [(99, "ipsec0"), (100, "wan"), (101, "wan")])
def test_lower_metric_wins_and_nothing_of_theirs_is_touched(gateway, untouched, ours, way):
    theirs = "route {} 10.9.0.0/16 dev wan metric 100", "route {} fd00:9::/48 dev wan metric 100"
    gateway.namespace.ip(*(each.format("add") for each in theirs))
    prefixes = [N("10.9.0.0/16"), N("fd00:9::/48")]
    conflicts = gateway.apply(prefixes, prefixes, metric=ours)
    assert gateway.ways(["10.9.0.1", "fd00:9::1"]) == [way, way]
    assert [conflict.prefix for conflict in conflicts] == (prefixes if way == "wan" else [])
    gateway.remove()
    gateway.namespace.ip(*(each.format("del") for each in theirs))


def test_covering_blackhole_is_reported(gateway, untouched):
    gateway.namespace.ip("route add blackhole 10.0.0.0/8")
    (conflict,) = gateway.apply([N("10.2.0.0/24")], [N("10.2.0.0/24")])
    assert str(conflict) == "10.2.0.0/24: a blackhole, unreachable or prohibit route of the host covers it and wins"
    assert gateway.way("10.2.0.2") is None
    gateway.remove()
    gateway.namespace.ip("route del blackhole 10.0.0.0/8")


def test_two_gateways_on_one_host_do_not_disturb_each_other(gateway, untouched):
    gateway.apply(SITE_B, SITE_B, name="one")
    gateway.apply([N("10.3.0.0/24")], [N("10.3.0.0/24")], name="two")
    gateway.remove("one")
    assert gateway.way("10.3.0.1") == "ipsec0"
    assert gateway.way("10.1.0.2") == "lan", "the first rule of length 24 is still there for the second gateway"
    assert gateway.ways(netns.HOST_B) == ["wan", "wan"]
    gateway.apply([N("10.3.0.0/16")], [N("10.3.0.0/16")], name="two")
    assert "suppress_prefixlength 24" not in gateway.namespace.run("ip", "rule").stdout
    gateway.remove("two")


# ---- changes, leftovers -------------------------------------------------------------------------------------------------------


def test_what_is_no_longer_wanted_goes_and_what_stays_is_not_touched(gateway, untouched):
    gateway.apply(SITE_B, SITE_B, mtu=1300)
    monitor = gateway.namespace.spawn("ip", "monitor", "route", "rule", stdout=subprocess.PIPE)
    gateway.apply([*SITE_B, N("10.4.0.0/24")], [*SITE_B, N("10.4.0.0/24")], mtu=1300)
    gateway.apply(SITE_B[:1], SITE_B[:1], mtu=1300)
    monitor.terminate()
    text = monitor.communicate()[0].decode()
    assert "10.2.0.0/24" not in text
    assert gateway.ways([*netns.HOST_B, "10.4.0.1"]) == ["ipsec0", "wan", "wan"]
    gateway.remove()


def test_source_address_and_mtu_of_a_route(gateway):
    gateway.apply([], [N("10.2.0.0/24")], source=ip_address("10.1.0.1"), mtu=1300)
    (route,) = json.loads(gateway.namespace.run("ip", "-j", "route", "get", "10.2.0.2").stdout)
    assert (route["prefsrc"], route["dev"]) == ("10.1.0.1", "ipsec0")
    assert "mtu 1300" in gateway.namespace.run("ip", "route", "get", "10.2.0.2").stdout
    gateway.remove()


KILLED = f"""
import asyncio, os, signal
from ipaddress import ip_network
from ipsec_dp.host import tun
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.routes import Route, RouteTable

async def main():
    made = tun.make("ipsec0")
    prefixes = [ip_network(net) for net in {(*netns.SITE_B_NETS, "10.77.0.0/20")}]
    async with open_netlink() as ipr:
        await tun.configure(ipr, made, [], 1400)
    await RouteTable("test").apply(prefixes, [Route(prefix, made.index) for prefix in prefixes])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_leftovers_of_a_killed_process_hold_and_are_adopted(sites, tmp_path):
    before = sites.gw_a.call(harness.picture)
    assert subprocess.run(sites.gw_a.argv(sys.executable, "-c", KILLED), timeout=30, check=False).returncode == -9
    gateway = RoutedGateway(sites.gw_a)
    assert gateway.ways([*netns.HOST_B, "10.77.0.1"]) == [None, None, None]
    flood = sites.host_a.spawn("ping", "-i", "0.002", "-q", netns.HOST_B[0])
    found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", lambda: gateway.apply(SITE_B, SITE_B))
    assert flood.poll() is None
    assert "icmp" not in found.packets, "adoption opened a window"
    assert gateway.ways([*netns.HOST_B, "10.77.0.1"]) == ["ipsec0", "ipsec0", "wan"]
    gateway.remove()
    gateway.tun.close()
    assert harness.difference(before, sites.gw_a.call(harness.picture)) == []


def test_routes_that_came_alone_leave_what_the_whole_does(gateway):
    def led(*nets):
        return [Route(N(net), gateway.tun.index, mtu=1300) for net in nets]

    first, more = led("10.77.0.0/20", "10.78.0.0/28"), led("10.79.0.0/26")

    async def grow(table):
        assert not await table.adapt(more, []), "nothing was left yet"
        await table.apply([each.prefix for each in first], first)
        assert await table.adapt(more, [])
        assert not await table.adapt(more, []), "it is there"

    gateway.with_table(grow)
    grown = gateway.namespace.call(harness.picture)
    assert gateway.ways(["10.77.0.1", "10.78.0.1", "10.79.0.1"]) == ["ipsec0"] * 3
    gateway.remove()
    gateway.with_table(lambda table: table.apply([each.prefix for each in [*first, *more]], [*first, *more]))
    assert harness.difference(grown, gateway.namespace.call(harness.picture)) == []
    gateway.remove()


def test_routes_that_went_alone_leave_what_the_whole_does(gateway):
    def led(*nets):
        return [Route(N(net), gateway.tun.index, mtu=1300) for net in nets]

    first, gone, new = led("10.77.0.0/20", "10.78.0.0/28"), led("10.78.0.16/28"), led("10.78.0.32/28")

    async def change(table):
        await table.apply([each.prefix for each in [*first, *gone]], [*first, *gone])
        assert not await table.adapt([], first[:1]), "the rules of that prefix length would have to go too"
        await table.apply([each.prefix for each in [*first, *gone]], [*first, *gone])
        assert await table.adapt(new, gone)
        assert await table.held.missing_routes() == []
        assert await table.as_left()

    gateway.with_table(change)
    changed = gateway.namespace.call(harness.picture)
    assert gateway.ways(["10.77.0.1", "10.78.0.1", "10.78.0.17", "10.78.0.33"]) == ["ipsec0", "ipsec0", "wan", "ipsec0"]
    gateway.remove()
    gateway.with_table(lambda table: table.apply([each.prefix for each in [*first, *new]], [*first, *new]))
    assert harness.difference(changed, gateway.namespace.call(harness.picture)) == []
    gateway.remove()


def test_a_route_that_came_gives_way_to_the_hosts(gateway):
    first, more = Route(N("10.77.0.0/20"), gateway.tun.index), Route(N("10.79.0.0/26"), gateway.tun.index)

    async def grow(table):
        await table.apply([first.prefix], [first])
        assert not await table.adapt([more], [])
        return await table.change([first.prefix, more.prefix], [first, more])

    gateway.namespace.ip("route add 10.79.0.0/26 dev wan")
    assert [str(each.prefix) for each in gateway.with_table(grow)] == ["10.79.0.0/26"]
    assert gateway.ways(["10.77.0.1", "10.79.0.1"]) == ["ipsec0", "wan"]
    gateway.namespace.ip("route del 10.79.0.0/26 dev wan")
    gateway.remove()


def test_metric_out_of_range_or_given_twice(gateway):
    with pytest.raises(ValueError, match="metric 4000000000"):
        gateway.apply([], SITE_B, metric=GUARD_METRIC)
    with pytest.raises(ValueError, match=r"10\.2\.0\.0/24: metric 50 is given twice"):
        gateway.apply([], [SITE_B[0], SITE_B[0]])


def test_refusal_names_the_route(gateway):
    with pytest.raises(HostError, match=r"route 10\.2\.0\.0/24: "):
        gateway.with_table(lambda table: table.apply([], [Route(SITE_B[0], 9999)]))
    gateway.remove()


def test_of_very_many_routes_one_is_refused_and_named_and_the_others_are_there(gateway, untouched):
    many = [N(f"10.{high}.{low}.0/24") for high in (100, 101) for low in range(256)]
    routes = [Route(prefix, 9999 if prefix == many[300] else gateway.tun.index) for prefix in many]
    with pytest.raises(HostError, match=r"route 10\.101\.44\.0/24: No such device"):
        gateway.with_table(lambda table: table.apply(many, routes))
    assert gateway.with_table(lambda table: table.unreachable()) == many
    gateway.apply(many, many)
    assert gateway.with_table(lambda table: table.routed()) == many
    gateway.remove()


def test_whether_the_kernel_has_what_the_last_call_left(gateway):
    """What was taken away or added meanwhile is seen."""

    async def work(table):
        seen = [await table.as_left()]
        await table.apply(SITE_B, [])
        seen.append(await table.as_left())
        with Bulk() as bulk:
            await bulk.remove((await bulk.routes(4, protocol=PROTOCOL))[:1])
        seen.append(await table.as_left())
        await table.apply(SITE_B, [])
        seen.append(await table.as_left())
        return seen

    assert gateway.with_table(work) == [False, True, False, True]
    gateway.remove()


@pytest.mark.alone("measures processor time")
def test_ten_thousand_routes_cost_milliseconds_each_hundred(gateway, untouched):
    """Of the processor's time, which a busy machine does not stretch much: making, finding again and removing 10,000 routes."""
    many = [N(f"10.{100 + number // 256}.{number % 256}.0/24") for number in range(10_000)]
    routes = [Route(prefix, gateway.tun.index) for prefix in many]

    async def work(table):
        spent = []
        for protected, led in ((many, ()), (many, routes), (many, routes), ((), ())):
            began = time.process_time()
            await table.apply(protected, led)
            spent.append(time.process_time() - began)
        return spent

    assert max(gateway.with_table(work)) < 3.0, "linear: 0.8 s on one core of a machine with time for it"
