"""The MTU of the way to the peer, with a narrower link in the middle: what passes, what the sender is told, and who is believed.

hostA eth0 -- lan gwA wan == west m1 -- east (narrow) west -- m2 east == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import socket
import sys
import time
from functools import partial
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from ipsec_dp.ipsec.suites import inner_mtu, parse_suite
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns.middle import OUTER_A, WEST, build, outer
from tests.netns.traffic import echoes, ping, tcp_both_ways, until

QUICK = ("raise_s=600", "confirm_s=1", "probe_s=0.1", "quiet_s=0.1", "tick_s=0.1")
SUITE = parse_suite("aes128gcm16")
NOTHING_S = 0.3  # in which nothing happens, which is what is shown: three times tick_s


@pytest.fixture(scope="module")
def path():
    with netns.Lab() as lab:
        yield build(lab, 1500)


@pytest.fixture(autouse=True)
def forgotten(request):
    """What hosts learnt of the path from the test before."""
    if "path" in request.fixturenames:
        path = request.getfixturevalue("path")
        path.narrow(1500)
        forget(path)


def forget(path, *, gateways=True):
    """`gateways` too: what their kernels know of the outer path, which only the next ICMP message tells them again."""
    sites = path.sites
    for namespace in (sites.host_a, sites.host_b, *((sites.gw_a, sites.gw_b) if gateways else ())):
        for family in ("-4", "-6"):
            namespace.run("ip", family, "route", "flush", "cache")


def gateways(path, directory, pair, *intervals):
    made = GatewayPair(path.sites, directory, pair)
    for gateway in (made.a, made.b):
        gateway.program = (sys.executable, "-m", "tests.netns.with_intervals", *(intervals or QUICK), "--")
    return made


def ike(version=4, encapsulation="udp", tunnel=""):
    esp = ('proposals = ["aes128gcm16"]',) * 2
    return IkePair(outer=outer(version), encapsulation=encapsulation, esp=esp, tunnel=tunnel)


def manual(version=4, encapsulation="udp", tunnel=""):
    return ManualPair(outer=outer(version), encapsulation=encapsulation, suite="aes128gcm16", tunnel=tunnel)


def tunnel_of(gateway, number=0):
    return gateway.status()["tunnels"][number]


def path_mtu(gateway):
    return tunnel_of(gateway)["path_mtu"]


def fits(namespace, address, octets):
    """Whether an unfragmented echo of so many octets is answered, and what the sender is told if not."""
    header = 48 if ":" in address else 28
    options = ("-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(octets - header))
    done = namespace.run("ping", *options, address, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def sends(namespace, *addresses):
    """Traffic that makes the path tell what it takes: large packets, answered or not. Small ones, too: the sender keeps the large
    ones to itself once it was told that they do not fit, and a tunnel in which nothing moves is not probed."""
    for address in addresses:
        for octets in ("1390", "56"):
            namespace.run("ping", "-n", "-c", "2", "-i", "0.02", "-W", "0.2", "-M", "do", "-s", octets, address, check=False)


def measured(path, pair, wanted):
    """Traffic both ways until both gateways know what the path takes."""

    def known():
        sends(path.sites.host_a, *netns.HOST_B)
        sends(path.sites.host_b, *netns.HOST_A)
        return [path_mtu(pair.a), path_mtu(pair.b)] == [wanted, wanted]

    until(known, f"a path MTU of {wanted} (is {path_mtu(pair.a)}, {path_mtu(pair.b)})", 30)


def largest_passes(path, address, octets):
    forget(path, gateways=False)
    return fits(path.sites.host_a, address, octets)[0]


def exactly(path, gateway):
    """The largest packet passes, and one octet more is answered with the right MTU, over IPv4 and IPv6 inside."""
    for address, least in zip(netns.HOST_B, (0, 1280), strict=True):
        largest = max(tunnel_of(gateway)["mtu"], least)
        until(partial(largest_passes, path, address, largest), f"{largest} octets to {address}")
        passed, said = fits(path.sites.host_a, address, largest + 1)
        assert not passed
        assert f"mtu = {largest}" in said or f"mtu={largest}" in said or f"mtu: {largest}" in said, said


CASES = [(4, "udp", 1280), (4, "esp", 1400), (6, "udp", 1400), (6, "esp", 1280)]


@pytest.mark.parametrize(("version", "encapsulation", "middle"), CASES)
def test_a_narrow_middle_is_followed_and_everything_gets_through(path, tmp_path, version, encapsulation, middle):
    path.narrow(middle)
    with gateways(path, tmp_path, ike(version, encapsulation)) as pair:
        pair.a.wait_negotiated()
        for address in netns.HOST_B:
            tcp_both_ways(path.sites.host_a, path.sites.host_b, address)
        measured(path, pair, middle)
        assert tunnel_of(pair.a)["mtu"] == inner_mtu(middle, SUITE, encapsulation, version)
        exactly(path, pair.a)
        for address in netns.HOST_B:
            ping(path.sites.host_a, address, "-M", "dont", "-s", "4000")


def test_the_kernel_hears_that_bare_esp_must_be_fragmented(path, tmp_path):
    """Without IKE, whose UDP sockets hear it too: IPv6 of 1280 octets passes in fragments (RFC 8200 §5)."""
    path.narrow(1280)
    with gateways(path, tmp_path, manual(6, "esp")) as pair:
        measured(path, pair, 1280)
        until(partial(largest_passes, path, netns.HOST_B[1], 1280), "1280 octets to arrive")


@pytest.mark.parametrize("version", [4, 6])
def test_jumbo_frames_are_used_whole(lab, tmp_path, version):
    path = build(lab, 9000)
    with gateways(path, tmp_path, ike(version)) as pair:
        pair.a.wait_negotiated()
        assert tunnel_of(pair.a)["mtu"] == inner_mtu(9000, SUITE, "udp", version)
        exactly(path, pair.a)
        for address in netns.HOST_B:
            tcp_both_ways(path.sites.host_a, path.sites.host_b, address)
            ping(path.sites.host_a, address, "-M", "dont", "-s", "20000")


BLACK = """table inet black {
  chain o {
    type filter hook output priority 0;
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
  }
}"""


@pytest.mark.parametrize("version", [4, 6])
def test_a_black_hole_is_found_by_probes(path, tmp_path, version):
    path.narrow(1404)
    routers = (path.m1, path.m2)
    for router in routers:
        router.run("nft", "-f", "-", stdin=BLACK)
    try:
        with gateways(path, tmp_path, ike(version)) as pair:
            pair.a.wait_negotiated()
            measured(path, pair, 1404)
            exactly(path, pair.a)
            for address in netns.HOST_B:
                tcp_both_ways(path.sites.host_a, path.sites.host_b, address)
    finally:
        for router in routers:
            router.run("nft", "delete", "table", "inet", "black")


def test_the_mtu_falls_and_rises_while_traffic_runs(path, tmp_path):
    quick = ("raise_s=2", *QUICK[1:])
    with gateways(path, tmp_path, ike(), *quick) as pair:
        pair.a.wait_negotiated()
        measured(path, pair, 1500)
        path.narrow(1380)
        measured(path, pair, 1380)
        path.narrow(1500)
        measured(path, pair, 1500)
        exactly(path, pair.a)


def test_without_probes_it_rises_by_age(path, tmp_path):
    with gateways(path, tmp_path, manual(), "raise_s=1.5", *QUICK[1:]) as pair:
        path.narrow(1380)
        until(lambda: sends(path.sites.host_a, netns.HOST_B[0]) or "MTU 1380 octets" in pair.a.text(), "it falls", 30)
        path.narrow(1500)
        until(lambda: path_mtu(pair.a) == 1500, "the former MTU")


# ---- who is believed


def forged(version, spi, sequence, *, mtu=1300, source=None, remote=None):
    """An ICMP message to gwA as if a router on the way had sent it."""
    local, peer = outer(version)
    peer = remote or peer
    esp = spi.to_bytes(4) + sequence.to_bytes(4) + bytes(1400)
    upper = UDP(sport=4500, dport=4500) / Raw(esp)
    if version == 4:
        quoted = bytes(IP(src=source or local, dst=peer, flags="DF") / upper)
        return bytes(IP(src="198.18.0.1", dst=local) / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(quoted[:548]))
    quoted = bytes(IPv6(src=source or local, dst=peer) / upper)
    return bytes(IPv6(src="2001:db8:ffff::1", dst=local) / ICMPv6PacketTooBig(mtu=mtu) / Raw(quoted[:1200]))


def inject(path, packet):
    """From m1 to gwA."""

    def send():
        family, protocol = (socket.AF_INET, socket.IPPROTO_RAW) if packet[0] >> 4 == 4 else (socket.AF_INET6, socket.IPPROTO_RAW)
        with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
            raw.sendto(packet, (outer(packet[0] >> 4)[0], 0))

    path.m1.call(send)


@pytest.mark.parametrize("version", [4, 6])
def test_a_forged_message_changes_nothing(path, tmp_path, version):
    """Without the quoted numbers of what was just sent, it is not believed; with them it is, which is the control."""
    with gateways(path, tmp_path, manual(version), "tick_s=0.1") as pair:
        assert echoes(path.sites.host_a, netns.HOST_B[0]) == 3
        (child,) = tunnel_of(pair.a)["children"]
        spi, last = int(child["spi_out"], 16), child["sequence_out"]
        stranger = ("198.51.100.77", "2001:db8:b::77")[version == 6]
        lies = (
            forged(version, spi ^ 1, last),
            forged(version, spi, last + 1),
            forged(version, spi, 2**32 - 5),
            forged(version, spi, last, mtu=1500),
            forged(version, spi, last, mtu=68),
            forged(version, spi, last, remote=stranger),
            forged(version, spi, last, source=stranger),
        )
        for lie in lies:
            inject(path, lie)
        time.sleep(NOTHING_S)
        assert path_mtu(pair.a) == 1500
        assert fits(path.sites.host_a, netns.HOST_B[0], tunnel_of(pair.a)["mtu"])[0]
        last = tunnel_of(pair.a)["children"][0]["sequence_out"]
        inject(path, forged(version, spi, last))
        until(lambda: path_mtu(pair.a) == 1300, "the control to be believed")


def test_a_lie_by_somebody_on_the_way_is_found_out(path, tmp_path):
    """It quotes what was just sent; the peer's answer to a probe of the former size refutes it."""
    with gateways(path, tmp_path, ike()) as pair:
        pair.a.wait_negotiated()
        assert echoes(path.sites.host_a, netns.HOST_B[0]) == 3
        (child,) = tunnel_of(pair.a)["children"]
        inject(path, forged(4, int(child["spi_out"], 16), child["sequence_out"], mtu=1300))
        until(lambda: "a hop on the way says so" in pair.a.text(), "the message to be heard")
        until(lambda: path_mtu(pair.a) == 1500, "the lie to be found out")
        exactly(path, pair.a)


# ---- two peers on one interface


THIRD = """
[[tunnel]]
name = "a-to-c"
local = "{local}"
remote = "{remote}"
interface = "ipsec0"
encapsulation = "esp"
routes = "{routes}"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/24"
  remote = "10.3.0.0/24"
  [tunnel.manual_unsafe]
  suite = "aes128gcm16"
  spi_in = 0x2001
  spi_out = 0x2002
  key_in_file = "c-in.key"
  key_out_file = "c-out.key"
"""


@pytest.mark.parametrize("routes", ["auto", "none"])
def test_one_peers_small_mtu_touches_no_other(path, tmp_path, routes):
    """With routes of ours the kernel answers; without, the data plane does. The third gateway is no gateway:
    what leaves is seen."""
    for name, octet in (("c-in.key", "11"), ("c-out.key", "22")):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(octet * 20)
    made = gateways(path, tmp_path, manual(4, "esp", f'routes = "{routes}"'))
    with made.a.config.open("a") as file:
        file.write(THIRD.format(local=OUTER_A[0], remote=WEST[0], routes=routes))
    path.narrow(1400)
    host, gw_a = path.sites.host_a, path.sites.gw_a
    with made as pair:
        if routes == "none":
            gw_a.ip("route add 10.2.0.0/24 dev ipsec0", "route add 10.3.0.0/24 dev ipsec0")
            path.sites.gw_b.ip("route add 10.1.0.0/24 dev ipsec0")
        until(lambda: sends(host, netns.HOST_B[0]) or path_mtu(pair.a) == 1400, "the path to gwB")
        narrow, wide = inner_mtu(1400, SUITE, "esp", 4), inner_mtu(1500, SUITE, "esp", 4)
        assert [tunnel_of(pair.a, number)["mtu"] for number in (0, 1)] == [narrow, wide]
        until(lambda: fits(host, netns.HOST_B[0], narrow)[0], "the largest packet to hostB")
        forget(path)
        before = pair.a.status()["drops"]["mtu"]
        passed, said = fits(host, netns.HOST_B[0], narrow + 1)
        assert not passed
        assert f"mtu = {narrow}" in said, said
        assert (pair.a.status()["drops"]["mtu"] > before) == (routes == "none")
        with capture.Capture(gw_a, "wan", tmp_path / "wan") as recording:
            _, said = fits(host, "10.3.0.2", wide)
            assert "mtu" not in said
            recording.stop()
        assert max(len(packet) for _, packet in capture.read(tmp_path / "wan")) == 1500 - (1500 - 20) % 4


# ---- choices


def test_a_fixed_mtu_is_taken_as_it_is(path, tmp_path):
    with gateways(path, tmp_path, manual(tunnel="mtu = 1300")) as pair:
        assert tunnel_of(pair.a)["mtu"] == 1300
        exactly(path, pair.a)


def outer_packets(path, directory, traffic):
    with capture.Capture(path.sites.gw_a, "wan", directory / "wan.pcapng") as recording:
        traffic()
        recording.stop()
    return [packet for _, packet in capture.read(directory / "wan.pcapng")]


@pytest.mark.parametrize(("fragment", "pieces"), [("before", False), ("after", True)])
def test_fragments_before_or_after(path, tmp_path, fragment, pieces):
    with gateways(path, tmp_path, manual(tunnel=f'fragment = "{fragment}"')) as pair:
        seen = outer_packets(path, tmp_path, lambda: ping(path.sites.host_a, netns.HOST_B[0], "-M", "dont", "-s", "1472"))
        ours = [packet for packet in seen if packet[12:16] == ip_address(OUTER_A[0]).packed]
        assert any(packet[6] & 0x20 for packet in ours) == pieces
        exactly(path, pair.a)


@pytest.mark.parametrize(("df", "bit"), [("set", True), ("clear", False)])
def test_the_outer_df_bit_by_choice(path, tmp_path, df, bit):
    with gateways(path, tmp_path, manual(tunnel=f'df = "{df}"')):
        for option in ("do", "dont"):
            seen = outer_packets(path, tmp_path, lambda option=option: ping(path.sites.host_a, netns.HOST_B[0], "-M", option))
            assert {bool(packet[6] & 0x40) for packet in seen if packet[12:16] == ip_address(OUTER_A[0]).packed} == {bit}


def test_the_mss_of_connections_is_clamped_both_ways(path, tmp_path):
    with gateways(path, tmp_path, manual(tunnel='mss_clamp = "auto"')) as pair:
        mtu = tunnel_of(pair.a)["mtu"]
        for address, headers in zip(netns.HOST_B, (40, 60), strict=True):
            for host, name in ((path.sites.host_b, "b"), (path.sites.host_a, "a")):
                with capture.Capture(host, "eth0", tmp_path / f"{name}.pcapng") as recording:
                    tcp_both_ways(path.sites.host_a, path.sites.host_b, address, 1 << 16)
                    recording.stop()
                found = {mss(packet) for _, packet in capture.read(tmp_path / f"{name}.pcapng")} - {0}
                assert min(found) == mtu - headers


def mss(packet):
    """The MSS that a SYN announces, 0: no SYN."""
    if len(packet) < 40:
        return 0
    at = 20 if packet[0] >> 4 == 4 else 40
    protocol = packet[9] if at == 20 else packet[6]
    if protocol != 6 or len(packet) < at + 24 or not packet[at + 13] & 2 or packet[at + 20] != 2:
        return 0
    return int.from_bytes(packet[at + 22 : at + 24])
