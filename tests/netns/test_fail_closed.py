"""Guard, routes and TUN together: whatever moment the process dies at, nothing protected leaves in clear.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

There is no IPsec here: the TUN interface of gwA is read and written by the test. Whole gateways: test_gateway_fail_closed.py,
test_fail_closed_running.py and, for fail-over, test_monitor.py.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from ipaddress import ip_address, ip_network

import pytest

from ipsec_dp.host import sockets
from ipsec_dp.host.guard import GuardRule
from ipsec_dp.host.guard_table import Guard
from ipsec_dp.host.routes import Route, RouteTable
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import SelectorPair
from ipsec_dp.rig import capture, netns
from tests.netns import harness

R = AddressRange.of
PREFIXES = [ip_network(net) for net in netns.SITE_B_NETS]
SELECTORS = [GuardRule(SelectorPair(R(a), R(b))) for a, b in zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True)]
EVERYTHING = [ip_network("0.0.0.0/0"), ip_network("::/0")]

STAGES = ("guard", "unreachable", "interface", "routes")

# The host's side of a start, in the order that a gateway has to keep, killed after one of the stages.
START = """
import asyncio, os, signal, sys
from ipsec_dp.host import tun
from ipsec_dp.host.guard_table import Guard
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.routes import Route, RouteTable
from tests.netns.test_fail_closed import PREFIXES, SELECTORS

def stage(name):
    if name == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    await Guard("test").apply(SELECTORS, [])
    stage("guard")
    routes = RouteTable("test")
    await routes.apply(PREFIXES, [])
    async with open_netlink() as ipr:
        stage("unreachable")
        made = tun.make("ipsec0", vnet_header=False)
        await tun.configure(ipr, made, [], 1400)
        await Guard("test").apply(SELECTORS, [(made.index, made.name)])
        stage("interface")
        await routes.apply(PREFIXES, [Route(prefix, made.index) for prefix in PREFIXES])
        stage("routes")

asyncio.run(main())
"""


def start_until(gateway, stage):
    return subprocess.run(gateway.argv(sys.executable, "-c", START, stage), timeout=30, check=False).returncode


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_moment_of_the_start_and_started_again(sites, tmp_path, stage):
    """A stream runs from before the first kill to after the second start; from the guard's first moment on, none of it is seen."""
    assert all(harness.reaches(sites.host_a, b) for _, b in harness.BOTH), "the positive control: it would arrive"
    assert start_until(sites.gw_a, "guard") == -9
    streams = [sites.host_a.spawn("ping", "-i", "0.005", "-q", b) for _, b in harness.BOTH]

    def twice():
        assert start_until(sites.gw_a, stage) == -9
        assert start_until(sites.gw_a, "routes") == -9

    assert harness.crossed(sites.gw_a, "wan", tmp_path / "x", twice).packets == {}
    assert all(stream.poll() is None for stream in streams)


def applied(gateway, protected, routes):
    return harness.run(gateway, lambda: RouteTable("test").apply(protected, routes))


@pytest.fixture
def full(sites):
    """gwA with everything routed into its tunnel."""
    made = harness.tun(sites.gw_a, "ipsec0")
    os.set_blocking(made.descriptors[0], False)
    applied(sites.gw_a, EVERYTHING, [Route(prefix, made.index) for prefix in EVERYTHING])
    yield made
    made.close()


def read_all(descriptor):
    packets = []
    try:
        while True:
            packets.append(os.read(descriptor, 2000))
    except BlockingIOError:
        return packets


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
def test_outer_packets_stay_out_of_a_tunnel_for_everything(sites, full, version, tmp_path):
    """The peer is hostB: beyond the default route, which leads into the tunnel for all but our own sockets."""
    peer = netns.HOST_B[version]
    pair = sites.gw_a.call(lambda: sockets.udp_pair(ip_address(netns.GW_A_OUTER[version])))
    with sites.gw_a.call(lambda: sockets.ike_socket(ip_address(netns.GW_A_OUTER[version]))) as ike:

        def send():
            for each in (pair.receive, pair.other):
                each.sendto(b"\x01 sealed", (peer, 4500))
            ike.sendto(b"ike", (peer, 500))

        found = harness.crossed(sites.gw_a, "wan", tmp_path / "x", send)
    assert (found.packets["esp-udp"], found.packets["ike"]) == (2, 1)
    assert read_all(full.descriptors[0]) == []
    harness.send_udp(sites.gw_a, (peer, 4500), b"\x01 not marked")
    assert [capture.kind(packet) for packet in read_all(full.descriptors[0])] == ["esp-udp"]
    pair.close()


def ipv4_udp(source, destination, payload):
    """An IPv4 UDP packet without UDP checksum."""
    udp = struct.pack(">HHHH", 9, 9, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + header[12:] + udp


@pytest.mark.parametrize(
    ("everywhere", "addresses", "arrives"),
    [("0", (), 1), ("1", ("169.254.10.1/30",), 1), ("1", (), 0), ("2", ("169.254.10.1/30",), 1)],
)
def test_packets_from_the_tunnel_whose_way_back_is_another(sites, tmp_path, everywhere, addresses, arrives):
    """They pass whatever the host's reverse path filter is, but for a filtering host's interface without an IPv4 address."""
    assert harness.reaches(sites.gw_a, netns.HOST_A[0]), "neighbours know each other"
    sites.gw_a.sysctl(("net/ipv4/conf/all/rp_filter", everywhere))
    made = harness.tun(sites.gw_a, "ipsec0", addresses)

    def write():
        os.write(made.descriptors[0], ipv4_udp("192.0.2.77", netns.HOST_A[0], b"opened"))

    assert harness.crossed(sites.host_a, "eth0", tmp_path / "x", write).packets["udp"] == arrives
    made.close()


@pytest.mark.parametrize(("strictness", "arrives"), [("1", False), ("2", True), ("0", True)])
def test_strict_filter_outside_loses_what_a_peer_beyond_the_default_route_sends(sites, full, strictness, arrives):
    """Why `doctor` warns of it: the way back to the peer, looked up without our mark, leads into the tunnel."""
    sites.gw_a.sysctl(("net/ipv4/conf/wan/rp_filter", strictness))
    pair = sites.gw_a.call(lambda: sockets.udp_pair(ip_address(netns.GW_A_OUTER[0])))
    harness.send_udp(sites.host_b, (netns.GW_A_OUTER[0], 4500), b"sealed")
    if arrives:
        assert select.select([pair.receive], [], [], 5)[0]
        assert pair.receive.recv(100) == b"sealed"
    else:
        harness.settle(sites.gw_a, "wan")
        with pytest.raises(BlockingIOError):
            pair.receive.recv(100)
    pair.close()


def test_after_a_stop_that_keeps_it_closed_nothing_leaves_and_after_one_that_does_not_it_flows(sites, tmp_path):
    assert start_until(sites.gw_a, "none") == 0  # ended by itself: interface and routes are gone with it

    def both():
        return [harness.pings(sites.host_a, b) for _, b in harness.BOTH]

    assert harness.crossed(sites.gw_a, "wan", tmp_path / "x", both).packets == {}
    applied(sites.gw_a, [], [])
    assert harness.crossed(sites.gw_a, "wan", tmp_path / "y", both).packets == {}, "the guard alone holds too"
    harness.run(sites.gw_a, Guard("test").remove)
    assert both() == [True, True]
