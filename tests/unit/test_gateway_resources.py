"""A CHILD_SA for each worker (RFC 9611), as whole gateways in memory have them and show them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ipsec_dp.rig import Gateway, Network
from ipsec_dp.rig.packets import udp
from tests.unit.rig_sites import site

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOWS = 64


def with_workers(me: str, workers: int) -> str:
    return site(me).replace("[gateway]\n", f"[gateway]\nworkers = {workers}\n")


@contextmanager
def up(a: int, b: int) -> Iterator[tuple[Gateway, Gateway]]:
    with Network() as network:
        of_b, of_a = network.gateway(with_workers("b", b)), network.gateway(with_workers("a", a))
        of_a.wait("up")
        of_b.wait("up")
        yield of_a, of_b


def exchange(a: Gateway, b: Gateway, rounds: int) -> None:
    """A packet of each flow a second; each arrives."""
    for _ in range(rounds):
        packets = [udp("10.1.0.5", f"10.2.0.{flow}", b"hello") for flow in range(1, FLOWS + 1)]
        for packet in packets:
            a.inject(packet)
        a.network.advance(1.0)
        assert sorted(b.received()) == sorted(packets)


@pytest.mark.parametrize(("a", "b"), [(2, 2), (3, 3), (3, 2), (2, 3)])
def test_a_tunnel_that_is_used_has_one_for_each_worker_and_flows_share_them(a, b):
    with up(a, b) as (of_a, of_b):
        exchange(of_a, of_b, 5)
        assert sorted(sa.worker for sa in of_a.sas()) == list(range(a))
        assert {sa.worker for sa in of_b.sas()} == set(range(min(a, b)))
        before = [sa.packets_out for sa in of_a.sas()]
        exchange(of_a, of_b, 2)
        assert all(sa.packets_out > packets for sa, packets in zip(of_a.sas(), before, strict=True))
        assert not any(drops for each in (of_a, of_b) for drops in each.status().drops.values())


@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 1)])
def test_with_a_side_of_one_worker_there_is_one(a, b):
    with up(a, b) as (of_a, of_b):
        exchange(of_a, of_b, 5)
        assert [sa.worker for sa in of_a.sas()] == [sa.worker for sa in of_b.sas()] == [0]


def test_a_rekey_of_all_of_them_keeps_their_workers():
    with up(2, 2) as (of_a, of_b):
        exchange(of_a, of_b, 5)
        before = {sa.spi_in for sa in of_a.sas()}
        of_a.rekey()
        of_a.wait(lambda: len(of_a.sas()) == 2 and before.isdisjoint(sa.spi_in for sa in of_a.sas()))
        assert sorted(sa.worker for sa in of_a.sas()) == [0, 1]
        exchange(of_a, of_b, 2)
