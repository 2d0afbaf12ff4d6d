"""IKE and ESP through a NAT, and peers that are found by name, by list, or not at all before they call.

    hostA eth0 -- lan gwA wan -- in router out -- wan gwB lan -- eth0 hostB
                      10.0.0.1  10.0.0.254  192.0.2.254      192.0.2.2

The router hides gwA behind 192.0.2.254. gwB cannot call gwA.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.netns import Lab, Port, TwoSites
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.traffic import ping, until

INSIDE, ROUTER_IN, ROUTER_OUT, OUTSIDE = "10.0.0.1", "10.0.0.254", "192.0.2.254", netns.GW_B_OUTER[0]
HOST_B = netns.HOST_B[0]
KEEPALIVE_SECONDS = 23.0  # RFC 3948 §4: every 20
PROXY_IDS = ((netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]),)
MASQUERADE = """table ip nat {{
  chain out {{
    type nat hook postrouting priority srcnat
    oifname "out" ip protocol udp masquerade to :{ports}
  }}
}}"""


def masquerade(router, ports):
    """UDP's source ports are taken from `ports`; what was mapped before is forgotten with the interface."""
    router.run("nft", "flush", "ruleset")
    router.run("nft", MASQUERADE.format(ports=ports))
    router.ip("link set out down", "link set out up")


@pytest.fixture(scope="module")
def topology():
    """Both sites with the router between them: (sites, router)."""
    with Lab() as lab:
        sites = TwoSites(
            lab.namespace("hostA"),
            lab.namespace("gwA", forwarding=True),
            lab.namespace("gwB", forwarding=True),
            lab.namespace("hostB"),
        )
        router = lab.namespace("router", forwarding=True)
        lab.link(Port(sites.host_a, "eth0", (f"{netns.HOST_A[0]}/24",)), Port(sites.gw_a, "lan", (f"{netns.GW_A_INNER[0]}/24",)))
        lab.link(Port(sites.gw_a, "wan", (f"{INSIDE}/24",)), Port(router, "in", (f"{ROUTER_IN}/24",)))
        lab.link(Port(router, "out", (f"{ROUTER_OUT}/24",)), Port(sites.gw_b, "wan", (f"{OUTSIDE}/24",)))
        lab.link(Port(sites.gw_b, "lan", (f"{netns.GW_B_INNER[0]}/24",)), Port(sites.host_b, "eth0", (f"{netns.HOST_B[0]}/24",)))
        sites.host_a.ip(f"route add default via {netns.GW_A_INNER[0]}")
        sites.gw_a.ip(f"route add default via {ROUTER_IN}")
        sites.host_b.ip(f"route add default via {netns.GW_B_INNER[0]}")
        masquerade(router, "20000-29999")
        yield sites, router


@pytest.fixture
def pair(topology, tmp_path):
    """Starts both gateways; `change` edits a configuration before, by the gateway's name."""
    sites, _ = topology
    with contextlib.ExitStack() as stack:

        def pair(change=lambda _name, text: text, **settings):
            settings.setdefault("outer", (INSIDE, OUTSIDE))
            gateways = GatewayPair(sites, tmp_path, IkePair(proxy_ids=PROXY_IDS, **settings))
            for gateway in (gateways.a, gateways.b):
                gateway.config.write_text(change(gateway.config.stem, gateway.config.read_text()))
            return stack.enter_context(gateways)

        yield pair


def any_peer(name, text):
    """gwB does not know from where it is called."""
    return text.replace(f'remote = "{INSIDE}"', 'remote = "any"') if name == "gwB" else text


@pytest.fixture
def hosts(topology):
    """gwA's hosts file, the only source of its names: `ip netns exec` puts what lies in /etc/netns over /etc."""
    directory = Path("/etc/netns", topology[0].gw_a.name)
    directory.mkdir(parents=True)
    (directory / "nsswitch.conf").write_text("hosts: files\n")
    (directory / "hosts").write_text("127.0.0.1 localhost\n")
    yield directory / "hosts"
    shutil.rmtree(directory)
    with contextlib.suppress(OSError):
        directory.parent.rmdir()  # unless others have something there


def calls(remote):
    """gwA calls `remote`, a value of TOML."""
    return lambda name, text: any_peer(name, text.replace(f'remote = "{OUTSIDE}"', f"remote = {remote}") if name == "gwA" else text)


def tunnel(gateway):
    (only,) = gateway.status()["tunnels"]
    return only


VERSIONS = {"IKEv2": ("", ""), "IKEv1": ('  version = "1"', '  version = "1"')}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_nat_is_found_and_passed_in_udp(topology, pair, tmp_path, version):
    sites, _ = topology
    with capture.Capture(sites.gw_b, "wan", tmp_path / "wan") as recording:
        gateways = pair(any_peer, ike=VERSIONS[version])
        gateways.a.wait_negotiated()
        gateways.b.wait_negotiated()
        ping(sites.host_a, HOST_B)
        ping(sites.host_b, netns.HOST_A[0])
        recording.stop()
    assert (tunnel(gateways.a)["nat"], tunnel(gateways.b)["nat"]) == ("local", "remote")
    assert tunnel(gateways.b)["remote"] == ROUTER_OUT
    packets = (packet for _, packet in capture.read(tmp_path / "wan") if capture.kind(packet) not in capture.LINK_KINDS)
    assert {packet[9] for packet in packets if packet[0] >> 4 == 4} <= {1, 17}
    assert capture.scan(tmp_path / "wan").packets.get("esp-udp", 0) >= 6


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_mapping_of_the_nat_is_followed(topology, pair, version):
    sites, router = topology
    gateways = pair(any_peer, ike=VERSIONS[version])
    gateways.a.wait_negotiated()
    gateways.b.wait_negotiated()
    ping(sites.host_a, HOST_B)
    spis = {child["spi_in"] for child in tunnel(gateways.b)["children"]}
    masquerade(router, "30000-39999")

    def followed():
        """Once a packet has passed: after a change of its state a link takes a while until it carries again."""
        sites.host_a.run("ping", "-n", "-q", "-c", "1", "-W", "0.2", HOST_B, check=False)
        return "changed the mapping" in gateways.b.text()

    until(followed, "gwB follows")
    ping(sites.host_a, HOST_B)
    ping(sites.host_b, netns.HOST_A[0])
    assert {child["spi_in"] for child in tunnel(gateways.b)["children"]} == spis  # nothing was negotiated anew
    masquerade(router, "20000-29999")


def test_the_local_address_follows_the_route(topology, pair):
    sites, _ = topology

    def unset(name, text):
        return any_peer(name, text.replace(f'local = "{INSIDE}"\n', "").replace(f'local = "{OUTSIDE}"\n', ""))

    gateways = pair(unset)
    gateways.a.wait_negotiated()
    gateways.b.wait_negotiated()
    ping(sites.host_a, HOST_B)


def test_a_list_is_gone_through_until_one_answers(topology, hosts, pair):
    """The first has no route, the second no address."""
    sites, _ = topology
    sites.gw_a.ip("route add unreachable 198.51.100.0/24")
    try:
        gateways = pair(calls(f'["198.51.100.1", "nowhere.invalid", "{OUTSIDE}"]'))
        gateways.a.wait_negotiated()
    finally:
        sites.gw_a.ip("route del unreachable 198.51.100.0/24")
    until(lambda: "nowhere.invalid has no address" in gateways.a.text(), "it is in the log")
    assert tunnel(gateways.a)["remote"] == OUTSIDE
    ping(sites.host_a, HOST_B)


def test_a_name_is_resolved_when_it_is_called(topology, hosts, pair):
    sites, _ = topology
    gateways = pair(calls('"gw-b.test"'))
    until(lambda: "gw-b.test has no address" in (tunnel(gateways.a)["last_error"] or ""), "the name is unknown")
    with hosts.open("a") as file:
        file.write(f"{OUTSIDE} gw-b.test\n")
    gateways.a.wait_negotiated()
    ping(sites.host_a, HOST_B)


@pytest.mark.slow  # 12 seconds in which nobody answers
def test_every_address_of_a_name_is_tried(topology, hosts, pair):
    """The first has a route, and nobody there; the second none; the third is the peer's."""
    sites, _ = topology
    sites.gw_a.ip("route add unreachable 198.51.100.0/24")
    try:
        for address in ("192.0.2.1", "198.51.100.1", OUTSIDE):
            with hosts.open("a") as file:
                file.write(f"{address} several.test\n")
        gateways = pair(calls('"several.test"'))
        gateways.a.wait_negotiated(seconds=30)
    finally:
        sites.gw_a.ip("route del unreachable 198.51.100.0/24")
    assert tunnel(gateways.a)["remote"] == OUTSIDE
    ping(sites.host_a, HOST_B)


@pytest.mark.slow  # 20 seconds of silence
def test_keepalives_keep_the_mapping_of_a_silent_tunnel(topology, pair, tmp_path):
    sites, _ = topology
    gateways = pair(any_peer, ike=('  liveness = { interval = "0s" }', '  liveness = { interval = "0s" }'))
    gateways.a.wait_negotiated()
    with capture.Capture(sites.gw_b, "wan", tmp_path / "wan") as recording:
        time.sleep(KEEPALIVE_SECONDS)
        recording.stop()
    assert capture.scan(tmp_path / "wan").packets["nat-keepalive"] == 1
    ping(sites.host_b, netns.HOST_A[0])
