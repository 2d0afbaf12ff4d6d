"""Several tunnels in one gateway: interfaces of their own or one shared, ports in policies, and what is discarded, both ways.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

To hostB's 10.2.0.2, UDP ports 7001-7008 and TCP port 7002 have a tunnel each; both share ipsec0, over UDP and IPv4. Between
10.4.0.2 and 10.3.0.2 everything goes through ipsec1, over IP protocol 50 and IPv6. gwA discards UDP to port 7007, gwB to 7008.
Nothing else is held by a rule.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pytest

from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import GatewayProcess
from tests.netns import harness
from tests.netns.traffic import kinds_between_sites, ping, tcp_both_ways, udp_both_ways, until

SUITE = "chacha20poly1305-esn"
NET_A, NET_B = netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]
FURTHER_A, FURTHER_B = "10.4.0", "10.3.0"  # further networks, one at each site
FURTHER_HOST = f"{FURTHER_B}.2"


@dataclass(frozen=True)
class Tunnel:
    """As gwA has it; gwB has the mirror image."""

    number: int
    interface: str
    encapsulation: str
    outer: int  # index: IPv4, IPv6
    local: str
    remote: str
    protocol: str = "any"
    ports: str = "any"


TUNNELS = (
    Tunnel(1, "ipsec0", "udp", 0, NET_A, NET_B, "udp", "7001-7008"),
    Tunnel(2, "ipsec0", "udp", 0, NET_A, NET_B, "tcp", "7002"),
    Tunnel(3, "ipsec1", "esp", 1, f"{FURTHER_A}.0/24", f"{FURTHER_B}.0/24"),
)
DISCARDED = {"a": 7007, "b": 7008}


def selector(side, local, remote, protocol, ports):
    """The lines of a selector with hostB's ports, as each side writes it."""
    near, far = ("local", "remote") if side == "a" else ("remote", "local")
    return f'{near} = "{local}"\n{far} = "{remote}"\nprotocol = "{protocol}"\n{far}_ports = "{ports}"\n'


def configuration(side):
    ends = (netns.GW_A_OUTER, netns.GW_B_OUTER) if side == "a" else (netns.GW_B_OUTER, netns.GW_A_OUTER)
    other = "b" if side == "a" else "a"
    text = f'[gateway]\nname = "gw{side.upper()}"\n'
    for tunnel in TUNNELS:
        spis = {"a": 0x2000 + 16 * tunnel.number, "b": 0x2001 + 16 * tunnel.number}  # by receiver
        text += (
            f'[[tunnel]]\nname = "t{tunnel.number}"\ninterface = "{tunnel.interface}"\nencapsulation = "{tunnel.encapsulation}"\n'
            f'local = "{ends[0][tunnel.outer]}"\nremote = "{ends[1][tunnel.outer]}"\n'
            f"[[tunnel.proxy_id]]\n{selector(side, tunnel.local, tunnel.remote, tunnel.protocol, tunnel.ports)}"
            f'[tunnel.manual_unsafe]\nsuite = "{SUITE}"\nspi_in = {spis[side]}\nspi_out = {spis[other]}\n'
            f'key_in_file = "{tunnel.number}-to-{side}.key"\nkey_out_file = "{tunnel.number}-to-{other}.key"\n'
        )
    return text + f'[[policy]]\naction = "discard"\n{selector(side, NET_A, NET_B, "udp", DISCARDED[side])}'


@pytest.fixture(scope="module")
def up(shared_sites, tmp_path_factory):
    """Both gateways, by "a" and "b"."""
    directory = tmp_path_factory.mktemp("several")
    for host, gateway, near, far in (
        (shared_sites.host_a, shared_sites.gw_a, FURTHER_A, FURTHER_B),
        (shared_sites.host_b, shared_sites.gw_b, FURTHER_B, FURTHER_A),
    ):
        gateway.ip(f"address add {near}.1/24 dev lan")
        host.ip(f"address add {near}.2/24 dev eth0", f"route add {far}.0/24 via {near}.1 src {near}.2")
    for tunnel in TUNNELS:
        for side in "ab":
            key = directory / f"{tunnel.number}-to-{side}.key"
            key.touch(mode=0o600)
            key.write_text(secrets.token_hex(parse_suite(SUITE).keymat_octets))
    gateways = {}
    for side, namespace in (("a", shared_sites.gw_a), ("b", shared_sites.gw_b)):
        file = directory / f"gw{side.upper()}.toml"
        file.write_text(configuration(side))
        gateways[side] = GatewayProcess(namespace, file)
        gateways[side].start()
    for gateway in gateways.values():
        gateway.wait_up()
    yield gateways
    assert [gateway.terminate() for gateway in gateways.values()] == [0, 0]


def carried(gateway):
    """Packets that each tunnel has sealed and opened."""
    children = {tunnel["name"]: tunnel["children"][0] for tunnel in gateway.status()["tunnels"]}
    return {name: (child["packets_out"], child["packets_in"]) for name, child in children.items()}


def changed(gateway, traffic):
    """The tunnels whose counters moved, once the last acknowledgment of what was before has arrived."""
    harness.settle(gateway.namespace, "wan")
    before = carried(gateway)
    traffic()
    return {name for name, counts in carried(gateway).items() if counts != before[name]}


def test_each_flow_takes_its_tunnel(shared_sites, up, tmp_path):
    near, far, address = shared_sites.host_a, shared_sites.host_b, netns.HOST_B[0]
    assert changed(up["a"], lambda: udp_both_ways(near, far, address, port=7001)) == {"t1"}
    assert changed(up["a"], lambda: tcp_both_ways(near, far, address, port=7002)) == {"t2"}

    def further():
        ping(near, FURTHER_HOST)
        tcp_both_ways(near, far, FURTHER_HOST, port=7003)

    assert changed(up["a"], lambda: harness.crossed(shared_sites.gw_a, "wan", tmp_path / "esp", further)) == {"t3"}
    assert set(capture.scan(tmp_path / "esp").packets) <= {"esp", *capture.LINK_KINDS}


def test_answers_take_the_same_tunnel_back(shared_sites, up):
    udp_both_ways(shared_sites.host_a, shared_sites.host_b, netns.HOST_B[0], port=7001)
    for gateway in up.values():
        sealed, opened = carried(gateway)["t1"]
        assert sealed > 0
        assert opened > 0


@pytest.mark.parametrize("port", [7000, 7009])
def test_a_port_that_no_rule_holds_goes_nowhere(shared_sites, up, tmp_path, port):
    before = up["a"].status()["drops"]["policy_none"]
    found = harness.crossed(
        shared_sites.gw_a, "wan", tmp_path / "x", lambda: harness.send_udp(shared_sites.host_a, (netns.HOST_B[0], port))
    )
    until(lambda: up["a"].status()["drops"]["policy_none"] == before + 1, "the drop counted")
    assert found.packets == {}


def test_discarded_where_it_leaves(shared_sites, up, tmp_path):
    before = up["a"].status()["drops"]["policy_discard"]
    harness.crossed(
        shared_sites.gw_a,
        "wan",
        tmp_path / "x",
        lambda: harness.send_udp(shared_sites.host_a, (netns.HOST_B[0], DISCARDED["a"])),
    )
    until(lambda: up["a"].status()["drops"]["policy_discard"] == before + 1, "the drop counted")
    assert kinds_between_sites(tmp_path / "x") == set()


def test_discarded_where_it_arrives_though_the_sa_would_carry_it(shared_sites, up, tmp_path):
    before = up["b"].status()["drops"]["policy_inbound"]

    def discarded():
        harness.send_udp(shared_sites.host_a, (netns.HOST_B[0], DISCARDED["b"]))
        until(lambda: up["b"].status()["drops"]["policy_inbound"] == before + 1, "the drop counted")

    found = harness.crossed(shared_sites.gw_b, "lan", tmp_path / "x", discarded)
    assert found.packets == {}


def test_interfaces_and_routes(shared_sites, up):
    """Two interfaces; each prefix leads into its own."""
    for destination, interface in ((netns.HOST_B[0], "ipsec0"), (FURTHER_HOST, "ipsec1")):
        assert f"dev {interface} " in shared_sites.gw_a.run("ip", "route", "get", destination).stdout
    assert "dev ipsec0 " in shared_sites.gw_b.run("ip", "route", "get", netns.HOST_A[0]).stdout
