"""NAT rules of the host meet a tunnel: a flow that one caught before the tunnel was up, and one that covers the TUN interface.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import socket
from contextlib import contextmanager

import pytest

from ipsec_dp.host.conntrack import KernelFlows
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness
from tests.netns.traffic import TIMEOUT_S, until

HOST_B = netns.HOST_B[0]
OUTER_A, OUTER_A6 = netns.GW_A_OUTER
PORT, SOURCE_PORT = 7000, 5555
LOST_S = 1.0  # within which one would have arrived
NAT = """table {family} nat {{
 chain POSTROUTING {{
  type nat hook postrouting priority 100
  {rule}
 }}
}}
"""


def nat(namespace, rule, family="ip"):
    """A NAT rule as an administrator, or Docker, has it."""
    namespace.run("nft", "-f", "-", stdin=NAT.format(family=family, rule=rule))


class Flow:
    """UDP datagrams of one flow from host A, and how many arrived at host B."""

    def __init__(self, sites, addresses):
        (source, self._destination) = addresses
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self._here = sites.host_a.call(lambda: self._socket(family, (source, SOURCE_PORT)))
        self._there = sites.host_b.call(lambda: self._socket(family, ("", PORT)))

    @staticmethod
    def _socket(family, bound):
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind(bound)
        return made

    def source_seen(self, seconds=TIMEOUT_S):
        """Sends one; the address that it arrived from, or None."""
        self._there.settimeout(seconds)
        self._here.sendto(b"x", (self._destination, PORT))
        try:
            return self._there.recvfrom(64)[1][0]
        except TimeoutError:
            return None

    def is_lost(self):
        """Sends one, which does not arrive."""
        return self.source_seen(LOST_S) is None

    def close(self):
        self._here.close()
        self._there.close()


@contextmanager
def flow_of(sites, version=4):
    at = 0 if version == 4 else 1
    made = Flow(sites, (netns.HOST_A[at], netns.HOST_B[at]))
    try:
        yield made
    finally:
        made.close()


def warnings(gateway, word="NAT g"):
    return [text for text in gateway.status()["warnings"] if word in text]


def gateways(sites, tmp_path, what):
    directory = tmp_path / what
    directory.mkdir()
    return GatewayPair(sites, directory, ManualPair(gateway=f'nat_flows = "{what}"'))


@pytest.mark.parametrize("version", [4, 6])
def test_a_flow_that_snat_caught_before_the_tunnel_is_named_and_deleting_it_frees_it(sites, tmp_path, version):
    """The rule names the outer interface alone: the kernel keeps what it decided once."""
    outer, family = (OUTER_A, "ip") if version == 4 else (OUTER_A6, "ip6")
    nat(sites.gw_a, f'oifname "wan" snat to {outer}', family)
    with flow_of(sites, version) as flow:
        assert flow.source_seen() == outer, "before the tunnel it leaves in clear, translated"
        with gateways(sites, tmp_path, "tell") as pair:
            (told,) = warnings(pair.a)
            assert told.startswith(
                f"udp {_end(netns.HOST_A, version, SOURCE_PORT)} -> {_end(netns.HOST_B, version, PORT)}: NAT gave"
            )
            (host, peer) = (ends[version == 6] for ends in (netns.HOST_A, netns.HOST_B))
            deletion = f"conntrack -D -f ipv{version} -p udp -s {host} -d {peer} --sport {SOURCE_PORT} --dport {PORT}"
            assert told.endswith(f"to free it: {deletion}")
            assert flow.is_lost(), "it is dropped as long as the kernel tracks it"
            until(lambda: f"WARNING {told}" in pair.a.text(), "it is in the log")
        with gateways(sites, tmp_path, "delete") as pair:
            assert flow.source_seen() == host, "it goes on with its own source"
            assert warnings(pair.a) == []
            until(lambda: "nat_flows = delete: deleted 1 tracked connection" in pair.a.text(), "it is in the log")


def _end(hosts, version, port):
    return f"{hosts[0]}:{port}" if version == 4 else f"[{hosts[1]}]:{port}"


def test_a_tunnel_for_everything_deletes_nothing(sites, tmp_path):
    nat(sites.gw_a, f'oifname "wan" snat to {OUTER_A}')
    everything = ManualPair(
        gateway='nat_flows = "delete"', proxy_ids=(("10.1.0.0/24", "0.0.0.0/0"),), tunnel=f'routes = ["{netns.SITE_B_NETS[0]}"]'
    )
    with flow_of(sites) as flow:
        assert flow.source_seen() == OUTER_A
        pair = GatewayPair(sites, tmp_path, everything)
        pair.a.start()
        try:
            pair.a.wait_up()
            assert flow.is_lost()
            assert tracked(sites.gw_a) == 1
        finally:
            pair.a.terminate()


def tracked(namespace):
    """Connections of our flow that the kernel tracks."""
    flows = harness.run(namespace, KernelFlows().translated)
    return sum(flow.original.source_port == SOURCE_PORT for flow in flows)


def test_a_masquerade_rule_that_covers_the_interface_is_named_as_what_it_is(sites, tmp_path):
    """As Docker writes it: whatever leaves by another interface than its bridge."""
    with gateways(sites, tmp_path, "tell") as pair, flow_of(sites) as flow:
        assert flow.source_seen() == netns.HOST_A[0]
    nat(sites.gw_a, f'ip saddr 10.1.0.0/24 oifname != "docker0" snat to {OUTER_A}')
    with gateways(sites, tmp_path, "delete") as pair, flow_of(sites) as flow:
        assert flow.is_lost()
        (example,) = pair.a.status()["drop_examples"]["policy_none"]
        assert (example["source"], example["destination"]) == (OUTER_A, HOST_B)
        assert (example["protocol"], example["destination_port"], example["interface"]) == ("udp", PORT, "ipsec0")
        assert "this host's own address" in example["cause"]
        exemption = 'nft insert rule ip nat POSTROUTING oifname "ipsec0" return'
        assert exemption in example["cause"]
        until(lambda: "packets are dropped as policy_none" in pair.a.text(), "the log when it begins")
        (told,) = until(lambda: warnings(pair.a), "the connection")
        assert exemption in told
        sites.gw_a.run(*exemption.replace('"', "").split())
        assert flow.is_lost(), "the connection is tracked as it began"
        sites.gw_a.run("nft", "delete", "table", "ip", "nat")
