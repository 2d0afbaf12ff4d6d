"""A firewall rule of the host takes our packets' mark away: they come back out of the tunnel interface, and are not sealed again.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

The tunnel protects the outer addresses themselves too, so that without the mark the kernel routes our ESP into it.
"""

from __future__ import annotations

import socket
import time

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns import harness
from tests.netns.foreign import EVERY_WAY, Crossing, both_ways, flows_again, leaks_without_us
from tests.netns.traffic import echoes, mac, ping, put, sent, until

OUTER = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])
LAN_TO_PEER = ((netns.SITE_A_NETS[0], f"{OUTER[1]}/32"),)
NETS = (*zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True), OUTER, *LAN_TO_PEER)
MANGLE = """
table inet mangler {
  chain out {
    type route hook output priority mangle;
    ip daddr != 127.0.0.0/8 meta mark set 0x1;
    ip6 daddr != ::1 meta mark set 0x1;
  }
}
"""
TOLD = "come back into a tunnel interface"
PINGS = 5
MANY = 500
OF_ITS_OWN = 50  # neighbours asked for, ICMP errors; and a part more, which waited to be sealed


@pytest.fixture
def sites(shared_sites):
    yield shared_sites
    shared_sites.gw_a.run("nft", "delete", "table", "inet", "mangler", check=False)
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


def overwrite_the_mark(sites):
    sites.gw_a.run("nft", "-f", "-", stdin=MANGLE)


def sealed(gateway):
    return sum(child["packets_out"] for tunnel in gateway.status()["tunnels"] for child in tunnel["children"])


def own_outer(gateway):
    return gateway.status()["drops"]["own_outer"]


def told(gateway):
    return any(TOLD in text for text in gateway.status()["warnings"])


@pytest.mark.parametrize("encapsulation", ["esp", "udp"])
def test_one_packet_is_sealed_once_though_the_mark_is_overwritten(sites, tmp_path, encapsulation):
    with GatewayPair(sites, tmp_path, ManualPair(proxy_ids=NETS, encapsulation=encapsulation)) as pair:
        assert echoes(sites.host_a, netns.HOST_B[0]) == 3
        assert (own_outer(pair.a), told(pair.a)) == (0, False)
        before = sealed(pair.a)
        overwrite_the_mark(sites)
        lost = sites.host_a.run("ping", "-n", "-c", str(PINGS), "-i", "0.05", "-W", "0.3", netns.HOST_B[0], check=False)
        assert lost.returncode == 1, "the control: the rule does take our packets off their way"
        until(lambda: own_outer(pair.a) >= PINGS, "each came back")
        harness.settle(sites.gw_a, "ipsec0")
        assert sealed(pair.a) - before == own_outer(pair.a) == PINGS
        until(lambda: told(pair.a), "the warning")
        until(lambda: pair.a.text().count(TOLD) == 1, "one line of the log, which a thread writes")
        sites.gw_a.run("nft", "delete", "table", "inet", "mangler")
        ping(sites.host_a, netns.HOST_B[0])


@pytest.mark.parametrize("version", [4, 6])
def test_nothing_passes_in_clear_while_the_mark_is_overwritten(sites, tmp_path, version):
    """Under a stream of hostA's and forged traffic, over IPv4 and IPv6; the tunnel's own outer addresses are of one version."""
    outer = netns.GW_A_OUTER[version == 6], netns.GW_B_OUTER[version == 6]
    nets = (*zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True), outer)
    with both_ways(sites):
        assert leaks_without_us(sites, tmp_path)
        with GatewayPair(sites, tmp_path, ManualPair(proxy_ids=nets, outer=outer)) as pair:
            flows_again(pair.a)
            with Crossing(sites, tmp_path, "mark") as crossing:
                since, asked, before = time.time_ns(), sum(sent(sites.host_a)), sealed(pair.a)
                overwrite_the_mark(sites)
                until(lambda: own_outer(pair.a) > MANY, "our own packets that came back")
                until(lambda: told(pair.a), "the warning")
                clear, again = crossing.end(), sealed(pair.a) - before
            assert clear.inner == EVERY_WAY, "the control: the capture sees what there is"
            assert clear.kinds(since) == set()
            assert MANY < again <= 1.5 * (sum(sent(sites.host_a)) - asked) + OF_ITS_OWN, "each is sealed once, and not twice"
            sites.gw_a.run("nft", "delete", "table", "inet", "mangler")
            for address in netns.HOST_B:
                ping(sites.host_a, address)


def test_ike_that_comes_back_is_dropped_and_told(sites, tmp_path):
    """Sealing it would need the very SA that it asks for."""
    overwrite_the_mark(sites)
    pair = GatewayPair(sites, tmp_path, IkePair(proxy_ids=NETS))
    try:
        pair.start()
        until(lambda: own_outer(pair.a) >= 2, "IKE_SA_INIT and its repetition")
        until(lambda: told(pair.a), "the warning")
        sites.gw_a.run("nft", "delete", "table", "inet", "mangler")
        pair.a.wait_negotiated()
        ping(sites.host_a, netns.HOST_B[0])
    finally:
        pair.stop()


def test_ipsec_of_a_lan_host_and_of_another_program_passes(sites, tmp_path):
    """To the same peer, under other SPIs."""

    def esp_of_another_program():
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 50) as raw:
            raw.sendto((0xABCDEF).to_bytes(4) + bytes(60), (OUTER[1], 0))

    with GatewayPair(sites, tmp_path, ManualPair(proxy_ids=NETS)) as pair:
        before = sealed(pair.a)
        sites.gw_a.call(esp_of_another_program)
        until(lambda: sealed(pair.a) == before + 1, "it is sealed like everything else of this host")
        lan_host = udp(netns.HOST_A[0], OUTER[1], (0xABCDEF).to_bytes(4) + bytes(60), ports=(4500, 4500))
        put(sites.host_a, "eth0", mac(sites.gw_a, "lan"), lan_host)
        until(lambda: sealed(pair.a) == before + 2, "a LAN host's too")
        assert own_outer(pair.a) == 0
