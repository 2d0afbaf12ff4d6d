"""The probes behind `doctor`, on the real kernel. They leave no trace: see the check after each test in conftest.py."""

from __future__ import annotations

import os
from ipaddress import ip_address

import pytest

from ipsec_dp.cli import doctor, network_checks
from ipsec_dp.cli.checks import Host
from ipsec_dp.host import probe, sockets, tun
from ipsec_dp.rig import netns
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
    assert offloads.keys() == {"checksum", "tso4", "tso6", "uso"}
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
