"""Real traffic through every kind of tunnel: suites, ESN, UDP and IP protocol 50, IPv4 and IPv6 outside and inside; MTU, DF, TOS.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import socket

import pytest

from ipsec_dp.ipsec.suites import datagram_octets, inner_mtu, parse_suite
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.traffic import (
    TIMEOUT_S,
    drops_but_of_full_queues,
    ping,
    tcp_both_ways,
    to_gateway_b,
    udp_both_ways,
    until,
)

TRANSPORTS = (("udp", 4), ("esp", 4), ("udp", 6), ("esp", 6))
SUITES = (
    "aes128gcm16",
    "aes192gcm16",
    "aes256gcm16",
    "chacha20poly1305",
    "aes128-sha256",
    "aes192-sha384",
    "aes256-sha512",
    "aes128-sha1",
)
# Every suite with and without ESN, spread over the transports. A first half has every suite once and every transport with and
# without ESN; the second half is what that leaves out.
ALL = tuple((f"{suite}{esn}", *TRANSPORTS[row % 4]) for row, suite in enumerate(SUITES) for esn in ("", "-esn"))
FIRST = {ALL[2 * row + (row + row // 4) % 2] for row in range(len(SUITES))}
CASES = tuple(pytest.param(*case, marks=() if case in FIRST else pytest.mark.slow) for case in ALL)


def manual(suite="aes128gcm16-esn", encapsulation="udp", version=4, **more):
    outer = (netns.GW_A_OUTER[version == 6], netns.GW_B_OUTER[version == 6])
    return ManualPair(suite=suite, encapsulation=encapsulation, outer=outer, **more)


def both_ways(sites, octets=1 << 20):
    """Ping, UDP and TCP from each site to the other, over inner IPv4 and IPv6."""
    for near, far, addresses in (
        (sites.host_a, sites.host_b, netns.HOST_B),
        (sites.host_b, sites.host_a, netns.HOST_A),
    ):
        for address in addresses:
            ping(near, address)
            udp_both_ways(near, far, address)
    for address in netns.HOST_B:
        tcp_both_ways(sites.host_a, sites.host_b, address, octets)


@pytest.mark.parametrize(("suite", "encapsulation", "version"), CASES)
def test_everything_is_carried_both_ways(shared_sites, tmp_path, suite, encapsulation, version):
    with GatewayPair(shared_sites, tmp_path, manual(suite, encapsulation, version)) as pair:
        found = harness.crossed(shared_sites.gw_a, "wan", tmp_path / "wan", lambda: both_ways(shared_sites))
        states, drops = (pair.a.status(), pair.b.status()), [drops_but_of_full_queues(each) for each in (pair.a, pair.b)]
    assert set(found.packets) == {"esp" if encapsulation == "esp" else "esp-udp"}
    assert found.tunnel_octets() > 4 << 20
    assert drops == [{}, {}]
    for status in states:
        (child,) = status["tunnels"][0]["children"]
        assert (child["suite"], child["esn"]) == (parse_suite(suite).keyword, suite.endswith("esn"))


# ---- what needs only one tunnel: over UDP and IPv4 -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def up(shared_sites, tmp_path_factory):
    for host in (shared_sites.host_a, shared_sites.host_b):
        for family in ("-4", "-6"):  # path MTUs learnt from the tunnels before
            host.run("ip", family, "route", "flush", "cache")
    with GatewayPair(shared_sites, tmp_path_factory.mktemp("up"), manual()) as pair:
        yield pair


def seen(sites, tmp_path, interface, namespace, traffic):
    """The packets that crossed an interface during `traffic`, without what a link needs for itself."""
    path = tmp_path / f"{namespace.label}-{interface}"
    harness.settle(namespace, interface)  # nothing of before is on its way
    with capture.Capture(namespace, interface, path) as recording:
        traffic()
        recording.stop()
    return [packet for _, packet in capture.read(path) if capture.kind(packet) not in capture.LINK_KINDS]


def mtu_of(pair):
    return pair.a.status()["tunnels"][0]["mtu"]


def test_full_size_packets_pass_whole_and_one_octet_more_is_too_big(shared_sites, up, tmp_path):
    mtu = mtu_of(up)
    assert mtu == inner_mtu(1500, parse_suite("aes128gcm16-esn"), "udp", 4)
    for address, header in zip(netns.HOST_B, (28, 48), strict=True):
        full = seen(
            shared_sites,
            tmp_path,
            "wan",
            shared_sites.gw_a,
            lambda address=address, header=header: ping(shared_sites.host_a, address, "-M", "do", "-s", str(mtu - header)),
        )
        headers, octets = 28, datagram_octets(mtu, parse_suite("aes128gcm16-esn"), "udp", 4)
        assert full
        assert {(len(packet) - headers) % (octets - headers) for packet in full} == {0}, "what leaves at once is seen as one"
        said = shared_sites.host_a.run(
            "ping", "-n", "-c", "2", "-i", "0.05", "-W", "1", "-M", "do", "-s", str(mtu - header + 1), address, check=False
        )
        assert said.returncode == 1
        assert f"mtu = {mtu}" in said.stdout or f"mtu={mtu}" in said.stdout + said.stderr, said


def test_packets_that_may_be_fragmented_are_and_arrive(shared_sites, up):
    ping(shared_sites.host_a, netns.HOST_B[0], "-M", "dont", "-s", "4000")


def send_udp(namespace, to, payload, *, df, tos=0):
    """One datagram with this DF bit and TOS."""
    version6 = ":" in to[0]

    def send():
        with socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM) as sender:
            if version6:
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
            else:
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
                sender.setsockopt(socket.IPPROTO_IP, 10, 3 if df else 0)  # IP_MTU_DISCOVER: PROBE, DONT (<linux/in.h>)
            sender.sendto(payload, to)

    namespace.call(send)


@pytest.mark.parametrize(("address", "df"), [(netns.HOST_B[0], True), (netns.HOST_B[0], False), (netns.HOST_B[1], True)])
def test_df_is_copied_to_the_outer_header(shared_sites, up, tmp_path, address, df):
    """RFC 4301 §8.1; IPv6 inside counts as DF: no router may fragment it."""
    packets = seen(shared_sites, tmp_path, "wan", shared_sites.gw_a, lambda: arrives(shared_sites, (address, 7100), df=df))
    outer = [packet for packet in packets if capture.kind(packet) == "esp-udp"]
    assert bool(outer[0][6] & 0x40) == df


@pytest.mark.parametrize("tos", [0x00, 0xB8, 0x02, 0xB9])
@pytest.mark.parametrize("address", netns.HOST_B, ids=["ipv4", "ipv6"])
def test_dscp_and_ecn_are_copied_out_and_arrive(shared_sites, up, tmp_path, address, tos):
    """RFC 4301 §5.1.2, RFC 6040 §4.1."""
    inner = tmp_path / "inner"
    with capture.Capture(shared_sites.host_b, "eth0", inner) as recording:
        packets = seen(shared_sites, tmp_path, "wan", shared_sites.gw_a, lambda: arrives(shared_sites, (address, 7100), tos))
        recording.stop()
    (outer,) = [packet for packet in packets if capture.kind(packet) == "esp-udp"]
    assert outer[1] == tos
    (arrived,) = [packet for _, packet in capture.read(inner) if capture.kind(packet) == "udp"]
    assert tos_of(arrived) == tos


def tos_of(packet):
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] << 4 | packet[1] >> 4) & 0xFF


def arrives(sites, to, tos=0, *, df=False, seconds=TIMEOUT_S):
    """Sends a datagram with this TOS and DF bit and waits until hostB has it."""
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET

    def listen():
        listener = socket.socket(family, socket.SOCK_DGRAM)
        listener.bind(to)
        listener.settimeout(seconds)
        return listener

    with sites.host_b.call(listen) as listener:
        send_udp(sites.host_a, to, b"marked", df=df, tos=tos)
        assert listener.recv(100) == b"marked"


@pytest.fixture
def congested(shared_sites):
    """The outer link marks every packet with congestion experienced, in front of gwB."""
    rules = "type filter hook prerouting priority -300; iifname wan udp dport 4500 ip ecn set ce"
    shared_sites.gw_b.run("nft", "-f", "-", stdin=f"table ip congested {{\nchain c {{\n{rules}\n}}\n}}\n")
    yield
    shared_sites.gw_b.run("nft", "delete", "table", "ip", "congested")


@pytest.mark.parametrize("address", netns.HOST_B, ids=["ipv4", "ipv6"])
def test_congestion_met_outside_is_told_inside(shared_sites, up, congested, tmp_path, address):
    """RFC 6040 §4.2: an ECN-capable packet arrives marked, one that is not is dropped, and the drop is counted."""
    packets = seen(shared_sites, tmp_path, "eth0", shared_sites.host_b, lambda: arrives(shared_sites, (address, 7100), tos=0x02))
    (arrived,) = [packet for packet in packets if capture.kind(packet) == "udp"]
    assert tos_of(arrived) == 0x03
    before = up.b.status()["drops"]["ecn"]
    with pytest.raises(TimeoutError):
        arrives(shared_sites, (address, 7100), tos=0, seconds=0.2)
    until(lambda: up.b.status()["drops"]["ecn"] == before + 1, "the drop counted")


def test_nat_keepalives_are_ignored(shared_sites, up):
    """RFC 3948 §2.3."""
    before = up.b.status()
    to_gateway_b(shared_sites, *[udp(netns.GW_A_OUTER[0], netns.GW_B_OUTER[0], b"\xff", ports=(4500, 4500))] * 3)
    after = until(
        lambda: (now := up.b.status())["traffic"]["keepalives_in"] == before["traffic"]["keepalives_in"] + 3 and now,
        "three keepalives",
    )
    assert after["drops"] == before["drops"]
    assert after["traffic"]["packets_in"] == before["traffic"]["packets_in"]
    ping(shared_sites.host_a, netns.HOST_B[0])


def test_several_large_flows_at_once_lose_nothing(shared_sites, up):
    for address in netns.HOST_B:
        tcp_both_ways(shared_sites.host_a, shared_sites.host_b, address, 8 << 20)
    assert drops_but_of_full_queues(up.a).keys() <= {"ecn"}
