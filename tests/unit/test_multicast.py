"""Multicast: it passes where one tunnel has the interface, both ways; where several share it, it is dropped and counted."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from ipsec_dp.dataplane import Action, MemoryDatagram, PolicyRule
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.plane import PlaneRig, keymat, selector

SUITE = parse_suite("aes128gcm16")
ANYTHING = (selector("0.0.0.0/0", "0.0.0.0/0"), selector("::/0", "::/0"))
OSPF = {4: udp("169.254.10.1", "224.0.0.5"), 6: udp("fe80::1", "ff02::5")}
WIDER = [udp("10.1.0.1", "239.255.255.255"), udp("2001:db8:1::1", "ff0e::1")]
BESIDE = [udp("10.1.0.1", "223.255.255.255"), udp("10.1.0.1", "240.0.0.1"), udp("fd00::1", "feff::1")]
ONE_TUNNEL = [PolicyRule(each, Action.PROTECT, 0, 0) for each in ANYTHING]
SECOND = PolicyRule(selector("10.1.0.0/16", "10.9.0.0/16"), Action.PROTECT, 0, 1)


@contextmanager
def route_based():
    """Gateways with one CHILD_SA for everything between them; each with the policy of one tunnel on its interface."""
    with PlaneRig("a", "192.0.2.1") as a, PlaneRig("b", "192.0.2.2") as b:
        for gateway, peer, spi in ((a, b, 0x1001), (b, a, 0x1001)):
            gateway.set_policy(ONE_TUNNEL)
            keys_in, keys_out = (keymat(SUITE, f"to {each.name}") for each in (gateway, peer))
            inbound = gateway.sad.install_inbound(
                spi=spi, suite=SUITE, keymat=keys_in, selectors=ANYTHING, tunnel=0, interface=0, replay_window=64
            )
            child = gateway.sad.add_child(0, ANYTHING, inbound)
            path = gateway.path_to(peer.endpoint)
            outbound = gateway.sad.install_outbound(spi=spi, suite=SUITE, keymat=keys_out, path=path, tunnel=0)
            gateway.sad.switch(child, outbound)
        yield a, b


def carry(a, b, packets):
    """What comes out of b's tunnel interface of what a's host sent."""
    a.push(*packets)
    a.step()
    b.arrive(*(MemoryDatagram(each.data, each.remote, each.local, each.tos) for each in a.sent()))
    b.step()
    return b.pulled()


def test_multicast_passes_on_an_interface_of_one_tunnel():
    packets = [*OSPF.values(), *WIDER, *BESIDE]
    with route_based() as (a, b):
        assert carry(a, b, packets) == packets
        assert carry(b, a, packets) == packets
        assert a.drops == b.drops == {}


def test_a_discard_rule_shares_nothing():
    with route_based() as (a, b):
        a.set_policy([PolicyRule(selector("10.7.0.0/16", "10.8.0.0/16"), Action.DISCARD, 0), *ONE_TUNNEL])
        assert carry(a, b, OSPF.values()) == list(OSPF.values())


def test_another_interfaces_tunnel_shares_nothing():
    with route_based() as (a, b):
        a.set_policy([*ONE_TUNNEL, PolicyRule(ANYTHING[0], Action.PROTECT, 1, 1)])
        assert carry(a, b, OSPF.values()) == list(OSPF.values())


@pytest.mark.parametrize("rules", [[*ONE_TUNNEL, SECOND], [SECOND, *ONE_TUNNEL]], ids=["behind", "before"])
def test_multicast_into_a_shared_interface_is_dropped_and_counted(rules):
    with route_based() as (a, b):
        a.set_policy(rules)
        assert carry(a, b, [*OSPF.values(), *WIDER]) == []
        assert a.drops == {"multicast_shared": 4}
        assert carry(a, b, BESIDE) == BESIDE
        assert a.drops == {"multicast_shared": 4}


def test_multicast_out_of_a_shared_interface_is_dropped_and_counted():
    """A peer that is one of several must not speak to the routing daemon of all."""
    with route_based() as (a, b):
        b.set_policy([*ONE_TUNNEL, SECOND])
        assert carry(a, b, [*OSPF.values(), *WIDER, *BESIDE]) == BESIDE
        assert b.drops == {"multicast_shared": 4}
