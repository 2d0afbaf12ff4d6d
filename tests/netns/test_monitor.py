"""The tunnel monitor: traffic moves to the second tunnel and back, or stays, and never leaves in clear.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Two tunnels between the same networks: "main" on ipsec0 over IPv4 (metric 50), "backup" on ipsec1 over IPv6 (metric 60). What cuts a
tunnel is a packet filter of the test's at both gateways, which drops what arrives of its outer packets.
"""

from __future__ import annotations

import secrets
import time

import pytest

from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayProcess
from tests.netns import harness
from tests.netns.leaks import leaks_without_us, watched
from tests.netns.traffic import ping, stream, until

SUITE = "aes128gcm16-esn"
MONITOR = '[tunnel.monitor]\ntarget = "{target}"\ninterval = "1s"\nthreshold = 2\naction = "{action}"\n'
TUNNELS = ("main", "backup")
CUTS = {"main": "ip daddr 192.0.2.0/24 udp dport 4500 drop", "backup": "ip6 daddr 2001:db8:2::/64 udp dport 4500 drop"}
PROXY_IDS = '[[tunnel.proxy_id]]\nlocal = "{}"\nremote = "{}"\n'


def configuration(side, action, monitored):
    """gwA's or gwB's file; the key files beside it are named by tunnel and receiver."""
    here, there = ("a", "b") if side == "a" else ("b", "a")
    outer = {"a": netns.GW_A_OUTER, "b": netns.GW_B_OUTER}
    nets = {"a": netns.SITE_A_NETS, "b": netns.SITE_B_NETS}
    target = {"a": netns.HOST_B[0], "b": netns.HOST_A[0]}[side]
    text = f'[gateway]\nname = "gw{side.upper()}"\n'
    for number, name in enumerate(TUNNELS):
        spis = {"a": 0x3000 + 16 * number, "b": 0x3001 + 16 * number}
        text += (
            f'[[tunnel]]\nname = "{name}"\ninterface = "ipsec{number}"\nencapsulation = "udp"\nroutes = "none"\n'
            f'local = "{outer[here][number]}"\nremote = "{outer[there][number]}"\n'
            + "".join(PROXY_IDS.format(*pair) for pair in zip(nets[here], nets[there], strict=True))
            + f'[tunnel.manual_unsafe]\nsuite = "{SUITE}"\nspi_in = {spis[here]}\nspi_out = {spis[there]}\n'
            f'key_in_file = "{name}-{here}.key"\nkey_out_file = "{name}-{there}.key"\n'
        )
        if number < monitored:
            text += MONITOR.format(target=target, action=action)
    for number, name in enumerate(TUNNELS):
        text += "".join(f'[[route]]\nprefix = "{net}"\ntunnel = "{name}"\nmetric = {50 + 10 * number}\n' for net in nets[there])
    return text


@pytest.fixture
def sites(shared_sites):
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)
        heal(shared_sites)


@pytest.fixture
def start(sites, tmp_path):
    """Brings both gateways up with an action; gives them."""
    made = []

    def start(action, monitored=1):
        for name in TUNNELS:
            for side in "ab":
                key = tmp_path / f"{name}-{side}.key"
                key.touch(mode=0o600)
                key.write_text(secrets.token_hex(parse_suite(SUITE).keymat_octets))
        for side, namespace in (("a", sites.gw_a), ("b", sites.gw_b)):
            file = tmp_path / f"gw{side.upper()}.toml"
            file.write_text(configuration(side, action, monitored))
            made.append(GatewayProcess(namespace, file))
            made[-1].start()
        for gateway in made:
            gateway.wait_up()
        return made

    yield start
    for gateway in made:
        gateway.kill()


def cut(sites, *names):
    rules = "\n".join(CUTS[name] for name in names)
    for gateway in (sites.gw_a, sites.gw_b):
        gateway.run(
            "nft", "-f", "-", stdin=f"table inet cut {{ chain cut {{ type filter hook prerouting priority -300;\n{rules}\n}}\n}}\n"
        )


def heal(sites):
    for gateway in (sites.gw_a, sites.gw_b):
        gateway.run("nft", "delete", "table", "inet", "cut", check=False)


def monitor(gateway, number=0):
    return gateway.status()["tunnels"][number]["monitor"]


def sealed(gateway, number):
    return gateway.status()["tunnels"][number]["children"][0]["packets_out"]


def moves(gateway, number, packets=100):
    """Whether traffic goes through a tunnel, beyond what its own probes are."""
    before = sealed(gateway, number)
    return until(lambda: sealed(gateway, number) > before + packets, f"traffic in tunnel {number}")


def way(namespace, address):
    """The interface that routes lead a forwarded packet to."""
    return namespace.run("ip", "route", "get", address, check=False).stdout.partition(" dev ")[2].split(" ")[0]


def state_is(gateway, state, number=0):
    return until(lambda: monitor(gateway, number)["state"] == state, f"monitor {state}", 20)


def test_traffic_moves_over_and_back_and_nothing_leaves_in_clear(sites, start, tmp_path):
    with stream(sites.host_a, harness.BOTH):
        assert leaks_without_us(sites, tmp_path)
        a, b = start("fail-over")
        with watched(sites, tmp_path) as crossed:
            since = time.time_ns()
            moves(a, 0)
            found = until(
                lambda: (now := monitor(a))["rtt_ms"] and not now["lost_in_a_row"] and now["state"] == "up" and now, "answers"
            )
            assert found | {"sent": 0, "lost": 0, "rtt_ms": 0} == {
                "state": "up",
                "target": netns.HOST_B[0],
                "source": netns.GW_A_INNER[0],
                "action": "fail-over",
                "rtt_ms": 0,
                "sent": 0,
                "lost": 0,
                "lost_in_a_row": 0,
            }

            cut(sites, "main")
            state_is(a, "down")
            state_is(b, "down")
            moves(a, 1)
            until(lambda: [way(sites.gw_a, address) for address in netns.HOST_B] == ["ipsec1", "ipsec1"], "both versions' routes")
            ping(sites.host_a, netns.HOST_B[0])
            status = a.status()["tunnels"]
            assert (
                "probes in a row to 10.2.0.2 got no answer through the tunnel; its traffic goes to other tunnels that are routed"
                in status[0]["last_error"]
            )
            until(lambda: "its traffic goes to other tunnels that are routed" in a.text(), "it is in the log")
            assert status[1]["monitor"] is None

            heal(sites)
            state_is(a, "up")
            state_is(b, "up")
            moves(a, 0)
            until(lambda: [way(sites.gw_a, address) for address in netns.HOST_B] == ["ipsec0", "ipsec0"], "both versions' routes")
            until(lambda: a.status()["tunnels"][0]["last_error"] is None, "nothing wrong any more")
            assert crossed(since) == set()
    assert [a.terminate(), b.terminate()] == [0, 0]


def test_when_no_tunnel_is_left_nothing_leaves_and_both_come_back(sites, start, tmp_path):
    """Each side keeps the routes it has no better ones for, or the answers that end the outage could not come back."""
    with stream(sites.host_a, harness.BOTH):
        assert leaks_without_us(sites, tmp_path)
        a, b = start("fail-over", monitored=2)
        with watched(sites, tmp_path) as crossed:
            since = time.time_ns()
            cut(sites, "main", "backup")
            for gateway, number in ((a, 0), (a, 1), (b, 0), (b, 1)):
                state_is(gateway, "down", number)
            assert not harness.pings(sites.host_a, netns.HOST_B[0])
            heal(sites)
            for gateway, number in ((a, 0), (a, 1), (b, 0), (b, 1)):
                state_is(gateway, "up", number)
            moves(a, 0)
            assert crossed(since) == set()


def test_wait_recover_keeps_the_routes(sites, start):
    a, _ = start("wait-recover")
    cut(sites, "main")
    state_is(a, "down")
    assert way(sites.gw_a, netns.HOST_B[0]) == "ipsec0"
    assert not harness.pings(sites.host_a, netns.HOST_B[0])
    assert "its routes stay" in a.status()["tunnels"][0]["last_error"]
    heal(sites)
    state_is(a, "up")
    ping(sites.host_a, netns.HOST_B[0])
