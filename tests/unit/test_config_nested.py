"""Peers that lie behind another tunnel: refused at `check`, and when they are found at run time; named with the way out."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest

from ipsec_dp.config.nested import Nesting
from ipsec_dp.errors import ConfigError
from tests.doubles.config import PSK, configured, proxy_id, tunnel

OUTER = tunnel("outer", remote="192.0.2.2") + proxy_id("10.1.0.0/16", "10.2.0.0/16")
HUB = OUTER.replace("10.2.0.0/16", "10.0.0.0/8")


def inner(remote: str = "10.2.0.9", *lines: str, keys: str = PSK) -> str:
    return tunnel("inner", *lines, remote=remote, interface="ipsec1", keys=keys) + proxy_id("10.1.0.0/16", "10.3.0.0/16")


ANYBODY = inner("any", keys=PSK + '  remote_id = "inner.example"\n')
LOCAL = 'local = "192.0.2.1"'


def bypass(remote: str = "10.2.0.9/32", *lines: str) -> str:
    return f'[[policy]]\naction = "bypass"\nprotocol = 50\nremote = "{remote}"\n' + "".join(f"{line}\n" for line in lines)


def test_a_peer_behind_another_tunnel_is_refused_with_cause_and_remedy(tmp_path):
    with pytest.raises(ConfigError) as refused:
        configured(tmp_path, OUTER, inner())
    (finding,) = refused.value.findings
    assert (finding.where, finding.key) == ('tunnel "inner"', "remote")
    assert finding.wrong == '10.2.0.9 lies behind tunnel "outer", which protects 10.2.0.0/16; a tunnel inside it is not made'
    assert 'action = "bypass", protocol = 50 and remote = "10.2.0.9/32"' in finding.right


def silent(config):
    return [(str(one.low), str(one.high)) for one in Nesting.of(config).silent()]


def test_where_the_data_plane_answers_nobody_is_what_tunnels_to_known_peers_protect_but_for_those_peers(tmp_path):
    further = tunnel("far", remote="198.51.100.7", interface="ipsec1")
    both = OUTER + proxy_id("10.1.0.0/16", "10.3.0.0/16") + further + proxy_id("10.1.0.0/16", "198.51.100.0/24")
    assert silent(configured(tmp_path, both)) == [
        ("10.2.0.0", "10.3.255.255"),
        ("198.51.100.0", "198.51.100.6"),
        ("198.51.100.8", "198.51.100.255"),
    ]
    assert silent(configured(tmp_path, tunnel("outer"))) == [], "a tunnel for everything says nothing of where anybody is"
    assert silent(configured(tmp_path, ANYBODY)) == [], "whose peer may be anywhere"
    six = tunnel("outer") + proxy_id("2001:db8:1::/48", "2001:db8:2::/48")
    assert silent(configured(tmp_path, six)) == [("2001:db8:2::", "2001:db8:2:ffff:ffff:ffff:ffff:ffff")]


REFUSED = {
    "one of several remotes": (OUTER, tunnel("inner", interface="ipsec1").replace('"192.0.2.2"', '["198.51.100.1", "10.2.0.9"]')),
    "the order does not matter": (inner(), OUTER),
    "a policy protects it": (
        tunnel("outer"),
        inner(),
        '[[policy]]\naction = "protect"\ntunnel = "outer"\nremote = "10.2.0.0/24"\n',
    ),
    "it is routed into a tunnel for everything": (tunnel("outer", 'routes = ["10.2.0.0/16"]'), inner()),
    "by a [[route]]": (tunnel("outer"), inner(), '[[route]]\nprefix = "10.2.0.0/16"\ntunnel = "outer"\n'),
    "its own selectors hold it too": (OUTER, inner() + proxy_id("10.1.0.0/16", "10.2.0.9")),
    "on the other side of a hub": (HUB, inner("10.2.0.9")),
    "either side has the same addresses": (HUB.replace("10.1.0.0/16", "10.0.0.0/8"), inner()),
    "IPv6": (
        tunnel("outer") + proxy_id("2001:db8:1::/48", "2001:db8:2::/48"),
        tunnel("inner", remote="2001:db8:2::9", interface="ipsec1") + proxy_id("10.1.0.0/16", "10.3.0.0/16"),
    ),
    "the bypass is for other local addresses": (bypass("10.2.0.9/32", 'local = "10.1.0.0/16"'), OUTER, inner("10.2.0.9", LOCAL)),
    "the bypass comes too late": (
        '[[policy]]\naction = "protect"\ntunnel = "outer"\nremote = "10.2.0.0/24"\n', bypass(), OUTER, inner()
    ),
}  # fmt: skip
ALLOWED = {
    "elsewhere": (OUTER, inner("10.9.0.9")),
    "it is reached directly, by policy": (bypass(), OUTER, inner()),
    "by a bypass of all protocols": ('[[policy]]\naction = "bypass"\nremote = "10.2.0.0/24"\n', OUTER, inner()),
    "the tunnel is to the same peer": (OUTER.replace("192.0.2.2", "10.2.0.9"), inner()),
    "its own tunnel holds it": (tunnel("outer", remote="10.2.0.9") + proxy_id("10.1.0.0/16", "10.2.0.0/16"),),
    "TCP alone is protected": (OUTER.replace("10.2.0.0/16", '10.2.0.0/16"\n  protocol = "tcp'), inner()),
    "a tunnel for everything that routes something else": (tunnel("outer", 'routes = ["10.77.0.0/16"]'), inner()),
    "on this side of a hub": (HUB, inner("10.1.0.9")),
    "any peer may come": (OUTER, ANYBODY),
}


@pytest.mark.parametrize("tables", REFUSED.values(), ids=REFUSED.keys())
def test_refused(tmp_path, tables):
    with pytest.raises(ConfigError, match='lies behind tunnel "outer"'):
        configured(tmp_path, *tables)


@pytest.mark.parametrize("tables", ALLOWED.values(), ids=ALLOWED.keys())
def test_allowed(tmp_path, tables):
    assert not [each for each in configured(tmp_path, *tables).warnings if "beside" in each.wrong]


def test_beside_a_tunnel_for_everything_it_is_told(tmp_path):
    everything = tunnel("outer", remote="192.0.2.2") + proxy_id("10.1.0.0/16", "0.0.0.0/0")
    everything = everything.replace("interface", 'routes = ["0.0.0.0/0"]\ninterface')
    (warning,) = [each for each in configured(tmp_path, everything, inner()).warnings if "beside" in each.wrong]
    assert warning.wrong == 'ESP and IKE to 10.2.0.9 leave beside tunnel "outer", which protects 0.0.0.0/0'
    assert not [each for each in configured(tmp_path, bypass(), everything, inner()).warnings if "beside" in each.wrong]


def test_who_is_found_at_run_time(tmp_path):
    config = configured(tmp_path, OUTER, ANYBODY)
    nesting, peer = Nesting.of(config), ip_address("10.2.0.9")
    assert nesting.of_stranger(ip_address("192.0.2.2")) is None
    assert nesting.of_stranger(ip_address("10.9.0.9")) is None
    holder = nesting.of_stranger(peer)
    assert holder is not None
    assert holder == nesting.holder("inner", peer, ip_address("192.0.2.1"))
    assert 'lies behind tunnel "outer", which protects 10.2.0.0/16' in holder.refusal(peer)
    named = Nesting.of(configured(tmp_path, OUTER.replace("192.0.2.2", "peer.example"), ANYBODY))
    assert named.of_stranger(peer) is None, "it may be the peer of that name, until it has shown who it is"
    assert named.holder("inner", peer) is not None


@pytest.mark.measure
def test_thousands_of_tunnels_are_looked_at_quickly(tmp_path):
    tables = []
    for number in range(5000):
        high, low = number // 256, number % 256
        table = tunnel(f"t{number}", remote=f"198.18.{high}.{low}", interface=f"ipsec{number % 200}")
        tables.append(table + proxy_id("172.16.0.0/12", f"10.{high}.{low}.0/24"))
    config = configured(tmp_path, *tables)
    began = time.process_time()
    nesting = Nesting.of(config)
    assert not any(nesting.holder(one.name, one.remotes[0]) for one in config.tunnels if not isinstance(one.remotes[0], str))
    assert time.process_time() - began < 1.0
