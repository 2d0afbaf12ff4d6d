"""The security policy database: what a configuration becomes in the data plane."""

from __future__ import annotations

import pytest

from ipsec_dp.config import load
from ipsec_dp.databases import spd as database
from ipsec_dp.databases.indices import IndicesUsedUpError
from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import Action
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, Range
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import PlaneRig, selector

MANUAL = """
  [tunnel.manual_unsafe]
  suite = "aes128gcm16"
  spi_in = 0x100{n}
  spi_out = 0x200{n}
  key_in_file = "key1{n}"
  key_out_file = "key2{n}"
"""
TUNNELS = f"""
[[tunnel]]
name = "to-b"
remote = "192.0.2.2"
encapsulation = "udp"
interface = "ipsec0"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/24"
  remote = "10.2.0.0/24"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/24"
  remote = "10.4.0.0/24"
  protocol = "tcp"
  remote_ports = "5000-5010"
{MANUAL.format(n=1)}
[[tunnel]]
name = "to-c"
remote = "192.0.2.3"
encapsulation = "udp"
interface = "ipsec1"
{MANUAL.format(n=2)}
"""
POLICIES = """
[[policy]]
action = "discard"
local = "10.1.0.0/24"
remote = "10.2.0.9/32"
[[policy]]
action = "protect"
tunnel = "to-c"
local = "10.1.0.0/24"
remote = "10.2.0.0/25"
"""


@pytest.fixture
def spd_of(tmp_path):
    for number in ("11", "12", "21", "22"):
        (tmp_path / f"key{number}").write_text(number * 20)
        (tmp_path / f"key{number}").chmod(0o600)

    def spd_of(text):
        path = tmp_path / "a.toml"
        path.write_text(text)
        return Spd(load(path))

    return spd_of


def test_tunnels_and_interfaces_are_numbered_in_the_order_written(spd_of):
    spd = spd_of(TUNNELS)
    assert spd.tunnel_numbers == {"to-b": 0, "to-c": 1}
    assert spd.interface_numbers == {"ipsec0": 0, "ipsec1": 1}
    assert (spd.tunnel_names, spd.interface_names) == ({0: "to-b", 1: "to-c"}, {0: "ipsec0", 1: "ipsec1"})


def test_tunnels_may_have_the_numbers_that_they_had_in_another_process(spd_of, tmp_path):
    """Also those of a tunnel that is gone, which its rules do not name any more."""
    spd = spd_of(TUNNELS)
    spd.number_as({"to-c": 7, "gone": 0}, load(tmp_path / "a.toml"))
    assert (spd.tunnel_numbers, spd.tunnel_names) == ({"to-c": 7, "to-b": 8}, {7: "to-c", 8: "to-b"})
    assert {rule.tunnel for rule in spd.rules if rule.action is Action.PROTECT} == {7, 8}


def test_a_configuration_with_too_many_interfaces_moves_no_tunnel(spd_of, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "INTERFACES_MOST", 2)
    spd = spd_of(TUNNELS)
    of, rules = dict(spd.interface_of), spd.rules
    (tmp_path / "b.toml").write_text(TUNNELS.replace('"ipsec1"', '"ipsec2"').replace('"ipsec0"', '"ipsec1"'))
    with pytest.raises(IndicesUsedUpError, match="more than 2 interfaces"):
        spd.reconfigure(load(tmp_path / "b.toml"))
    assert (spd.interface_of, spd.rules) == (of, rules)


def test_tunnels_may_share_an_interface(spd_of):
    assert spd_of(TUNNELS.replace('"ipsec1"', '"ipsec0"')).interface_numbers == {"ipsec0": 0}


def test_proxy_ids_become_protect_rules_of_their_tunnels_interface(spd_of):
    first, second, third, fourth = spd_of(TUNNELS).rules
    assert [(rule.action, rule.interface, rule.tunnel) for rule in (first, second)] == [(Action.PROTECT, 0, 0)] * 2
    assert first.selector == selector("10.1.0.0/24", "10.2.0.0/24")
    assert second.selector == selector("10.1.0.0/24", "10.4.0.0/24", protocol=Range(6, 6), remote_ports=Range(5000, 5010))
    assert [(rule.action, rule.interface, rule.tunnel) for rule in (third, fourth)] == [(Action.PROTECT, 1, 1)] * 2
    assert {third.selector, fourth.selector} == {selector("0.0.0.0/0", "0.0.0.0/0"), selector("::/0", "::/0")}


def test_any_holds_what_cannot_be_seen_too(spd_of):
    rule = spd_of(TUNNELS).rules[0]
    assert (rule.selector.protocol, rule.selector.local_ports, rule.selector.remote_ports) == (ANY_PROTOCOL, ANY_PORT, ANY_PORT)


def test_policies_come_before_proxy_ids_and_discard_on_every_interface(spd_of):
    rules = spd_of(TUNNELS + POLICIES).rules
    assert [(rule.action, rule.interface) for rule in rules[:3]] == [(Action.DISCARD, 0), (Action.DISCARD, 1), (Action.PROTECT, 1)]
    assert rules[2].tunnel == 1


def test_a_rule_has_its_selector_as_it_was_written(spd_of, tmp_path):
    spd_of(TUNNELS)
    config = load(tmp_path / "a.toml")
    assert list(config.tunnels[0].selectors) == [rule.selector for rule in Spd(config).rules[:2]]


@pytest.mark.parametrize(
    ("source", "destination", "interface", "drop"),
    [
        ("10.1.0.1", "10.2.0.1", 0, "no_sa"),
        ("10.1.0.1", "10.2.0.9", 0, "policy_discard"),
        ("10.1.0.1", "10.2.0.9", 1, "policy_discard"),
        ("10.1.0.1", "10.4.0.1", 0, "policy_none"),
        ("10.9.0.1", "10.2.0.1", 0, "policy_none"),
        ("10.9.0.1", "10.2.0.1", 1, "no_sa"),
        ("2001:db8::1", "2001:db8::2", 1, "no_sa"),
    ],
)
def test_the_snapshot_decides_like_the_configuration(spd_of, source, destination, interface, drop):
    """No tunnel has an SA here: a protected packet is dropped as no_sa, whatever else for another reason."""
    with PlaneRig("a", "192.0.2.1", interfaces=2) as gateway:
        gateway.plane.install_policy(spd_of(TUNNELS + POLICIES).snapshot())
        gateway.push(udp(source, destination), interface=interface)
        gateway.step()
        assert gateway.drops == {drop: 1}
