"""Whose first message it may be: tunnels by the addresses that a stranger comes from and comes to."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer_table import PeerTable

from .ladder import peer

HERE, THERE, ELSEWHERE = (ip_address(address) for address in ("192.0.2.2", "192.0.2.1", "203.0.113.5"))


def path(remote, local=HERE):
    return Path(Endpoint(local, 500), Endpoint(remote, 500))


def tunnels(table, *ends):
    found = table.candidates(path(*ends))
    return [] if found is None else [one.tunnel for one in found.peers]


def test_the_very_address_goes_before_any():
    table = PeerTable(
        [
            peer("b", tunnel="any", remotes=()),
            peer("b", tunnel="there", remotes=(THERE,)),
            peer("b", tunnel="there to here", remotes=(THERE,), local=HERE),
        ]
    )
    assert tunnels(table, THERE) == ["there to here", "there", "any"]
    assert tunnels(table, THERE, ELSEWHERE) == ["there", "any"]
    assert tunnels(table, ELSEWHERE) == ["any"]


def test_one_of_several_remotes_is_enough():
    table = PeerTable([peer("b", remotes=(THERE, ELSEWHERE))])
    assert tunnels(table, ELSEWHERE) == tunnels(table, THERE) == ["to-a"]
    assert tunnels(table, HERE) == []


def test_who_has_a_name_may_come_from_anywhere_and_is_the_likelier_one_at_its_address():
    table = PeerTable([peer("b", tunnel="any", remotes=()), peer("b", tunnel="named", remotes=(THERE,), named=True)])
    assert tunnels(table, THERE) == ["named", "any"]
    assert tunnels(table, ELSEWHERE) == ["any", "named"]
    table.set(peer("b", tunnel="named", remotes=(ELSEWHERE,), named=True))
    assert (tunnels(table, THERE), tunnels(table, ELSEWHERE)) == (["any", "named"], ["named", "any"])
    table.set(peer("b", tunnel="named", remotes=(), named=True))
    assert tunnels(table, ELSEWHERE) == ["any", "named"]


def test_a_peer_at_two_places_is_asked_once():
    named = peer("b", tunnel="named", remotes=(THERE,), named=True)
    found = PeerTable([named]).candidates(path(THERE))
    assert found is not None
    assert found.expecting(named.remote_id, Identity.from_text(str(THERE))) == (named,)


def test_by_name():
    one = peer("b")
    table = PeerTable([one])
    assert table["to-a"] is table.get("to-a") is one
    assert table.get("gone") is None
    with pytest.raises(KeyError):
        table["gone"]
