"""What outer headers say and what becomes of it at the far end: DSCP (RFC 2983), ECN (RFC 6040), hop limit, flow label. By capture.

hostA eth0 -- lan gwA wan == west m1 -- east west -- m2 east == wan gwB lan -- eth0 hostB

m1 writes into outer headers what a congested or meddling router would.
"""

from __future__ import annotations

import contextlib
import socket
import time
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from typing import NamedTuple

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns import harness
from tests.netns.middle import build, outer
from tests.netns.traffic import ping, tcp_both_ways, until

EF = 46  # RFC 3246
NOT_ECT, ECT1, ECT0, CE = range(4)  # RFC 3168 §5
# By what arrives outside, what becomes of an inner packet with NOT_ECT, ECT1, ECT0, CE (RFC 6040 figure 4). None: is dropped.
MERGED = {
    "not-ect": (NOT_ECT, ECT1, ECT0, CE),
    "ect1": (NOT_ECT, ECT1, ECT1, CE),
    "ect0": (NOT_ECT, ECT1, ECT0, CE),
    "ce": (None, CE, CE, CE),
}
CODE = {"not-ect": NOT_ECT, "ect1": ECT1, "ect0": ECT0, "ce": CE}
IP_TOS, IPV6_TCLASS, UDP_SEGMENT = 1, 67, 103  # <linux/in.h>, <linux/in6.h>, <linux/udp.h>
# Level; options that set and tell the TOS or traffic class; that sets the hop limit.
FIELDS = {
    4: (socket.IPPROTO_IP, IP_TOS, socket.IP_RECVTOS, socket.IP_TTL),
    6: (socket.IPPROTO_IPV6, IPV6_TCLASS, socket.IPV6_RECVTCLASS, socket.IPV6_UNICAST_HOPS),
}
PROXY_IDS = tuple(zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True))
PORT = 7000
POLL_S, LATE_S = 0.05, 10.0

WAYS = [
    (version, encapsulation, offloads) for version in (4, 6) for encapsulation in ("udp", "esp") for offloads in ("all", "none")
]
every_way = pytest.mark.parametrize(("version", "encapsulation", "offloads"), WAYS)
both_versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def path():
    with netns.Lab() as lab:
        made = build(lab, 1500)
        for host in (made.sites.host_a, made.sites.host_b):
            host.sysctl(("net/ipv4/tcp_ecn", "1"))
        yield made


def gateways(path, directory, version, encapsulation="udp", offloads="all", tunnel=""):
    gateway = f'offloads = "{offloads}"'
    pair = ManualPair(outer=outer(version), encapsulation=encapsulation, gateway=gateway, tunnel=tunnel)
    return GatewayPair(path.sites, directory, pair)


# ---- what is sent, and what arrives


def opened(address, *, hops=0):
    """A UDP socket of the address's family and what TOS and hop limit are called there."""
    family, version = (socket.AF_INET6, 6) if ":" in address else (socket.AF_INET, 4)
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(POLL_S)
    level, _, told, hop_limit = FIELDS[version]
    made.setsockopt(level, told, 1)
    if hops:
        made.setsockopt(level, hop_limit, hops)
    return made


def bound(address):
    made = opened(address)
    made.bind((address, PORT))
    return made


def told_tos(ancillary):
    return next(value[0] for level, kind, value in ancillary if (level, kind) in ((0, IP_TOS), (41, IPV6_TCLASS)))


def arrived(there, count, dropped):
    """By number, the TOS of each of `count` datagrams; None for those that did not come: `dropped` tells how many so far."""
    found, deadline = [None] * count, time.monotonic() + LATE_S
    while found.count(None) > dropped() and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            while None in found:
                data, ancillary, _, _ = there.recvmsg(4096, 256)
                found[data[0]] = told_tos(ancillary)
    return found


def exchange(path, address, toses, *, octets=200, hops=0, dropped=int):
    """A datagram of each TOS from hostA, its number in front; the TOS of each at hostB, as of `arrived`."""
    level, option, _, _ = FIELDS[6 if ":" in address else 4]
    with (
        path.sites.host_b.call(partial(bound, address)) as there,
        path.sites.host_a.call(partial(opened, address, hops=hops)) as here,
    ):
        for number, tos in enumerate(toses):
            here.setsockopt(level, option, tos)
            here.sendto(bytes((number,)) + bytes(octets - 1), (address, PORT))
        return arrived(there, len(toses), dropped)


def exchange_run(path, address, tos, count, dropped, octets=1000):
    """As `exchange`, in one send that leaves hostA as a super-packet."""
    level, option, _, _ = FIELDS[6 if ":" in address else 4]
    with path.sites.host_b.call(partial(bound, address)) as there, path.sites.host_a.call(partial(opened, address)) as here:
        here.setsockopt(level, option, tos)
        here.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, octets)
        here.sendto(b"".join(bytes((number,)) + bytes(octets - 1) for number in range(count)), (address, PORT))
        return arrived(there, count, dropped)


class Header(NamedTuple):
    tos: int
    hops: int
    label: int
    sequence: int  # of ESP
    octets: int


def header(packet):
    if packet[0] >> 4 == 4:
        tos, hops, label, at = packet[1], packet[8], 0, 20
    else:
        first = int.from_bytes(packet[:4])
        tos, hops, label, at = first >> 20 & 0xFF, packet[7], first & 0xFFFFF, 40
    at += 8 if capture.kind(packet) == "esp-udp" else 0
    return Header(tos, hops, label, int.from_bytes(packet[at + 4 : at + 8]), len(packet))


@contextmanager
def outside(namespace, interface, file, version):
    """The list of outer headers of gwA's ESP packets that cross an interface meanwhile, there when the block is left."""
    found: list[Header] = []
    source = ip_address(outer(version)[0]).packed
    with capture.Capture(namespace, interface, file) as recording:
        yield found
        harness.settle(namespace, interface)
        recording.stop()
    for _, packet in capture.read(file):
        if capture.kind(packet) in ("esp", "esp-udp") and (packet[12:16] if version == 4 else packet[8:24]) == source:
            found.append(header(packet))


# ---- marks on the way


@contextmanager
def marking(path, version, *statements):
    """m1 changes outer headers: `statements` in nft's words, IP standing for the protocol's name there."""
    ip = "ip" if version == 4 else "ip6"
    source = f"{ip} saddr {outer(version)[0]}"
    rules = "".join(f"{source} {statement.replace('IP', ip)}\n" for statement in statements)
    text = f"table inet marks {{\nchain forward {{\ntype filter hook forward priority 0;\n{rules}}}\n}}\n"
    path.m1.run("nft", "-f", "-", stdin=text)
    try:
        yield
    finally:
        path.m1.run("nft", "delete", "table", "inet", "marks")


def ecn_drops(gateway):
    return gateway.status()["drops"]["ecn"]


def ecn_drops_since(gateway):
    """Tells how many there were from now on."""
    before = ecn_drops(gateway)
    return lambda: ecn_drops(gateway) - before


# ---- what leaves


@every_way
def test_dscp_ecn_and_hop_limit_are_copied(path, tmp_path, version, encapsulation, offloads):
    toses = [0, EF << 2 | ECT0, 8 << 2 | ECT1, 10 << 2 | CE, 63 << 2]
    with gateways(path, tmp_path, version, encapsulation, offloads, 'hop_limit = "copy"'):
        for address in netns.HOST_B:
            with outside(path.sites.gw_a, "wan", tmp_path / "wan", version) as seen:
                assert exchange(path, address, toses, hops=33) == toses
            assert [each.tos for each in seen] == toses
            assert {(each.hops, each.label) for each in seen} == {(32, 0)}


@every_way
def test_what_is_configured_is_written(path, tmp_path, version, encapsulation, offloads):
    """Compatibility mode: never ECN-capable outside, whatever is inside. The flow label is the flow's, zero over IPv4."""
    lines = f'dscp = {EF}\necn = "compatibility"\nhop_limit = 77\nflow_label = "flow"'
    toses = [0, ECT0, 8 << 2 | ECT1, 63 << 2 | CE]
    labels = []
    with gateways(path, tmp_path, version, encapsulation, offloads, lines):
        for address in (*netns.HOST_B, netns.HOST_B[0]):
            with outside(path.sites.gw_a, "wan", tmp_path / "wan", version) as seen:
                assert exchange(path, address, toses) == toses
            assert {(each.tos, each.hops) for each in seen} == {(EF << 2, 77)}
            labels.append({each.label for each in seen})
    assert [len(each) for each in labels] == [1, 1, 1]  # one flow, one label
    assert len(set.union(*labels)) == (1 if version == 4 else 3)
    assert ({0} in labels) == (version == 4)


@both_versions
def test_the_host_chooses_hop_limit_and_no_flow_label_by_default(path, tmp_path, version):
    with gateways(path, tmp_path, version):
        with outside(path.sites.gw_a, "wan", tmp_path / "wan", version) as seen:
            exchange(path, netns.HOST_B[0], [0], hops=33)
        assert [(each.tos, each.hops, each.label) for each in seen] == [(0, 64, 0)]


# ---- what arrives


@every_way
def test_congestion_met_outside_arrives_inside(path, tmp_path, version, encapsulation, offloads):
    with gateways(path, tmp_path, version, encapsulation, offloads) as pair:
        for word, merged in MERGED.items():
            with (
                marking(path, version, f"IP ecn set {word}"),
                outside(path.m2, "east", tmp_path / "east", version) as seen,
            ):
                for address in netns.HOST_B:
                    dropped = ecn_drops_since(pair.b)
                    assert exchange(path, address, [EF << 2 | ecn for ecn in range(4)], dropped=dropped) == [
                        None if ecn is None else EF << 2 | ecn for ecn in merged
                    ]
                    assert dropped() == merged.count(None)
            assert {each.tos for each in seen} == {EF << 2 | CODE[word]}  # the marks were made


@pytest.mark.parametrize(
    ("version", "encapsulation", "offloads"), [(4, "udp", "all"), (6, "udp", "none"), (4, "esp", "none"), (6, "esp", "all")]
)
@pytest.mark.parametrize("choice", ["keep", "copy"])
def test_the_inner_dscp_is_kept_or_that_of_the_outer_header(path, tmp_path, version, encapsulation, offloads, choice):
    toses = [0, EF << 2 | ECT0, 63 << 2 | CE]
    rewritten = [8 << 2 | tos & 3 for tos in toses]
    with gateways(path, tmp_path, version, encapsulation, offloads, f'dscp_in = "{choice}"'):
        for address in netns.HOST_B:
            assert exchange(path, address, toses) == toses
            with marking(path, version, "IP dscp set cs1"):
                assert exchange(path, address, toses) == (rewritten if choice == "copy" else toses)


# ---- several workers, and a reload


def two_tunnels(path, directory):
    """One for IPv4 and one for IPv6, so that each of two workers has one."""
    made = GatewayPair(path.sites, directory, IkePair(outer=outer(4), gateway="workers = 2", proxy_ids=PROXY_IDS[:1]))
    for gateway in (made.a, made.b):
        _, _, text = gateway.config.read_text().partition("[[tunnel]]\n")
        for old, new in (("-to-", "-to-second-"), ('id = "gw-', 'id = "second-'), *zip(*PROXY_IDS, strict=True)):
            text = text.replace(old, new)
        with gateway.config.open("a") as file:
            file.write(f"[[tunnel]]\n{text}")
    return made


def test_both_workers_follow_the_path_and_a_reload(path, tmp_path):
    host, gw_a = path.sites.host_a, path.sites.gw_a
    with two_tunnels(path, tmp_path) as pair:

        def toses():
            with outside(gw_a, "wan", tmp_path / "wan", 4) as seen:
                assert [exchange(path, address, [ECT0]) for address in netns.HOST_B] == [[ECT0]] * 2
            return [each.tos for each in seen]

        def largest():
            """What each tunnel says its MTU is, where so many octets pass and one more does not."""
            mtus = [each["mtu"] for each in pair.a.status()["tunnels"]]
            ends = tuple(zip(netns.HOST_B, mtus, strict=True))
            return mtus if all(fits(host, to, mtu) and not fits(host, to, mtu + 1) for to, mtu in ends) else None

        pair.a.wait_negotiated()
        assert toses() == [ECT0] * 2
        assert [worker["packets_out"] for worker in pair.a.status()["workers"]] == [1, 1]
        wide = until(largest, "the MTU of each")
        path.narrow(1400)
        try:
            narrow = until(lambda: (found := largest()) != wide and found, "the path to be followed")
        finally:
            path.narrow(1500)
        assert narrow == [mtu - 100 for mtu in wide]
        pair.a.config.write_text(pair.a.config.read_text().replace("[[tunnel]]\n", f"[[tunnel]]\nmtu = 1300\ndscp = {EF}\n"))
        changed = pair.a.ask("reload")["changed"]
        assert [each["effect"] for each in changed] == ["in place"] * 2
        assert toses() == [EF << 2 | ECT0] * 2
        until(lambda: largest() == [1300, 1300], "the MTU that is configured")


def fits(host, address, octets):
    header = 48 if ":" in address else 28
    ping = ("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", str(octets - header), address)
    return host.run(*ping, check=False).returncode == 0


# ---- aggregates


@pytest.fixture
def aggregating(path):
    """gwB's kernel joins what arrives within some milliseconds, as a network card's driver lets it; each packet travels alone."""
    gw_a, gw_b = path.sites.gw_a, path.sites.gw_b
    settings = ((gw_a, "wan"), (path.m1, "east"), (path.m2, "east"))
    for namespace, interface in settings:
        namespace.run("ethtool", "-K", interface, "tso", "off", "gso", "off", "tx-udp-segmentation", "off")
    gw_b.run("ethtool", "-K", "wan", "gro", "on")
    gw_b.run("sh", "-c", "echo 5000000 > /sys/class/net/wan/gro_flush_timeout")
    yield
    gw_b.run("sh", "-c", "echo 0 > /sys/class/net/wan/gro_flush_timeout")
    gw_b.run("ethtool", "-K", "wan", "gro", "off")
    for namespace, interface in settings:
        namespace.run("ethtool", "-K", interface, "tso", "on", "gso", "on", "tx-udp-segmentation", "on")


@both_versions
@pytest.mark.parametrize("address", netns.HOST_B)
def test_each_datagram_of_an_aggregate_has_its_own_mark(path, tmp_path, aggregating, version, address):
    """The kernel joins datagrams whose outer headers say the same, and no others."""
    count = 40
    with gateways(path, tmp_path, version) as pair:
        for inner in (ECT0, NOT_ECT):
            dropped = ecn_drops_since(pair.b)
            with (
                marking(path, version, "numgen inc mod 3 == 0 IP ecn set ce"),
                outside(path.m2, "east", tmp_path / "east", version) as sent,
                outside(path.sites.gw_b, "wan", tmp_path / "wan", version) as received,
            ):
                got = exchange_run(path, address, inner, count, dropped)
            marks = [each.tos for each in sorted(sent, key=lambda each: each.sequence)]
            assert len(marks) == count
            assert set(marks) == {inner, CE}
            assert got == [MERGED["ce"][inner] if mark == CE else inner for mark in marks]
            assert dropped() == got.count(None)
            assert len(received) < count  # there were aggregates


@both_versions
def test_flows_of_different_dscp_do_not_take_each_others(path, tmp_path, aggregating, version):
    """`dscp_in = "copy"` shows what the gateway read of each."""
    with gateways(path, tmp_path, version, tunnel='dscp_in = "copy"'):
        for toses in ([0, EF << 2] * 10, [EF << 2] * 10 + [8 << 2] * 10, [ECT0, CE, ECT0, ECT1] * 5):
            with outside(path.sites.gw_b, "wan", tmp_path / "wan", version) as received:
                assert exchange(path, netns.HOST_B[0], toses) == toses
            changes = 1 + sum(one != other for one, other in pairwise(toses))
            assert changes <= len(received)
        with outside(path.sites.gw_b, "wan", tmp_path / "wan", version) as received:
            exchange(path, netns.HOST_B[0], [0] * 20)
        assert len(received) < 20  # what says the same is joined


@both_versions
@pytest.mark.parametrize("address", netns.HOST_B)
def test_a_connection_hears_of_every_mark(path, tmp_path, aggregating, version, address):
    """One in 20 of a stream's ECN-capable packets is marked outside, and as many arrive marked inside, of whatever aggregate."""
    sites = path.sites
    sites.gw_b.run("ethtool", "-K", "lan", "tso", "off", "gso", "off", "tx-udp-segmentation", "off")
    host = tmp_path / "host"
    try:
        with gateways(path, tmp_path, version) as pair:
            ping(sites.host_a, address)
            with (
                marking(path, version, "IP ecn ect0 numgen inc mod 20 == 0 IP ecn set ce"),
                capture.Capture(sites.host_b, "eth0", host) as inside,
                outside(path.m2, "east", tmp_path / "east", version) as sent,
                outside(sites.gw_b, "wan", tmp_path / "wan", version) as received,
            ):
                tcp_both_ways(sites.host_a, sites.host_b, address, 4 << 20)
                harness.settle(sites.host_b, "eth0")
                inside.stop()
            assert ecn_drops(pair.b) == 0
    finally:
        sites.gw_b.run("ethtool", "-K", "lan", "tso", "on", "gso", "on", "tx-udp-segmentation", "on")
    source = ip_address(netns.HOST_A[":" in address]).packed
    arrived_marks = [
        each.tos
        for _, packet in capture.read(host)
        if packet[:1] and packet[0] >> 4 in (4, 6) and source in (packet[12:16], packet[8:24])
        for each in (header(packet),)
    ]
    marked = sum(each.tos & 3 == CE for each in sent)
    assert marked > 20
    assert sum(tos & 3 == CE for tos in arrived_marks) == marked
    assert len(received) < len(sent)  # there were aggregates
