"""Offloads on real devices: TCP and UDP both ways with each on and off, mixed between the gateways, and what the inner hosts see.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import Offload
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.offload import checksums_hold
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.traffic import drops_but_of_full_queues, ping, tcp_both_ways, udp_both_ways, until

NAMES = tuple(str(flag.name).lower() for flag in Offload)
TSO = ("tun_csum", "tun_tso4", "tun_tso6")
UDP_SEGMENT = 103  # <linux/udp.h>
SOL_UDP = 17
OCTETS = 4 << 20


def pair_with(sites, directory, a=NAMES, b=NAMES):
    """A pair whose gateways have these offloads."""
    pair = GatewayPair(sites, directory, ManualPair())
    for gateway, names in ((pair.a, a), (pair.b, b)):
        listed = ", ".join(f'"{name}"' for name in names)
        gateway.config.write_text(gateway.config.read_text().replace("[gateway]\n", f"[gateway]\noffloads = [{listed}]\n", 1))
    return pair


def udp_run(near, far, address, size=1000, count=40):
    """One send of many datagrams, as UDP_SEGMENT makes it; what arrives."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    content = b"".join(capture.marked(size * count))

    def bound(to):
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(5)
        made.bind(to)
        return made

    with far.call(lambda: bound((address, 7001))) as there, near.call(lambda: bound(("", 0))) as here:
        here.setsockopt(SOL_UDP, UDP_SEGMENT, size)
        here.sendto(content, (address, 7001))
        assert b"".join(there.recv(2048) for _ in range(count)) == content


def everything(sites):
    for address in netns.HOST_B:
        ping(sites.host_a, address)
        udp_both_ways(sites.host_a, sites.host_b, address)
        tcp_both_ways(sites.host_a, sites.host_b, address, OCTETS)
        udp_run(sites.host_a, sites.host_b, address)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(NAMES, NAMES, id="all-on"),
        pytest.param((), (), id="all-off"),
        pytest.param((), NAMES, id="off-on"),
        pytest.param(NAMES, ("udp_segment",), id="on-receiver-plain"),
        pytest.param(("tun_csum", "tun_tso4", "udp_gro"), (*TSO, "udp_segment"), id="some-each"),
    ],
)
def test_traffic_is_carried_whatever_is_on(shared_sites, tmp_path, a, b):
    with pair_with(shared_sites, tmp_path, a, b) as pair:
        for gateway, names in ((pair.a, a), (pair.b, b)):
            assert {name for name, on in gateway.status()["offloads"].items() if on} == set(names)
        everything(shared_sites)
        for gateway in (pair.a, pair.b):
            assert drops_but_of_full_queues(gateway) == {}


def test_super_packets_are_made_and_cut(shared_sites, tmp_path):
    """Far fewer packets cross the inner link of gwB than were sealed: the control for the tests above."""
    with pair_with(shared_sites, tmp_path) as pair:
        found = harness.crossed(
            shared_sites.gw_b,
            "ipsec0",
            tmp_path / "inner",
            lambda: tcp_both_ways(shared_sites.host_a, shared_sites.host_b, netns.HOST_B[0], OCTETS),
        )
        (child,) = pair.b.status()["tunnels"][0]["children"]
    assert child["packets_in"] > OCTETS // 1400
    assert sum(found.packets.values()) < child["packets_in"]


def source(packet):
    """The address that an IP packet says it comes from."""
    if packet[12:14] == b"\x08\x06" or not packet:
        return None
    return str(ip_address(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]))


def test_the_inner_host_sees_no_wrong_checksum(shared_sites, tmp_path):
    """hostB's interface has no offloads: the kernel behind the tunnel cuts every super-packet into what crosses the link."""
    shared_sites.gw_b.run("ethtool", "-K", "lan", "tso", "off", "gso", "off", "tx", "off", check=False)
    shared_sites.host_b.run("ethtool", "-K", "eth0", "gro", "off", "rx", "off", check=False)
    path = tmp_path / "host.pcapng"
    try:
        with pair_with(shared_sites, tmp_path), capture.Capture(shared_sites.host_b, "eth0", path) as taken:
            everything(shared_sites)
            taken.stop()
    finally:
        shared_sites.gw_b.run("ethtool", "-K", "lan", "tso", "on", "gso", "on", "tx", "on", check=False)
        shared_sites.host_b.run("ethtool", "-K", "eth0", "gro", "on", "rx", "on", check=False)
    arrived = [packet for _, packet in capture.read(path) if source(packet) in netns.HOST_A]
    assert len(arrived) > OCTETS // 1400
    assert [packet for packet in arrived if not checksums_hold(packet)] == []


def test_a_path_that_shrinks_is_no_fault_of_the_offload(shared_sites, tmp_path):
    """Runs longer than the path's MTU go out one by one; UDP_SEGMENT stays on."""
    with pair_with(shared_sites, tmp_path) as pair:
        ping(shared_sites.host_a, netns.HOST_B[0])
        shared_sites.gw_a.ip("link set wan mtu 1400")
        try:
            send_big(shared_sites)
            assert pair.a.status()["offloads"]["udp_segment"]
        finally:
            shared_sites.gw_a.ip("link set wan mtu 1500")
        until(lambda: shared_sites.host_a.run("ping", "-c1", "-W1", netns.HOST_B[0], check=False).returncode == 0, "ping")


def send_big(sites):
    """Datagrams that may be fragmented outside arrive though they no longer fit whole."""
    host, far = sites.host_a, sites.host_b

    def bound(to):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.settimeout(5)
        made.bind(to)
        return made

    with far.call(lambda: bound((netns.HOST_B[0], 7002))) as there, host.call(lambda: bound(("", 0))) as here:
        here.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT: DF clear, inside and so outside
        here.setsockopt(SOL_UDP, UDP_SEGMENT, 1390)
        content = bytes(1390 * 20)
        here.sendto(content, (netns.HOST_B[0], 7002))
        assert b"".join(there.recv(2048) for _ in range(20)) == content
