"""Where peers with IKEv1 are expected: who looks at datagrams first is told of each address once, however many tunnels have it."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.effect import Effect
from tests.ike.watcher import NotingWatcher

from .gateways import Gateways, peer

ONE, OTHER = ip_address("198.51.100.1"), ip_address("2001:db8::1")


@pytest.fixture
def watcher():
    return NotingWatcher()


@pytest.fixture
def core(watcher):
    return IkeVersions(replace(Gateways().a.core.environment, watcher=watcher))


def expected(name, *remotes, version=1):
    return peer("a", tunnel=name, remotes=remotes, version=version)


def test_an_address_is_told_of_while_a_tunnel_has_it(core, watcher):
    core.set_peers([expected("t1", ONE, OTHER), expected("t2", ONE, ONE), expected("any"), expected("t4", ONE, version=2)])
    assert watcher.ikev1_peers == {ONE, OTHER}
    core.reconfigure([], {"t1": Effect.RESTART}, 0.0)
    assert watcher.ikev1_peers == {ONE}
    core.reconfigure([expected("t2", ONE, version=2)], {"t2": Effect.RESTART}, 0.0)
    assert watcher.ikev1_peers == set()


def test_a_name_that_means_another_address_moves_it(core, watcher):
    core.set_peers([expected("t1", ONE)])
    core.set_peer(expected("t1", OTHER))
    assert watcher.ikev1_peers == {OTHER}
    core.set_peers([])
    assert watcher.ikev1_peers == set()


def test_a_gateway_without_ikev1_tells_of_none(core, watcher):
    core.set_peers([expected("t1", ONE, version=2)])
    assert watcher.ikev1_peers == set()


def test_an_isakmp_sa_is_told_of_when_it_is_begun_and_when_it_is_up():
    gateways, watcher = Gateways(), NotingWatcher()
    gateways.b.core = IkeVersions(replace(gateways.b.core.environment, watcher=watcher), [peer("b")])  # type: ignore[assignment]
    gateways.initiate("a")
    up = []
    for _ in range(3):
        gateways.deliver("b")
        up.append([one.authenticated for one in watcher.known_now.values()])
        gateways.deliver("a")
    assert up == [[False], [False], [True]]
    assert watcher.keys == {}
