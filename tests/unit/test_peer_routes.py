"""Where peers are and how they are reached: at which addresses we listen, from which we call, and what is said when we cannot."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_address

import pytest

from ipsec_dp.dataplane import Df, Encapsulation
from ipsec_dp.host import HostError
from ipsec_dp.network.peer_routes import OUTER_MTU, PeerRoutes
from tests.doubles.config import MANUAL, PSK, configured, proxy_id, tunnel
from tests.doubles.host import MemoryRoutes

OURS, OURS6, OTHER = ip_address("192.0.2.1"), ip_address("2001:db8::1"), ip_address("198.51.100.1")
PEER, PEER6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")
ANYBODY = PSK + '  remote_id = "b.example"\n'
KEYED = proxy_id("10.1.0.0/24", "10.2.0.0/24") + MANUAL


class Links:
    """Counts what is opened."""

    def __init__(self):
        self.opened = []

    def link(self, local, encapsulation):
        self.opened.append((local, encapsulation))
        return 5


@pytest.fixture
def routes():
    return MemoryRoutes([OURS, OURS6, OTHER])


@pytest.fixture
def peers(routes):
    return PeerRoutes(routes)


def one(directory, *lines, **others):
    return configured(directory, tunnel("to-b", *lines, **others)).tunnel("to-b")


# ---- from where we call


def test_we_call_from_where_the_route_begins(tmp_path, peers):
    assert asyncio.run(peers.locate(one(tmp_path), PEER)) == (PEER, OURS)
    assert asyncio.run(peers.locate(one(tmp_path), PEER6)) == (PEER6, OURS6)


def test_or_from_the_configured_local_address(tmp_path, peers):
    assert asyncio.run(peers.locate(one(tmp_path, f'local = "{OTHER}"'), PEER)) == (PEER, OTHER)


def test_of_a_name_with_several_addresses_each_turn_takes_the_next_with_a_route(tmp_path, peers, routes, monkeypatch):
    answer = [(0, 0, 0, "", (text, 0)) for text in ("192.0.2.2", "192.0.2.3", "192.0.2.4")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer)
    routes.refused = {ip_address("192.0.2.3")}
    named = one(tmp_path, remote="b.example")
    called = [str(asyncio.run(peers.locate(named, "b.example", turn))[0]) for turn in range(3)]
    assert called == ["192.0.2.2", "192.0.2.4", "192.0.2.2"]


def test_without_a_route_there_is_nothing_to_call(tmp_path, peers, routes):
    routes.refused = {PEER}
    with pytest.raises(HostError, match="no route to"):
        asyncio.run(peers.locate(one(tmp_path), PEER))


# ---- where we listen


@pytest.mark.parametrize(
    ("tunnels", "expected"),
    [
        ([tunnel()], {OURS}),
        ([tunnel(), tunnel("6", remote=str(PEER6), interface="ipsec1")], {OURS, OURS6}),
        ([tunnel("any", remote="any", keys=ANYBODY)], {OURS, OURS6, OTHER}),
        ([tunnel("to-b", f'local = "{OTHER}"')], {OTHER}),
        ([tunnel("to-b", 'local = "203.0.113.1"')], set()),
        ([tunnel("to-b", keys=KEYED)], set()),
        ([tunnel("named", remote="nowhere.example", keys=ANYBODY)], {OURS, OURS6, OTHER}),
    ],
    ids=["towards the peer", "both versions", "any peer", "local", "a local that is not ours", "manual keys", "a name"],
)
def test_where_peers_may_call(tmp_path, peers, tunnels, expected):
    assert asyncio.run(peers.listen_at(configured(tmp_path, *tunnels).tunnels)) == expected


def test_what_is_missing_is_in_the_log_once(tmp_path, peers, routes, caplog):
    routes.refused = {PEER}
    tunnels = configured(tmp_path, tunnel(), tunnel("lost", 'local = "203.0.113.1"', interface="ipsec1")).tunnels
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            asyncio.run(peers.listen_at(tunnels))
    assert [record.message for record in caplog.records] == [
        'tunnel "to-b": no route to 192.0.2.2',
        'tunnel "lost": local 203.0.113.1 is not an address of this host; waiting for it',
    ]


# ---- how wide, and which way


def test_the_mtu_is_that_of_the_route_and_a_usual_one_without(peers, routes):
    routes.mtu = 1400
    assert asyncio.run(peers.mtu(PEER)) == 1400
    routes.refused = {PEER}
    assert asyncio.run(peers.mtu(PEER)) == OUTER_MTU


def test_the_mtu_is_that_of_the_way_from_the_address_that_we_send_from(peers, routes):
    routes.mtus = {OTHER: 1280}
    assert [asyncio.run(peers.mtu(PEER, local)) for local in (OURS, OTHER, None)] == [1500, 1280, 1500]


def test_the_first_peer_is_none_where_any_may_call_or_there_is_no_route(tmp_path, peers, routes):
    assert asyncio.run(peers.first_ends(one(tmp_path))) == (PEER, OURS)
    assert asyncio.run(peers.first_ends(one(tmp_path, f'local = "{OTHER}"'))) == (PEER, OTHER)
    assert asyncio.run(peers.first_ends(one(tmp_path, remote="any", keys=ANYBODY))) is None
    routes.refused = {PEER}
    assert asyncio.run(peers.first_ends(one(tmp_path))) is None


def test_the_interfaces_of_the_peers_are_those_of_the_routes_there_are(tmp_path, peers, routes):
    config = configured(tmp_path, tunnel(), tunnel("c", remote="192.0.2.3", interface="ipsec1"))
    assert asyncio.run(peers.outer_interfaces(config)) == {2}
    routes.refused = {PEER, ip_address("192.0.2.3")}
    assert asyncio.run(peers.outer_interfaces(config)) == set()


# ---- manual tunnels


@pytest.mark.parametrize(("encapsulation", "kind", "port"), [("udp", Encapsulation.UDP, 4500), ("esp", Encapsulation.ESP, 0)])
def test_the_path_of_a_manual_tunnel_has_its_link_and_outer_header(tmp_path, peers, encapsulation, kind, port):
    manual = one(tmp_path, f'encapsulation = "{encapsulation}"', 'df = "clear"', keys=KEYED)
    links = Links()
    path = asyncio.run(peers.path(manual, links))
    assert (path.local.address, path.local.port, path.remote.address, path.remote.port) == (OURS, port, PEER, port)
    assert (path.encapsulation, path.link, path.df) == (kind, 5, Df.CLEAR)
    assert links.opened == [(path.local, kind)]


def test_a_manual_tunnel_without_a_route_is_named(tmp_path, peers, routes):
    routes.refused = {PEER}
    with pytest.raises(HostError, match=r'^tunnel "to-b": no route to 192\.0\.2\.2$'):
        asyncio.run(peers.path(one(tmp_path, keys=KEYED), Links()))
