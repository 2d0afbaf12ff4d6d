"""A routing daemon through a route-based tunnel: BIRD on both sides, over the tunnel's own interface.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
                      ipsec0 ........ ipsec0

No proxy IDs: everything may enter, and what does is what the routing table sends there. Each BIRD announces its own lan.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.peers.bird import Bird
from ipsec_dp.rig.process import GatewayPair, GatewayProcess, IkePair
from tests.netns import harness
from tests.netns.traffic import tcp_both_ways, udp_both_ways, until

INNER = (("169.254.10.1", "fd00:a::1"), ("169.254.10.2", "fd00:a::2"))
LINK_LOCAL = ("fe80::1", "fe80::2")
# The learned prefix, by a policy: then it is closed too while nothing leads there.
GUARDED = """
[[policy]]
action = "protect"
tunnel = "a-to-b"
local = "10.1.0.0/16"
remote = "10.2.0.0/16"
"""

COMMON = """
log stderr all;
router id {address};
protocol device {{}}
protocol direct {{ ipv4; ipv6; interface "lan"; }}
protocol kernel {{ ipv4 {{ export where source != RTS_DEVICE; }}; }}
protocol kernel {{ ipv6 {{ export where source != RTS_DEVICE; }}; }}
"""
OSPF = """
protocol ospf v{ospf} {{
  ipv{version} {{ import all; export where source = RTS_DEVICE; }};
  area 0 {{ interface "ipsec0" {{ type ptp; hello 1; retransmit 2; dead count 3; }}; }};
}}
"""
BGP = """
protocol bgp {{
  local {near} as {near_as};
  neighbor {far} as {far_as};
  direct;
  check link yes;
  connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 6;
  ipv{version} {{ import all; export where source = RTS_DEVICE; }};
}}
"""


def ospf(side):
    return COMMON.format(address=INNER[side][0]) + OSPF.format(ospf=2, version=4) + OSPF.format(ospf=3, version=6)


def bgp(side):
    ends = [
        BGP.format(near=INNER[side][at], far=INNER[1 - side][at], near_as=65001 + side, far_as=65002 - side, version=version)
        for at, version in enumerate((4, 6))
    ]
    return COMMON.format(address=INNER[side][0]) + "".join(ends)


def _learned(gateway, nets):
    rows = [
        line
        for option in ((), ("-6",))
        for line in gateway.run("ip", *option, "route", "show", "proto", "bird").stdout.splitlines()
    ]
    return {row.split()[0]: row.partition(" dev ")[2].split()[0] for row in rows if row.startswith(nets)}


@dataclass
class Routed:
    """Both gateways are up; the daemons are started by the test."""

    sites: netns.TwoSites
    a: GatewayProcess
    b: GatewayProcess
    birds: tuple[Bird, ...] = ()

    def learned(self):
        """Which networks of site B gwA's main table has from its BIRD, and by which interface."""
        return _learned(self.sites.gw_a, netns.SITE_B_NETS)

    def both_learned(self):
        """Whether gwB has those of site A too, or what answers would not come back."""
        return self.learned() == EVERYTHING_LEARNED and len(_learned(self.sites.gw_b, netns.SITE_A_NETS)) == len(netns.SITE_A_NETS)

    def carrier(self):
        return "LOWER_UP" in self.sites.gw_a.run("ip", "link", "show", "ipsec0").stdout


def with_addresses(gateway, side):
    addresses = f'"{INNER[side][0]}/30", "{INNER[side][1]}/64", "{LINK_LOCAL[side]}/64"'
    text = gateway.config.read_text().replace('interface = "ipsec0"\n', f'interface = "ipsec0"\naddress = [{addresses}]\n')
    gateway.config.write_text(text)


@pytest.fixture
def routed(request, sites, tmp_path):
    """`request.param`: what each side's BIRD is told, and further lines of gwA's configuration."""
    conf, tables = request.param
    pair = GatewayPair(sites, tmp_path, IkePair(proxy_ids=()))
    for side, gateway in enumerate((pair.a, pair.b)):
        with_addresses(gateway, side)
    pair.a.config.write_text(pair.a.config.read_text() + tables)
    birds = tuple(Bird(namespace, tmp_path / namespace.label, conf(side)) for side, namespace in ((0, sites.gw_a), (1, sites.gw_b)))
    with pair:
        pair.a.wait_negotiated()
        yield Routed(sites, pair.a, pair.b, birds)
        for bird in birds:
            bird.stop()


def exchange(sites):
    """Traffic between the sites, both IP versions."""
    for near, far in zip(netns.HOST_A, netns.HOST_B, strict=True):
        udp_both_ways(sites.host_a, sites.host_b, far)
        udp_both_ways(sites.host_b, sites.host_a, near)
    tcp_both_ways(sites.host_a, sites.host_b, netns.HOST_B[0], 1 << 18)


EVERYTHING_LEARNED = dict.fromkeys(netns.SITE_B_NETS, "ipsec0")
BOTH_DAEMONS = pytest.mark.parametrize("routed", [(ospf, ""), (bgp, "")], ids=["OSPF", "BGP"], indirect=True)


def start(routed):
    for bird in routed.birds:
        bird.start()
    until(routed.both_learned, "routes learned through the tunnel", 30)


def sealed(crossed):
    """Nothing crossed but ESP, and what the gateways say to each other."""
    return crossed.packets["esp-udp"] > 0 and not crossed.foreign()


@BOTH_DAEMONS
def test_a_learned_route_carries_traffic_and_goes_with_the_tunnel(routed, tmp_path):
    assert routed.learned() == {}
    start(routed)
    crossed = harness.crossed(routed.sites.gw_a, "wan", tmp_path / "wan", lambda: exchange(routed.sites))
    assert sealed(crossed), "the traffic is sealed, and so is what the daemons say to each other"

    routed.a.ask("terminate", name="a-to-b")
    until(lambda: not routed.carrier(), "the interface without a carrier")
    until(lambda: routed.learned() == {}, "routes withdrawn")
    routed.a.ask("initiate", name="a-to-b")
    until(routed.both_learned, "routes learned again", 30)
    exchange(routed.sites)
    assert routed.a.status()["drops"]["multicast_shared"] == 0


@pytest.mark.parametrize("routed", [(ospf, GUARDED)], indirect=True)
def test_without_its_route_a_guarded_learned_prefix_stays_closed(routed, tmp_path):
    """gwA's default route leads to gwB: what is not held back arrives there in clear. Only IPv4 is named by the policy: the IPv6
    prefix is the positive control."""
    start(routed)
    crossed = harness.crossed(routed.sites.gw_a, "wan", tmp_path / "up", lambda: exchange(routed.sites))
    assert sealed(crossed)

    routed.a.ask("terminate", name="a-to-b")
    until(lambda: routed.learned() == {}, "routes withdrawn")

    def try_all():
        for address in netns.HOST_B:
            harness.send_udp(routed.sites.host_a, (address, 9))
        assert not harness.pings(routed.sites.host_a, netns.HOST_B[0])

    harness.crossed(routed.sites.gw_a, "wan", tmp_path / "down", try_all)
    crossing = [packet for _, packet in capture.read(tmp_path / "down") if capture.kind(packet) == "udp" and packet[-1:] == b"x"]
    assert {packet[0] >> 4 for packet in crossing} == {6}, "the guard holds what the policy names, and nothing else"
    assert routed.a.status()["guard"]["cleartext_out4"] >= 2


def test_an_interface_on_demand_keeps_its_carrier(sites, tmp_path):
    pair = GatewayPair(sites, tmp_path, IkePair(proxy_ids=(), start=("on-demand", "respond")))
    with pair:
        routed = Routed(sites, pair.a, pair.b)
        assert routed.carrier(), "or its first packet would never come"
        assert pair.a.status()["tunnels"][0]["state"] == "waiting"
