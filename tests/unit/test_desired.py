"""What a configuration asks of the host: what the guard holds, what is routed where, what may pass between zones."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from ipsec_dp.host.routes import METRIC
from ipsec_dp.network.desired import GuardSelectors, guard_selectors, routed_prefixes, zone_rule
from tests.doubles.config import PSK, configured, proxy_id, tunnel

A_TO_B = proxy_id("10.1.0.0/24", "10.2.0.0/24") + PSK
A_TO_C = proxy_id("10.1.0.0/24", "10.3.0.0/24") + PSK
TO_EVERYTHING = proxy_id("10.1.0.0/24", "0.0.0.0/0") + PSK


def held(selectors):
    return [(str(each.local), str(each.remote), each.bypass) for each in selectors]


def of(*remotes, bypass=False):
    return [("10.1.0.0-10.1.0.255", remote, bypass) for remote in remotes]


TO_B, TO_C = "10.2.0.0-10.2.0.255", "10.3.0.0-10.3.0.255"


# ---- the guard


def test_the_guard_holds_what_the_tunnels_protect_in_their_order(tmp_path):
    config = configured(tmp_path, tunnel("b", keys=A_TO_B), tunnel("c", keys=A_TO_C))
    selectors, overlapping = guard_selectors(config)
    assert held(selectors) == of(TO_B, TO_C)
    assert not overlapping


def test_what_a_policy_lets_bypass_comes_first_and_is_let_through(tmp_path):
    policy = '[[policy]]\naction = "bypass"\nlocal = "10.1.0.0/24"\nremote = "10.2.0.9"\n'
    selectors, _ = guard_selectors(configured(tmp_path, policy, tunnel("b", keys=A_TO_B)))
    assert [each.bypass for each in selectors] == [True, False]
    assert str(selectors[0].remote).startswith("10.2.0.9")


def test_a_tunnel_for_everything_holds_what_is_routed_into_tunnels_alone(tmp_path):
    config = configured(tmp_path, tunnel("b", 'routes = ["10.2.0.0/24", "10.3.0.0/24"]', keys=TO_EVERYTHING))
    selectors, _ = guard_selectors(config)
    assert held(selectors) == of(TO_B, TO_C)


def test_local_and_remote_that_overlap_are_noticed(tmp_path):
    keys = proxy_id("10.1.0.0/24", "10.0.0.0/8") + PSK
    assert guard_selectors(configured(tmp_path, tunnel("b", keys=keys)))[1]


def test_a_tunnel_that_stays_keeps_its_selectors_as_objects(tmp_path):
    known = GuardSelectors()
    before = configured(tmp_path, tunnel("b", keys=A_TO_B))
    first = known.of(before)[0]
    assert known.of(before)[0][0] is first[0]
    other = configured(tmp_path, tunnel("b", keys=A_TO_B))  # the same text, read again: other objects
    assert known.of(other)[0] == first
    assert known.of(other)[0][0] is not first[0]


# ---- routes


def test_what_a_tunnel_protects_is_routed_into_its_interface(tmp_path):
    config = configured(tmp_path, tunnel("b", keys=A_TO_B), tunnel("c", interface="ipsec1", keys=A_TO_C))
    assert routed_prefixes(config) == {
        ip_network("10.2.0.0/24"): [("ipsec0", METRIC)],
        ip_network("10.3.0.0/24"): [("ipsec1", METRIC)],
    }


def test_a_prefix_may_lead_into_two_interfaces_the_second_for_when_the_first_is_down(tmp_path):
    spare = '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "c"\nmetric = 200\n'
    config = configured(
        tmp_path, tunnel("b", keys=A_TO_B), tunnel("c", "routes = []", interface="ipsec1", keys=TO_EVERYTHING), spare
    )
    assert routed_prefixes(config)[ip_network("10.2.0.0/24")] == [("ipsec0", METRIC), ("ipsec1", 200)]


# ---- zones


@pytest.mark.parametrize(("action", "log"), [("allow", False), ("deny", True)])
def test_a_zone_rule_says_the_same_to_the_kernel(tmp_path, action, log):
    zones = '[[zone]]\nname = "vpn"\ninterfaces = ["ipsec0"]\n[[zone]]\nname = "lan"\ninterfaces = ["eth1"]\n'
    lines = f'action = "{action}"\nlog = {str(log).lower()}\nprotocol = "tcp"\ndestination_ports = 80\n'
    config = configured(tmp_path, tunnel("b", keys=A_TO_B), zones, f'[[zone_rule]]\nfrom = "vpn"\nto = "lan"\n{lines}')
    made = zone_rule(config.zone_rules[0])
    assert (made.origin, made.target, made.allow, made.log) == ("vpn", "lan", action == "allow", log)
    assert [str(each.remote) for each in made.selectors] == [str(each.remote) for each in config.zone_rules[0].selectors]
