"""A host with two uplinks whose rules choose by source: the tunnel takes the one that it is meant to, and its MTU.

                      == wan  (1500) ==
hostA eth0 -- lan gwA                   isp == wan gwB lan -- eth0 hostB
                      == wan2 (1400) ==
"""

from __future__ import annotations

import re
import secrets

import pytest

from ipsec_dp.ipsec.suites import inner_mtu, parse_suite
from ipsec_dp.rig import netns
from ipsec_dp.rig.netns import Port, TwoSites
from ipsec_dp.rig.process import GatewayPair, IkePair, ManualPair
from tests.netns.middle import masked
from tests.netns.traffic import ping, tcp_both_ways, until

FIRST, SECOND = ("192.0.2.1", "2001:db8:a::1"), ("198.51.100.1", "2001:db8:b::1")
BY_FIRST, BY_SECOND = ("192.0.2.254", "2001:db8:a::fe"), ("198.51.100.254", "2001:db8:b::fe")
PEER, TO_PEER = ("203.0.113.1", "2001:db8:c::1"), ("203.0.113.254", "2001:db8:c::fe")
NARROW = 1400
SUITE = parse_suite("aes128gcm16")
# What makes a further tunnel of a configuration's only one, with the same peer by the other uplink.
OTHER_TUNNEL = (
    ('"a-to-b"', '"other"'),
    ("ipsec0", "ipsec1"),
    (SECOND[0], FIRST[0]),
    (r'"10\.(\d)\.', r'"10.1\1.'),
    (r'"fd00:(\d)::', r'"fd00:1\1::'),
    ("0x100", "0x200"),
    ("b-to-a.key", "in.key"),
    ("a-to-b.key", "out.key"),
)
FAMILY = {4: "-4", 6: "-6"}


@pytest.fixture
def uplinks(lab):
    """Both uplinks have a table of their own, 100 and 200; no rule leads there yet, and main has no default route."""
    names = ("hostA", "gwA", "isp", "gwB", "hostB")
    host_a, gw_a, isp, gw_b, host_b = (lab.namespace(name, forwarding=name[:4] != "host") for name in names)
    lab.link(Port(host_a, "eth0", masked(netns.HOST_A)), Port(gw_a, "lan", masked(netns.GW_A_INNER)))
    lab.link(Port(gw_a, "wan", masked(FIRST)), Port(isp, "one", masked(BY_FIRST)))
    lab.link(Port(gw_a, "wan2", masked(SECOND)), Port(isp, "two", masked(BY_SECOND)), mtu=NARROW)
    lab.link(Port(isp, "gw", masked(TO_PEER)), Port(gw_b, "wan", masked(PEER)))
    lab.link(Port(gw_b, "lan", masked(netns.GW_B_INNER)), Port(host_b, "eth0", masked(netns.HOST_B)))
    for namespace, gateways in ((host_a, netns.GW_A_INNER), (gw_b, TO_PEER), (host_b, netns.GW_B_INNER)):
        namespace.ip(*(f"route add default via {gateway} congctl cubic" for gateway in gateways))
    for table, ways, device in ((100, BY_FIRST, "wan"), (200, BY_SECOND, "wan2")):
        gw_a.ip(*(f"route add default via {way} dev {device} table {table}" for way in ways))
    return TwoSites(host_a, gw_a, gw_b, host_b)


def rule(sites, version, words):
    sites.gw_a.run("ip", FAMILY[version], "rule", "add", *words.split())


def by_source(sites):
    for number, version in enumerate((4, 6)):
        rule(sites, version, f"priority 1000 from {FIRST[number]} lookup 100")
        rule(sites, version, f"priority 1001 from {SECOND[number]} lookup 200")


def ends(version, local):
    return local[version == 6], PEER[version == 6]


def ike(version, local=SECOND):
    return IkePair(outer=ends(version, local), esp=('proposals = ["aes128gcm16"]',) * 2)


def manual(version, encapsulation="udp", local=SECOND):
    return ManualPair(outer=ends(version, local), encapsulation=encapsulation, suite="aes128gcm16")


def path_mtu(gateway):
    return gateway.status()["tunnels"][0]["path_mtu"]


def carries_all(sites):
    for address in netns.HOST_B:
        tcp_both_ways(sites.host_a, sites.host_b, address)
        ping(sites.host_a, address, "-M", "dont", "-s", "3000")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("pair", [ike, manual], ids=["IKE", "manual keys"])
def test_the_tunnel_comes_up_where_only_a_rule_for_its_source_leads_to_the_peer(uplinks, tmp_path, pair, version):
    by_source(uplinks)
    with GatewayPair(uplinks, tmp_path, pair(version)) as gateways:
        if pair is ike:
            gateways.a.wait_negotiated()
        assert path_mtu(gateways.a) == NARROW
        assert gateways.a.status()["tunnels"][0]["mtu"] == inner_mtu(NARROW, SUITE, "udp", version)
        carries_all(uplinks)


@pytest.mark.parametrize("version", [4, 6])
def test_a_default_route_by_the_other_uplink_does_not_lend_its_mtu(uplinks, tmp_path, version):
    uplinks.gw_a.ip(*(f"route add default via {way} dev wan" for way in BY_FIRST))
    by_source(uplinks)
    with GatewayPair(uplinks, tmp_path, manual(version, "esp")) as gateways:
        assert path_mtu(gateways.a) == NARROW
        carries_all(uplinks)


def test_two_tunnels_to_one_peer_have_the_mtus_of_their_uplinks(uplinks, tmp_path):
    by_source(uplinks)
    with GatewayPair(uplinks, tmp_path, manual(4)) as gateways:
        text = gateways.a.config.read_text()
        other = text[text.index("[[tunnel]]") :]
        for before, after in OTHER_TUNNEL:
            other = re.sub(before, after, other)
        for name in ("in.key", "out.key"):
            (tmp_path / name).touch(mode=0o600)
            (tmp_path / name).write_text(secrets.token_hex(SUITE.keymat_octets))
        gateways.a.config.write_text(text + other)
        gateways.a.ask("reload")
        assert [each["path_mtu"] for each in gateways.a.status()["tunnels"]] == [NARROW, 1500]


def test_without_local_the_address_that_has_a_way_is_named(uplinks, tmp_path):
    by_source(uplinks)
    gateways = GatewayPair(uplinks, tmp_path, ike(4))
    gateways.a.config.write_text(re.sub(r"local = .198.*\n", "", gateways.a.config.read_text()))
    gateways.a.start()
    gateways.a.wait_up()
    told = until(lambda: gateways.a.status()["tunnels"][0]["last_error"], "why it is not up")
    assert 'there is one, since rules of this host choose by source: set local = "192.0.2.1"' in told
    assert gateways.a.terminate() == 0


# ---- what no question about routes shows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("encapsulation", "words"), [("esp", "ipproto esp"), ("udp", "ipproto udp dport 4500")], ids=["by protocol", "by port"]
)
def test_a_size_that_our_own_sockets_refuse_is_no_black_hole(uplinks, tmp_path, encapsulation, words, version):
    """The kernel's answer about routes is the wide uplink; what we send takes the narrow one, where it is too big (EMSGSIZE)."""
    uplinks.gw_a.ip(*(f"route add default via {way} dev wan" for way in BY_FIRST))
    rule(uplinks, version, f"priority 1000 {words} lookup 200")
    with GatewayPair(uplinks, tmp_path, manual(version, encapsulation, FIRST)) as gateways:
        assert path_mtu(gateways.a) == 1500
        carries_all(uplinks)
        until(lambda: path_mtu(gateways.a) == NARROW, "the MTU that passes")
        dropped = gateways.a.status()["drops"]["too_big"]
        carries_all(uplinks)
        assert gateways.a.status()["drops"]["too_big"] == dropped, "nothing more is lost"
        until(lambda: "this host sends no packet of" in gateways.a.text(), "it is in the log")
