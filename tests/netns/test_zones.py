"""Zones in the kernel: what `config.zone_policy` says is what happens, through a tunnel and between all kinds of interfaces."""

from __future__ import annotations

import contextlib
import itertools
import socket
from functools import partial
from ipaddress import ip_address

import pytest

from ipsec_dp.config import load
from ipsec_dp.config.zone_policy import Packet, ZonePolicy
from ipsec_dp.network.linux_host import LinuxHost
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.process import GatewayPair, ManualPair
from ipsec_dp.util.clock import SystemClock
from tests.netns import harness
from tests.netns.traffic import mac, ping, put, tcp_both_ways, udp_both_ways, udp_payload, until

TABLE = "ipsec_dp-zones_gwA"
VPN, LAN = '[[zone]]\nname = "vpn"\ninterfaces = ["ipsec0"]\n', '[[zone]]\nname = "inside"\ninterfaces = ["la*"]\n'


def rule(origin, target, *lines):
    return "\n".join((f'[[zone_rule]]\nfrom = "{origin}"\nto = "{target}"', *lines, ""))


# ---- the function and the kernel -------------------------------------------------------------------------------------------------
#
#    hosts 10.N.0.2, fd00:N::2, each behind an interface of gw:   lan0 (1), lan1 (2), ipsec0 (3), dmz (4), eth9 (5, in no zone)

INTERFACES = ("lan0", "lan1", "ipsec0", "dmz", "eth9")
EVERY_KIND = (
    *(VPN, LAN, '[[zone]]\nname = "dmz"\ninterfaces = ["dmz"]\n'),
    rule("vpn", "inside", 'destination = "10.1.0.2"', 'protocol = "udp"', 'destination_ports = "80-81"'),
    rule("vpn", "inside", 'source = "fd00:3::2"', 'protocol = "udp"', "source_ports = 5000", 'action = "deny"'),
    rule("vpn", "inside", 'source = "fd00:3::/64"'),
    rule("inside", "vpn"),
    rule("inside", "inside", 'destination = "10.2.0.0/24"', 'protocol = "udp"', "destination_ports = 79", 'action = "deny"'),
    rule("vpn", "gateway", 'protocol = "udp"', "destination_ports = 80"),
    rule("dmz", "gateway", 'protocol = "udp"', 'destination_ports = "79-80"', 'action = "deny"'),
    rule("gateway", "vpn", 'destination = "fd00:3::/64"'),
    rule("dmz", "inside", 'protocol = "tcp"'),
)
PORTS = (79, 80, 82)
FIXED_PORT = 5000


def host_address(number, version):
    return f"10.{number}.0.2" if version == 4 else f"fd00:{number}::2"


def gateway_address(number, version):
    return f"10.{number}.0.1" if version == 4 else f"fd00:{number}::1"


@pytest.fixture
def star(lab):
    """gw and a host behind each of INTERFACES."""
    gateway = lab.namespace("gw", forwarding=True)
    hosts = []
    for number, interface in enumerate(INTERFACES, 1):
        host = lab.namespace(f"h{number}")
        ends = [tuple(f"{each(number, v)}/{24 if v == 4 else 64}" for v in (4, 6)) for each in (gateway_address, host_address)]
        lab.link(netns.Port(gateway, interface, ends[0]), netns.Port(host, "eth0", ends[1]))
        host.ip(f"route add default via 10.{number}.0.1", f"route add default via fd00:{number}::1")
        for version in (4, 6):
            until(partial(harness.pings, host, gateway_address(number, version)), "neighbours that know each other")
        # For good: ipsec0 stands for a tunnel here, and zones let no neighbour discovery through one.
        known = f"lladdr {mac(host, 'eth0').hex(':')} dev {interface} nud permanent"
        gateway.ip(*(f"neighbour replace {host_address(number, version)} {known}" for version in (4, 6)))
        hosts.append(host)
    return gateway, hosts


def configured(directory, *tables, gateway="gwA"):
    """A configuration with a tunnel on ipsec0 that nobody negotiates, and these tables."""
    (directory / "x.psk").touch(mode=0o600)
    (directory / "x.psk").write_text("correct horse battery staple\n")
    file = directory / "zones.toml"
    file.write_text(
        f'[gateway]\nname = "{gateway}"\n[[tunnel]]\nname = "x"\nremote = "192.0.2.2"\n[tunnel.auth]\npsk_file = "x.psk"\n'
        + "".join(tables)
    )
    return load(file)


def applied(gateway, config):
    harness.run(gateway, lambda: LinuxHost(config, SystemClock()).guard.apply_zones(config))


def listeners():
    made = []
    for family, port in itertools.product((socket.AF_INET, socket.AF_INET6), PORTS):
        each = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        each.bind(("", port))
        each.setblocking(False)
        made.append(each)
    return made


def drained(sockets):
    """What arrived at sockets, which are closed."""
    for each in sockets:
        with each:
            try:
                while True:
                    yield each.recv(100)
            except BlockingIOError:
                pass


def test_the_kernel_decides_as_the_function_says(star, tmp_path):
    """Every interface to every other, and from and to the gateway itself: about 200 flows, each judged by both."""
    gateway, hosts = star
    config = configured(tmp_path, *EVERY_KIND)
    ends = [*range(1, len(hosts) + 1), 0]  # 0: the gateway
    flows = [
        (*flow, FIXED_PORT if flow[3] == PORTS[0] else 20000 + index)  # a port for each: none is another's reply
        for index, flow in enumerate(itertools.product(ends, ends, (4, 6), PORTS))
        if flow[0] != flow[1]
    ]

    def addresses(origin, target, version):
        source = host_address(origin, version) if origin else gateway_address(target, version)
        return source, host_address(target, version) if target else gateway_address(origin, version)

    def arrived(name):
        sockets = gateway.call(listeners)
        recordings = [capture.Capture(host, "eth0", tmp_path / f"{name}-{host.label}") for host in hosts]
        for each in recordings:
            each.start()
        for origin, target, version, port, source_port in flows:
            source, destination = addresses(origin, target, version)
            payload = f"{origin}>{target} {version} {port}".encode()
            if origin:
                packet = udp(source, destination, payload, ports=(source_port, port))
                put(hosts[origin - 1], "eth0", mac(gateway, INTERFACES[origin - 1]), packet)
            else:
                from_gateway(gateway, source_port, (destination, port), payload)
        for host in hosts:
            harness.settle(host, "eth0")
        seen = set(drained(sockets))
        for each, host in zip(recordings, hosts, strict=True):
            each.stop()
            frames = (packet for _, packet in capture.read(tmp_path / f"{name}-{host.label}") if capture.kind(packet) == "udp")
            seen |= {payload for payload in map(udp_payload, frames) if f">{host.label[1:]} ".encode() in payload}
        return {tuple(map(int, text.replace(b">", b" ").split())) for text in seen}

    def judged(origin, target, version, port, source_port):
        source, destination = map(ip_address, addresses(origin, target, version))
        packet = Packet(source, destination, 17, source_port, port)
        ways = [None if not end else INTERFACES[end - 1] for end in (origin, target)]
        return ZonePolicy(config).judge(packet, *ways).allowed

    everything = {flow[:4] for flow in flows}
    assert arrived("control") == everything
    applied(gateway, config)
    assert arrived("zones") == {flow[:4] for flow in flows if judged(*flow)}


def from_gateway(gateway, source_port, to, payload):
    def send():
        with socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM) as each:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("", source_port))
            with contextlib.suppress(PermissionError):  # what the output hook drops is told to the sender
                each.sendto(payload, to)

    gateway.call(send)


# ---- through a tunnel ------------------------------------------------------------------------------------------------------------
#
#    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB          zones on gwA only

A_ASKS = (
    *(VPN, LAN),
    rule("inside", "vpn", 'protocol = "udp"', "destination_ports = 7000"),
    rule("inside", "vpn", 'protocol = "tcp"', "destination_ports = 7000"),
    rule("inside", "vpn", 'protocol = "icmp"'),
    rule("vpn", "inside", 'protocol = "udp"', "destination_ports = 7009", 'action = "deny"', "log = true"),
)


@pytest.fixture
def sites(shared_sites):
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


@pytest.fixture
def pair(sites, tmp_path):
    """Both gateways, not started; gwA with the zones of A_ASKS."""
    made = GatewayPair(sites, tmp_path, ManualPair())
    made.a.config.write_text(made.a.config.read_text() + "".join(A_ASKS))
    yield made
    made.a.kill()
    made.b.kill()


def zone_status(gateway):
    return gateway.status()["zones"]


def opened(gateway):
    return gateway.status()["traffic"]["packets_in"]


def tables(namespace):
    return namespace.run("nft", "list", "tables").stdout


def test_what_a_rule_allows_passes_with_its_replies_and_nothing_else_does(sites, pair):
    a, b = netns.HOST_A[0], netns.HOST_B[0]
    pair.start()
    udp_both_ways(sites.host_a, sites.host_b, b)
    tcp_both_ways(sites.host_a, sites.host_b, b)
    ping(sites.host_a, b)
    assert zone_status(pair.a)["denied"] == 0
    assert [row["packets"] > 0 for row in zone_status(pair.a)["rules"]] == [True, True, True, False]

    assert not harness.pings(sites.host_b, a)
    assert not harness.pings(sites.host_b, netns.GW_A_INNER[0]), "the gateway itself is a zone too"
    assert not harness.pings(sites.host_a, netns.HOST_B[1]), 'protocol = "icmp" is of IPv4'
    until(lambda: zone_status(pair.a)["denied"] == 3, "each is counted")


def test_denied_arrives_nowhere_and_the_same_packets_arrive_without_zones(sites, pair, tmp_path):
    def asked(name, came):
        def send():
            for port in (7008, 7009):
                harness.send_udp(sites.host_b, (netns.HOST_A[0], port), capture.MARKER)
            until(came, "both have come through the tunnel")

        return harness.crossed(sites.gw_a, "lan", tmp_path / name, send).packets["udp"]

    def denied():
        return zone_status(pair.a)["denied"], zone_status(pair.a)["rules"][3]["packets"]

    pair.start()
    assert asked("zones", lambda: denied() == (1, 1)) == 0
    pair.a.config.write_text(pair.a.config.read_text().partition("[[zone]]")[0])
    pair.a.ask("reload")
    before = opened(pair.a)
    assert asked("control", lambda: opened(pair.a) == before + 2) == 2


def test_zones_that_somebody_deletes_are_there_again_and_it_is_told(sites, pair):
    pair.start()
    harness.send_udp(sites.host_b, (netns.HOST_A[0], 7008))
    denied = until(lambda: zone_status(pair.a)["denied"], "a packet that is denied")
    sites.gw_a.run("nft", "delete", "table", "inet", TABLE)
    until(lambda: pair.a.status()["restored"]["zones"] == 1, "the zones made again")
    said = f"WARNING the zones (nftables table inet {TABLE}): was deleted by nft, and made again at once"
    until(lambda: said in pair.a.text(), "it is in the log")
    harness.send_udp(sites.host_b, (netns.HOST_A[0], 7008))
    until(lambda: zone_status(pair.a)["denied"] == denied + 1, "the next one, counted on")


def test_a_denied_packet_is_logged_with_the_rule(sites, pair):
    pair.start()
    harness.send_udp(sites.host_b, (netns.HOST_A[0], 7008), source_port=7777)  # no rule, no log
    harness.send_udp(sites.host_b, (netns.HOST_A[0], 7009), source_port=7777)
    line = 'zone_rule #4 denies from "vpn" to "inside": 10.2.0.2/32[17/7777] -> 10.1.0.2/32[17/7009]'
    until(lambda: line in pair.a.text(), "the line")
    assert "7008" not in pair.a.text()


def test_the_table_is_there_before_the_interface_holds_after_a_kill_and_goes_with_the_gateway(sites, pair, tmp_path):
    pair.start()
    pair.a.kill()
    assert TABLE in tables(sites.gw_a)
    pair.a.start()
    pair.a.wait_up()
    assert not harness.pings(sites.host_b, netns.HOST_A[0])
    until(lambda: zone_status(pair.a)["denied"] == 1, "it is counted")
    assert pair.stop() == (0, 0)
    assert "zones" not in tables(sites.gw_a)


def test_a_start_without_zones_takes_away_those_of_a_killed_one(sites, pair, tmp_path):
    pair.start()
    pair.a.kill()
    pair.a.config.write_text(pair.a.config.read_text().partition("[[zone]]")[0])
    pair.a.start()
    pair.a.wait_up()
    assert "zones" not in tables(sites.gw_a)
    assert zone_status(pair.a) is None
    ping(sites.host_b, netns.HOST_A[0])


def test_a_rule_taken_away_ends_the_flow_that_it_allowed(sites, pair):
    """What both configurations allow goes on."""
    pair.start()
    text = pair.a.config.read_text()
    b = netns.HOST_B[0]
    with sites.host_b.call(lambda: bound((b, 7000))) as there, sites.host_a.call(lambda: bound(("", 0))) as here:

        def question():
            here.sendto(b"question", (b, 7000))
            try:
                return there.recvfrom(100)[1]
            except TimeoutError:
                return None

        peer = until(question, "a question")
        there.sendto(b"answer", peer)
        assert until(partial(heard, here), "the answer") == b"answer", "now the kernel calls it established"
        without = [table for table in A_ASKS if "udp" not in table or "deny" in table]
        pair.a.config.write_text(text.removesuffix("".join(A_ASKS)) + "".join(without))
        pair.a.ask("reload")
        assert question() is None
        ping(sites.host_a, b)
        pair.a.config.write_text(text)
        pair.a.ask("reload")
        until(question, "the flow again")


def heard(receiver):
    with contextlib.suppress(TimeoutError):
        return receiver.recv(100)


def bound(address):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(0.5)
    made.bind(address)
    return made
