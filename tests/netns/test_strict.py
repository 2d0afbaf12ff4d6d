"""Everything is protected on both sides, and somebody else's route leads a part of it out by a second interface.

    hostA eth0 -- lan gwA wan    == wan    gwB lan -- eth0 hostB
                         second -- second

The route is what a DHCP server on `second` hands out (RFC 3442). Only gwA has a gateway. hostA sends marked packets to hostB.
"""

from __future__ import annotations

import signal

import pytest

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.netns import Port
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.traffic import kinds_between_sites, mac, put, stream, until, until_sent

NET_B = netns.SITE_B_NETS[0]
SPOOFED = udp(netns.HOST_B[0], netns.HOST_A[0], b"spoofed!" * 4, ports=(7777, 7777))


@pytest.fixture
def second(sites, lab):
    lab.link(Port(sites.gw_a, "second"), Port(sites.gw_b, "second", ("203.0.113.2/24",)))


def started(sites, directory, strict):
    everything = tuple((net, net) for net in ("0.0.0.0/0", "::/0"))
    pair = GatewayPair(
        sites,
        directory,
        ManualPair(gateway=f"strict = {strict}", proxy_ids=everything, tunnel='routes = ["0.0.0.0/0", "::/0"]'),
    )
    pair.a.start()
    pair.a.wait_up()
    return pair.a


def left(sites, path):
    """What left by the second interface in clear."""
    with capture.Capture(sites.gw_a, "second", path) as recording:
        until_sent(sites.host_a, 200)
        recording.stop()
    return kinds_between_sites(path)


def came(sites, path):
    """Whether cleartext that came by the second interface reached hostA."""
    with capture.Capture(sites.host_a, "eth0", path) as recording:
        put(sites.gw_b, "second", mac(sites.gw_a, "second"), SPOOFED)
        until_sent(sites.host_a, 20)
        recording.stop()
    return any(b"spoofed!" in packet for _, packet in capture.read(path))


def told(gateway, text):
    return until(lambda: [each for each in gateway.status()["warnings"] if text in each], f"a warning: {text}")[0]


@pytest.mark.parametrize(("strict", "kinds"), [("false", {"udp4", "tcp4"}), ("true", set())])
def test_a_route_of_somebody_elses_is_told_and_strict_closes_it(sites, second, tmp_path, strict, kinds):
    sites.gw_a.ip("address add 203.0.113.1/24 dev second")
    gateway = started(sites, tmp_path, strict)
    with stream(sites.host_a, harness.BOTH):
        assert left(sites, tmp_path / "before") == set()
        sites.gw_a.ip(f"route add {NET_B} via 203.0.113.2 dev second")
        text = told(gateway, f"{NET_B} is reached through second")
        assert ("it stays protected" if strict == "true" else "strict = true in [gateway] closes it") in text
        until(lambda: f"WARNING {text}" in gateway.text(), "it is in the log")
        assert left(sites, tmp_path / "narrowed") == kinds
        assert came(sites, tmp_path / "in") is (strict == "false")
        assert harness.reaches(sites.host_a, netns.GW_A_INNER[0]), "the network of a fixed address is on this side"
        sites.gw_a.ip(f"route delete {NET_B}")
        until(lambda: not [each for each in gateway.status()["warnings"] if "second" in each], "no warning any more")
        assert left(sites, tmp_path / "after") == set()
    assert gateway.terminate() == 0


def test_nor_does_a_leased_address_with_a_wide_network_narrow_it(sites, second, tmp_path):
    gateway = started(sites, tmp_path, "true")
    with stream(sites.host_a, harness.BOTH):
        sites.gw_a.ip("address add 10.2.0.200/24 dev second valid_lft 600 preferred_lft 600")
        told(gateway, f"{NET_B} is reached through second")
        sites.gw_a.ip("neigh add 10.2.0.2 lladdr 02:00:00:00:00:02 dev second")
        assert left(sites, tmp_path / "leased") == set()
        gateway.process.send_signal(signal.SIGSTOP)  # or it makes the guard again
        sites.gw_a.run("nft", "delete", "table", "inet", "ipsec_dp_gwA")  # the control
        assert left(sites, tmp_path / "control") == {"udp4", "tcp4"}
        gateway.process.send_signal(signal.SIGCONT)
    assert gateway.terminate() == 0
