"""Fixtures of the tests in network namespaces, and the check that none of them leaves anything in the kernel."""

from __future__ import annotations

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns import harness


@pytest.fixture(scope="session", autouse=True)
def no_stale_namespaces():
    """Takes away what a killed run left, so that it cannot be mistaken for ours."""
    netns.sweep()

    yield
    assert netns.owned() == []


@pytest.fixture(autouse=True)
def nothing_left():
    """After each test: namespaces, and the host's own links, addresses, routes, rules and nftables as before."""
    namespaces, before = netns.owned(), harness.picture()
    yield
    assert netns.owned() == namespaces
    assert harness.difference(before, harness.picture()) == []


@pytest.fixture(scope="module")
def shared_sites():
    """The same topology for a whole module; what a test changes in it, it takes back."""
    with netns.Lab() as made:
        yield netns.two_sites(made)


@pytest.fixture
def lab(nothing_left):  # the check comes after the lab is closed
    with netns.Lab() as made:
        yield made


@pytest.fixture
def sites(lab):
    """hostA - gwA = gwB - hostB; see `ipsec_dp.rig.netns.TwoSites`."""
    return netns.two_sites(lab)


@pytest.fixture
def sites_opened_again(shared_sites):
    """What gateways of the test leave closed goes after it."""
    yield shared_sites
    for namespace, name in ((shared_sites.gw_a, "gwA"), (shared_sites.gw_b, "gwB")):
        harness.open_guard(namespace, name)


@pytest.fixture
def pair(sites_opened_again, tmp_path):
    """Two gateways with manual keys, not started; what runs of them is killed after the test."""
    made = GatewayPair(sites_opened_again, tmp_path, ManualPair())
    yield made
    made.a.kill()
    made.b.kill()
