"""Whose first message it may be: tunnels by the addresses that a stranger comes from and comes to."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer_table import PeerTable

from .ladder import Ladder, peer

HERE, THERE, ELSEWHERE = (ip_address(address) for address in ("192.0.2.2", "192.0.2.1", "203.0.113.5"))

SOMEBODY = Identity.from_text("somebody.example")


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


@pytest.mark.parametrize("moved", [(), ("192.0.2.77",), ("192.0.2.1", "192.0.2.77")])
@pytest.mark.parametrize("others", [0, 1])
def test_who_has_begun_is_still_expected_when_his_name_means_other_addresses(moved, others):
    """Its answer, a CRL or a reload may come between his first message and his proof."""
    ladder = Ladder(
        b=[peer("b", named=True), *(peer("b", tunnel=f"other {n}", named=True, remote_id=SOMEBODY) for n in range(others))]
    )
    ladder.initiate()
    ladder.deliver("b")
    ladder.b.core.set_peer(peer("b", named=True, **({"remotes": tuple(map(ip_address, moved))} if moved else {})))
    ladder.settle()
    ladder.check()


def test_who_has_begun_is_not_expected_once_his_tunnel_is_gone():
    ladder = Ladder()
    ladder.initiate()
    ladder.deliver("b")
    ladder.b.do(ladder.b.core.reconfigure([], {"to-a": Effect.RESTART}, ladder.clock()))
    ladder.settle()
    (event,) = ladder.b.events
    assert 'tunnel "to-a" expected gwa.example when it began, and does so no longer' in event.text


def test_a_place_that_nobody_stands_at_any_more_is_empty():
    table = PeerTable([peer("b")])
    for address in ("192.0.2.77", "192.0.2.78"):
        table.set(peer("b", remotes=(ip_address(address),)))
        assert table.candidates(path(ip_address(address))) is not None
    assert table.candidates(path(ip_address("192.0.2.77"))) is None
    table.discard("to-a")
    assert table.candidates(path(ip_address("192.0.2.78"))) is None


def test_by_name():
    one = peer("b")
    table = PeerTable([one])
    assert table["to-a"] is table.get("to-a") is one
    assert table.get("gone") is None
    with pytest.raises(KeyError):
        table["gone"]
