"""VXLAN between hosts behind the gateways: carried in super-packets both ways, and on the wire as without.

hostA (tunnel) eth0 -- lan gwA wan == wan gwB lan -- eth0 (tunnel) hostB
"""

from __future__ import annotations

import contextlib

import pytest

from ipsec_dp.dataplane import Offload
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.offload import checksums_hold
from tests.netns import harness
from tests.netns.test_offloads import NAMES, pair_with, source
from tests.netns.traffic import drops_but_of_full_queues, tcp_both_ways

OCTETS = 4 << 20
HERE, THERE = "10.99.0.1", "10.99.0.2"
V4 = (netns.HOST_A[0], netns.HOST_B[0])
V6 = (netns.HOST_A[1], netns.HOST_B[1])
NAME = Offload.TUN_UDP_TUNNEL.name.lower()


@contextlib.contextmanager
def between_hosts(sites, ends, options):
    """Within it the hosts have a network of their own in a tunnel."""
    hosts = (sites.host_a, sites.host_b)
    try:
        for host, (own, other), address in zip(hosts, (ends, ends[::-1]), (HERE, THERE), strict=True):
            made = f"link add vx0 mtu 1300 type vxlan id 42 local {own} remote {other} dstport 4789 {options}"
            host.ip(made, f"address add {address}/24 dev vx0", "link set vx0 up")
        yield
    finally:
        for host in hosts:
            host.run("ip", "link", "delete", "vx0", check=False)


def has_offload(pair):
    return pair.b.status()["offloads"][NAME]


@pytest.mark.parametrize(
    ("ends", "options"),
    [
        pytest.param(V4, "noudpcsum", id="ipv4"),
        pytest.param(V4, "udpcsum", id="ipv4-checksum"),
        pytest.param(V6, "udp6zerocsumtx udp6zerocsumrx", id="ipv6"),
        pytest.param(V6, "", id="ipv6-checksum"),
    ],
)
def test_it_crosses_in_super_packets(shared_sites, tmp_path, ends, options):
    """Far fewer packets cross the inner link of gwB than were sealed, and none is dropped."""
    with pair_with(shared_sites, tmp_path) as pair, between_hosts(shared_sites, ends, options):
        found = harness.crossed(
            shared_sites.gw_b,
            "ipsec0",
            tmp_path / "inner",
            lambda: tcp_both_ways(shared_sites.host_a, shared_sites.host_b, THERE, OCTETS),
        )
        status = pair.b.status()
        (child,) = status["tunnels"][0]["children"]
        assert child["packets_in"] > OCTETS // 1300
        if has_offload(pair):
            assert sum(found.packets.values()) < child["packets_in"]
        for gateway in (pair.a, pair.b):
            assert drops_but_of_full_queues(gateway) == {}


@pytest.mark.parametrize("names", [NAMES, tuple(name for name in NAMES if name != NAME)], ids=["on", "off"])
def test_what_the_inner_host_sees_is_whole(shared_sites, tmp_path, names):
    """hostB's interface has no offloads: the kernel behind the tunnel cuts every super-packet into what crosses the link."""
    shared_sites.gw_b.run("ethtool", "-K", "lan", "tso", "off", "gso", "off", "tx", "off", check=False)
    shared_sites.host_b.run("ethtool", "-K", "eth0", "gro", "off", "rx", "off", check=False)
    path = tmp_path / "host.pcapng"
    try:
        with (
            pair_with(shared_sites, tmp_path, names, names) as pair,
            between_hosts(shared_sites, V4, "noudpcsum"),
            capture.Capture(shared_sites.host_b, "eth0", path) as taken,
        ):
            assert NAME in names or not has_offload(pair)
            tcp_both_ways(shared_sites.host_a, shared_sites.host_b, THERE, OCTETS)
            taken.stop()
    finally:
        shared_sites.gw_b.run("ethtool", "-K", "lan", "tso", "on", "gso", "on", "tx", "on", check=False)
        shared_sites.host_b.run("ethtool", "-K", "eth0", "gro", "on", "rx", "on", check=False)
    arrived = [packet for _, packet in capture.read(path) if source(packet) == netns.HOST_A[0] and packet[9] == 17]
    inner = [packet[50:] for packet in arrived if packet[48:50] == b"\x08\x00"]
    assert len(inner) > OCTETS // 1300
    assert max(map(len, inner)) <= 1300
    assert [packet for packet in inner if not checksums_hold(packet)] == []
    assert {packet[26:28] for packet in arrived} == {b"\0\0"}
