"""The world outside the tunnel, as the host's routes and addresses have it.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

gwA also has the TUN interface ipsec0.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.outer import inside_networks, outer_route, own_sources
from ipsec_dp.rig import netns
from tests.netns import harness
from tests.netns.routed_gateway import RoutedGateway

EVERYTHING = [ip_network("0.0.0.0/0"), ip_network("::/0")]
OUTER_B = netns.GW_B_OUTER


@pytest.fixture
def gateway(sites):
    made = RoutedGateway(sites.gw_a)
    yield made
    made.tun.close()


def asked(gateway, question):
    async def opened():
        async with open_netlink() as ipr:
            return await question(ipr)

    return harness.run(gateway.namespace, opened)


def test_outer_route_ignores_the_tunnel(gateway):
    gateway.apply(EVERYTHING, EVERYTHING)
    for remote, source, via in zip(netns.HOST_B, netns.GW_A_OUTER, OUTER_B, strict=True):
        found = asked(gateway, lambda ipr, remote=remote: outer_route(ipr, ip_address(remote)))
        assert (str(found.source), str(found.gateway), found.mtu) == (source, via, 1500)
        assert gateway.namespace.call(lambda index=found.interface: socket.if_indextoname(index)) == "wan"
    gateway.remove()


def test_outer_route_takes_the_routes_own_mtu(gateway):
    gateway.namespace.ip("route add 203.0.113.0/24 via 192.0.2.2 mtu 1280")
    assert asked(gateway, lambda ipr: outer_route(ipr, ip_address("203.0.113.9"))).mtu == 1280


def test_no_outer_route_says_so(gateway):
    gateway.namespace.ip("route del default")
    with pytest.raises(HostError, match=r"no route to 198\.51\.100\.1: Network is unreachable"):
        asked(gateway, lambda ipr: outer_route(ipr, ip_address("198.51.100.1")))


def test_inside_networks_are_those_not_behind_the_outer_interface(gateway):
    gateway.namespace.ip("route add 172.16.0.0/12 via 10.1.0.2")
    wan = asked(gateway, lambda ipr: outer_route(ipr, ip_address(OUTER_B[0]))).interface
    gateway.namespace.ip("address add 10.7.0.1/24 dev lan valid_lft 600 preferred_lft 600")
    found = asked(gateway, lambda ipr: inside_networks(ipr, {wan, gateway.tun.index}))
    fixed = {str(each.prefix): each.fixed for each in found}
    assert fixed == {"10.1.0.0/24": True, "10.7.0.0/24": False, "172.16.0.0/12": False, "fd00:1::/64": True}


def test_own_addresses_that_may_be_sources(gateway):
    gateway.namespace.ip("address add 10.255.0.1/32 dev lo", "address add 169.254.10.1/30 dev ipsec0")
    found = {(str(each.address), each.interface) for each in asked(gateway, own_sources) if not each.address.is_link_local}
    outer = {(address, "wan") for address in netns.GW_A_OUTER}
    assert found == {("10.1.0.1", "lan"), ("fd00:1::1", "lan"), ("10.255.0.1", "lo"), *outer}


def test_an_address_that_is_being_checked_for_a_twin_is_no_source_yet(gateway):
    gateway.namespace.sysctl(("net/ipv6/conf/lan/accept_dad", "1"), ("net/ipv6/conf/lan/dad_transmits", "100"))
    gateway.namespace.ip("address add fd00:1::99/64 dev lan")
    assert "fd00:1::99" not in {str(each.address) for each in asked(gateway, own_sources)}
