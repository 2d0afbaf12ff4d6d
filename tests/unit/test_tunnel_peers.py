"""How IKE is to meet the peers of tunnels: addresses that names mean, and who is told of a change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.databases.pad import peer_of
from ipsec_dp.keying.tunnel_peers import TunnelPeers
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel

from .ike_driver_site import ON_DEMAND, Double

ELSEWHERE = (ip_address("192.0.2.99"),)


@pytest.fixture
def site(tmp_path):
    """The peers of one tunnel, their core, and the peer."""
    (one,) = configured(tmp_path, tunnel("to-b", ON_DEMAND)).tunnels
    core: Any = Double()
    clock: Any = FakeClock()
    peer = peer_of(one)
    return TunnelPeers({"to-b": peer}, [one], core, Conditions(clock), clock, None), core, peer


def test_the_core_hears_of_another_address_once(site):
    peers, core, peer = site
    for _ in range(2):
        peers.located("to-b", ELSEWHERE)
    peers.located("to-nobody", ELSEWHERE)
    assert core.of("set_peer") == [("set_peer", replace(peer, remotes=ELSEWHERE))]


def test_a_reload_keeps_the_addresses_of_remotes_that_stay(site):
    peers, core, peer = site
    peers.located("to-b", ELSEWHERE)
    core.calls.clear()
    for keeps, expected in ((True, ELSEWHERE), (False, peer.remotes)):
        peers.put("to-b", peer, keeps_addresses=keeps)
        assert peers["to-b"].remotes == expected
    assert core.calls == [], "it hears of the reload as a whole"


def test_what_proves_peers_is_taken_of_tunnels_that_are_there(site):
    peers, _, peer = site
    peers.located("to-b", ELSEWHERE)
    assert peers.prove({"to-b": replace(peer, local_id=None), "to-nobody": peer}) == ("to-b",)
    assert peers["to-b"] == replace(peer, local_id=None, remotes=ELSEWHERE)


def test_what_is_gone_is_met_no_more(site):
    peers, core, _ = site
    peers.forget("to-b")
    peers.apply("to-b")
    assert (peers.get("to-b"), core.of("set_peer")) == (None, [])
