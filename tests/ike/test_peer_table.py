"""Whose first message it may be: tunnels by the addresses that a stranger comes from and comes to."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Path
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


def test_by_name():
    one = peer("b")
    table = PeerTable([one])
    assert table["to-a"] is table.get("to-a") is one
    assert table.get("gone") is None
    with pytest.raises(KeyError):
        table["gone"]
