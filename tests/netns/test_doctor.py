"""The probes behind `doctor`, on the real kernel. They leave no trace: see the check after each test in conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address

import pytest

from ipsec_dp.cli import doctor, network_checks, route_checks
from ipsec_dp.cli.checks import Host
from ipsec_dp.host import probe, sockets, tun
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness


def test_tun_offloads_are_probed_apart_from_the_hosts_interfaces(monkeypatch):
    before = harness.picture()["links"]
    apart = []
    make = tun.make

    def watched(name):
        apart.append(harness.picture()["links"] != before)
        return make(name)

    monkeypatch.setattr(tun, "make", watched)
    offloads = probe.tun_offloads()
    assert apart == [True]
    assert offloads.keys() == {"checksum", "tso4", "tso6", "uso", "udp_tunnel"}
    assert offloads["checksum"]
    assert offloads["tso4"]


def test_udp_offloads():
    assert probe.udp_offloads() == {"udp_segment": True, "udp_gro": True}


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
def test_port_owner_is_found(sites, version):
    assert sites.gw_a.call(lambda: probe.udp_port_free(4500))
    pair = sites.gw_a.call(lambda: sockets.udp_pair(ip_address(netns.GW_A_OUTER[version])))
    try:
        assert not sites.gw_a.call(lambda: probe.udp_port_free(4500))
        assert sites.gw_a.call(lambda: probe.udp_port_free(500))
        (owner,) = sites.gw_a.call(lambda: probe.udp_port_owners(4500))
        assert owner.endswith(f"(pid {os.getpid()})")
    finally:
        pair.close()


def test_port_of_nobody_has_no_owner(sites):
    assert sites.gw_a.call(lambda: probe.udp_port_owners(4500)) == []


def test_everything_at_once_in_a_fresh_namespace(sites):
    findings = {(finding.name, finding.state) for finding in sites.gw_a.call(doctor.checks)}
    assert {("TUN device", "ok"), ("UDP port 500", "ok"), ("nftables", "ok"), ("IPv4 forwarding", "ok")} <= findings
    assert sites.host_a.call(lambda: network_checks.forwarding(Host()))[0].state == "warn"


# ---- the network: each finding, and its end when what helps was done

FIREWALL = """
table inet filter {
  chain input { type filter hook input priority filter; policy drop; ct state established accept; tcp dport 22 accept; }
  chain forward { type filter hook forward priority filter; policy accept; iifname "lan" oifname "wan" accept; drop; }
}
"""
HOLDER = (
    "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 500)); print('bound', flush=True); time.sleep(60)"
)
POLICY = "xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel"


def lacks(namespace, check):
    return [finding for finding in namespace.call(lambda: check(Host())) if finding.state != "ok"]


def do(namespace, finding):
    """What helps, as a person would type it."""
    for command in finding.remedy.split("; "):
        namespace.run(*command.split())


def test_a_firewall_that_may_drop_is_named_until_its_remedy_is_done(sites):
    assert lacks(sites.gw_a, network_checks.packet_filter) == []
    sites.gw_a.run("nft", "-f", "-", stdin=FIREWALL)
    found = lacks(sites.gw_a, network_checks.packet_filter)
    assert {finding.found for finding in found} == {
        "chain inet filter forward (rule 2 of forward: drop)",
        "chain inet filter input (policy drop)",
    }
    for finding in found:
        do(sites.gw_a, finding)
    assert lacks(sites.gw_a, network_checks.packet_filter) == []


def test_a_running_gateways_own_tables_and_interfaces_are_known(sites, tmp_path):
    with GatewayPair(sites, tmp_path, ManualPair()) as pair:
        assert sites.gw_a.call(network_checks.tunnel_interfaces) == ["ipsec0"]
        assert lacks(sites.gw_a, network_checks.packet_filter) == []
        sites.gw_a.run("nft", "-f", "-", stdin=FIREWALL)
        packet = {"source": netns.HOST_A[0], "destination": netns.HOST_B[0], "protocol": "tcp", "sport": 1, "dport": 2}
        said = pair.a.ask("explain", **packet)
        assert said["verdict"] == "protect"
        (step,) = [step for step in said["steps"] if step["what"] == "filter"]
        assert "chain inet filter forward (rule 2 of forward: drop)" in step["why"]
        assert not harness.pings(sites.host_a, netns.HOST_B[0])
        for finding in lacks(sites.gw_a, network_checks.packet_filter):
            do(sites.gw_a, finding)
        assert harness.reaches(sites.host_a, netns.HOST_B[0]), "what was named was in the way, and what helps helps"
        assert [step for step in pair.a.ask("explain", **packet)["steps"] if step["what"] == "filter"] == []


@pytest.mark.parametrize(
    ("check", "setting"),
    [
        (network_checks.forwarding, ("net/ipv4/ip_forward", "0")),
        (network_checks.forwarding, ("net/ipv6/conf/all/forwarding", "0")),
        (network_checks.ipv6, ("net/ipv6/conf/default/disable_ipv6", "1")),
        (network_checks.reverse_path_filter, ("net/ipv4/conf/wan/rp_filter", "1")),
    ],
    ids=["IPv4 forwarding", "IPv6 forwarding", "IPv6", "reverse path filter"],
)
def test_a_setting_is_named_until_its_remedy_is_done(sites, check, setting):
    assert lacks(sites.gw_a, check) == []
    sites.gw_a.sysctl(setting)
    (finding,) = lacks(sites.gw_a, check)
    do(sites.gw_a, finding)
    assert lacks(sites.gw_a, check) == []


def test_policies_of_the_kernels_own_ipsec_are_counted(sites):
    assert lacks(sites.gw_a, network_checks.xfrm_policies) == []
    sites.gw_a.run("ip", *POLICY.split())
    (finding,) = lacks(sites.gw_a, network_checks.xfrm_policies)
    assert finding.found == "1: out 10.1.0.0/24 to 10.2.0.0/24"
    sites.gw_a.ip("xfrm policy flush")
    assert lacks(sites.gw_a, network_checks.xfrm_policies) == []


def test_another_program_on_a_port_of_ours_is_named(sites):
    assert lacks(sites.gw_a, network_checks.ports) == []
    process = sites.gw_a.spawn(sys.executable, "-c", HOLDER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"bound\n"
    (finding,) = lacks(sites.gw_a, network_checks.ports)
    assert (finding.name, finding.state) == ("UDP port 500", "fail")
    assert f"(pid {process.pid})" in finding.found
    process.kill()
    process.wait()
    assert lacks(sites.gw_a, network_checks.ports) == []


# ---- routing, for the configurations of the service unit

RULES = {
    4: ("10.1.0.0/24", "10.9.0.0/24", netns.GW_B_OUTER[0]),
    6: ("fd00:1::/64", "fd00:9::/64", netns.GW_B_OUTER[1]),
}


@pytest.fixture
def host(sites, tmp_path):
    """gwA with a configuration where the service unit looks for it, and no gateway."""
    (tmp_path / "etc/ipsec-dp").mkdir(parents=True)
    pair = GatewayPair(sites, tmp_path / "etc/ipsec-dp", ManualPair())
    pair.b.config.unlink()
    return Host(tmp_path)


def routed(sites, host, check):
    return sites.gw_a.call(lambda: check(host))


def test_the_way_to_a_peer_is_asked_by_source_and_mark(sites, host):
    (good,) = routed(sites, host, route_checks.peer_ways)
    assert (good.state, good.found) == ("ok", f"{netns.GW_B_OUTER[0]} from {netns.GW_A_OUTER[0]} by wan")
    words = f"priority 90 from {netns.GW_A_OUTER[0]} fwmark 0xe5 prohibit"
    sites.gw_a.run("ip", "rule", "add", *words.split())
    (bad,) = routed(sites, host, route_checks.peer_ways)
    sites.gw_a.run("ip", "rule", "del", *words.split())
    assert (bad.state, 'tunnel "a-to-b": no route to' in bad.found, "rule 90 (" in bad.found) == ("warn", True, True)
    assert [finding.state for finding in routed(sites, host, route_checks.peer_ways)] == ["ok"]


@pytest.mark.parametrize("version", [4, 6])
def test_a_rule_before_ours_is_named_until_its_remedy_is_done(sites, host, version):
    local, elsewhere, via = RULES[version]
    ip = ("ip", f"-{version}")
    sites.gw_a.run(*ip, *f"route add default via {via} dev wan table 100".split())
    sites.gw_a.run(*ip, *f"rule add priority 101 from {elsewhere} lookup 100".split())
    assert [finding.state for finding in routed(sites, host, route_checks.rules_before_ours)] == ["ok"], "it is for others"
    sites.gw_a.run(*ip, *f"rule add priority 100 from {local} lookup 100".split())
    (found,) = routed(sites, host, route_checks.rules_before_ours)
    assert found.state == "warn"
    assert f"rule 100 (from {local} lookup 100) of this host comes before the gateway's" in found.found
    assert "leaves by wan" in found.found
    do(sites.gw_a, found)
    assert [finding.state for finding in routed(sites, host, route_checks.rules_before_ours)] == ["ok"]
