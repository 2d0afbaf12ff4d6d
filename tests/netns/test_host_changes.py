"""The host's addresses, routes and interfaces change under a gateway that runs, or come after it.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import json
import re

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns import harness
from tests.netns.traffic import ping, udp_both_ways, until

NET_B = netns.SITE_B_NETS[0]


def way(namespace, address):
    """Interface and source of what the gateway itself sends to an address; None where nothing leads there."""
    done = namespace.run("ip", "-j", "route", "get", address, check=False)
    if done.returncode != 0:
        return None
    (row,) = json.loads(done.stdout)
    return row["dev"], row.get("prefsrc")


def rewrite(gateway, *changes):
    """Changes lines of a configuration: pairs of a pattern and what comes in its place."""
    text = gateway.config.read_text()
    for pattern, new in changes:
        text, count = re.subn(pattern, new, text)
        assert count, pattern
    gateway.config.write_text(text)


@pytest.fixture
def pair(sites, tmp_path):
    """Manual keys, both up: what follows here has nothing to do with IKE."""
    with GatewayPair(sites, tmp_path, ManualPair()) as up:
        yield up


INTO_THE_TUNNEL = [("ipsec0", address) for address in netns.GW_A_INNER]


def ways_to_b(sites):
    return [way(sites.gw_a, address) for address in netns.HOST_B]


# ---- what the gateway itself sends ------------------------------------------------------------------------------------------


def test_the_gateways_own_packets_have_a_source_inside_the_selectors(sites, pair):
    assert ways_to_b(sites) == INTO_THE_TUNNEL
    for address in netns.HOST_B:
        ping(sites.gw_a, address)


def test_each_proxy_id_of_a_shared_interface_has_its_own_source(sites, tmp_path):
    """Two locals on one interface; for a third one this host has no address, and says so."""
    sites.gw_a.ip("address add 10.4.0.1/24 dev lan", "address add fd00:4::1/64 dev lan nodad")
    further = (("10.4.0.0/24", "10.3.0.0/24"), ("fd00:4::/64", "fd00:3::/64"), ("10.6.0.0/24", "10.5.0.0/24"))
    pair = GatewayPair(sites, tmp_path, ManualPair(proxy_ids=(*ManualPair().proxy_ids, *further)))
    pair.a.start()
    status = pair.a.wait_up()
    assert ways_to_b(sites) == INTO_THE_TUNNEL
    assert [way(sites.gw_a, to) for to in ("10.3.0.2", "fd00:3::2")] == [("ipsec0", "10.4.0.1"), ("ipsec0", "fd00:4::1")]
    (told,) = [warning for warning in status["warnings"] if "no address" in warning]
    assert told == (
        "ipsec0: this host has no address in 10.6.0.0/24, so its own packets to 10.5.0.0/24 match no proxy ID; "
        "where they should, add one to the tunnel's address"
    )
    sites.gw_a.ip("address add 10.6.0.1/24 dev lan")
    until(lambda: way(sites.gw_a, "10.5.0.2") == ("ipsec0", "10.6.0.1"), "the address that came")
    until(lambda: not [told for told in pair.a.status()["warnings"] if "no address" in told], "the warning gone, after the route")
    assert pair.a.terminate() == 0


# ---- routes and interfaces --------------------------------------------------------------------------------------------------


def test_a_route_that_the_kernel_took_with_its_source_address_comes_back(sites, pair):
    sites.gw_a.ip("address delete 10.1.0.1/24 dev lan")
    until(lambda: way(sites.gw_a, netns.HOST_B[0]) == ("ipsec0", "192.0.2.1"), "the route without that source")
    sites.gw_a.ip("address add 10.1.0.1/24 dev lan")
    until(lambda: ways_to_b(sites) == INTO_THE_TUNNEL, "the route as it was")
    udp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


def test_a_tunnel_interface_that_flaps_has_its_routes_again(sites, pair):
    sites.gw_a.ip("link set ipsec0 down", "link set ipsec0 up", "link set ipsec0 down", "link set ipsec0 up")
    until(lambda: ways_to_b(sites) == INTO_THE_TUNNEL, "routes into the interface")
    udp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])


def test_a_conflict_that_comes_is_told_and_kept_and_one_that_goes_is_over(sites, pair):
    theirs = f"{NET_B} dev wan metric 10"
    sites.gw_a.ip(f"route add {theirs}")
    (told,) = until(lambda: [text for text in pair.a.status()["warnings"] if text.startswith("route ")], "the conflict in status")
    assert told == f"route {NET_B} is routed through wan with metric 10 already, and is not routed into the tunnel"
    until(lambda: f"WARNING {told}" in pair.a.text(), "it is in the log")
    assert way(sites.gw_a, netns.HOST_B[0])[0] == "wan", "theirs is not overwritten"
    assert not harness.pings(sites.host_a, netns.HOST_B[0]), "and the guard drops what takes it"
    sites.gw_a.ip(f"route delete {theirs}")
    until(lambda: ways_to_b(sites) == INTO_THE_TUNNEL, "our route")
    until(lambda: not [text for text in pair.a.status()["warnings"] if text.startswith("route ")], "the warning gone, after it")


def test_routes_none_leaves_routing_to_the_operator_and_guards_all_the_same(sites, tmp_path):
    pair = GatewayPair(sites, tmp_path, ManualPair(tunnel='routes = "none"'))
    with pair:
        for namespace in (sites.gw_a, sites.gw_b):
            assert "proto 229" not in namespace.run("ip", "route", "show", "table", "all").stdout
            assert "proto 229" not in namespace.run("ip", "rule").stdout
        assert not harness.pings(sites.host_a, netns.HOST_B[0]), "the default route leads past the tunnel, the guard does not"
        sites.gw_a.ip(f"route add {NET_B} dev ipsec0 src 10.1.0.1")
        sites.gw_b.ip(f"route add {netns.SITE_A_NETS[0]} dev ipsec0")
        udp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])
        ping(sites.gw_a, netns.HOST_B[0])
        assert pair.a.status()["guard"]["cleartext_out4"] > 0


# ---- the way to the peer ----------------------------------------------------------------------------------------------------


def negotiated(gateway):
    return until(lambda: gateway.status()["tunnels"][0]["state"] == "up", "the tunnel", 20)


def without_outer(sites):
    (address, address6) = netns.GW_A_OUTER
    sites.gw_a.ip(f"address delete {address}/24 dev wan", f"address delete {address6}/64 dev wan")
    return f"address add {address}/24 dev wan"


@pytest.mark.parametrize("local", ["configured", "of the route"])
def test_a_gateway_that_starts_before_the_network_is_called_and_calls_when_it_comes(sites, tmp_path, local):
    pair = GatewayPair(sites, tmp_path, IkePair())
    if local == "of the route":
        rewrite(pair.a, (r"local = .192.*\n", ""))
    bring = without_outer(sites)
    pair.b.start()
    pair.a.start()
    pair.b.wait_up()
    pair.a.wait_up()
    error = until(lambda: pair.a.status()["tunnels"][0]["last_error"], "why it is not up")
    assert "no route to 192.0.2.2" in error
    waits = local == "configured"
    until(lambda: ("local 192.0.2.1 is not an address of this host; waiting for it" in pair.a.text()) is waits, "what the log says")
    sites.gw_a.ip(bring)
    negotiated(pair.a)
    udp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])
    assert pair.stop() == (0, 0)


def test_a_tunnel_without_local_moves_with_the_route_to_its_peer(sites, lab, tmp_path):
    """A second outer network; gwB does not know where gwA comes from."""
    lab.link(netns.Port(sites.gw_a, "wan2", ("198.51.100.1/24",)), netns.Port(sites.gw_b, "wan2", ("198.51.100.2/24",)))
    pair = GatewayPair(sites, tmp_path, IkePair())
    rewrite(pair.a, (r"local = .192.*\n", ""))
    rewrite(pair.b, (r"local = .192.*\n", ""), (r'remote = "192.*"', 'remote = "any"'))
    with pair:
        negotiated(pair.a)
        assert pair.b.status()["tunnels"][0]["remote"] == "192.0.2.1"
        sites.gw_a.ip("route add 192.0.2.2/32 via 198.51.100.2 dev wan2")
        until(lambda: pair.b.status()["tunnels"][0]["remote"] == "198.51.100.1", "the tunnel from the other address")
        negotiated(pair.a)
        udp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])
        until(lambda: "begins at 198.51.100.1 now, no longer at 192.0.2.1: negotiating anew" in pair.a.text(), "it is in the log")


def test_an_outer_interface_that_flaps_leaves_the_tunnel_as_it_is(sites, tmp_path):
    pair = GatewayPair(sites, tmp_path, IkePair())
    rewrite(pair.a, (r"local = .192.*\n", ""))
    with pair:
        before = negotiated(pair.a) and pair.a.status()["tunnels"][0]["ike"]["spi_i"]
        sites.gw_a.ip("link set wan down", "link set wan up")
        until(lambda: harness.pings(sites.host_a, netns.HOST_B[0]), "traffic")
        assert pair.a.status()["tunnels"][0]["ike"]["spi_i"] == before


def test_a_new_address_is_listened_at_where_anybody_may_call(sites, tmp_path):
    pair = GatewayPair(sites, tmp_path, IkePair())
    rewrite(pair.b, (r"local = .192.*\n", ""), (r'remote = "192.*"', 'remote = "any"'))
    rewrite(pair.a, (r'remote = "192.0.2.2"', 'remote = "192.0.2.77"'))
    with pair:
        sites.gw_b.ip("address add 192.0.2.77/24 dev wan")
        negotiated(pair.a)
        udp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0])
