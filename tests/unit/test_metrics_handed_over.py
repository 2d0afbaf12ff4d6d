"""Who asks for metrics while a gateway goes on in another process is answered by that: the socket is the same."""

from __future__ import annotations

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.gateway.upgrade.giving import Giving
from ipsec_dp.gateway.upgrade.offered import Places
from ipsec_dp.services.path_mtu import CarriedMtus
from tests.doubles.config import configured, tunnel
from tests.doubles.giving import HOST
from tests.unit.test_metrics_server import GET, LOCALHOST, Serving, serving


def handed_over(before: Serving) -> socket.socket:
    """As it comes in another process: a descriptor of its own of the same socket."""
    descriptor = before.server.descriptor
    assert descriptor is not None
    return socket.socket(fileno=os.dup(descriptor))


def test_who_connects_in_between_is_answered_by_the_next_process():
    async def run() -> tuple[bytes, int, int]:
        async with serving([b"before\n"]) as before:
            after = Serving([b"after\n"], before.port)
            after.server.take(handed_over(before))
            before.server.leave()
            reader, writer = await asyncio.open_connection(LOCALHOST, before.port)  # it waits in the kernel
            writer.write(GET)
            await before.server.close()
            await after.apply(after.port)
            answer = await reader.read()
            writer.close()
            await after.server.close()
            return answer, before.made, after.made

    answer, before, after = asyncio.run(run())
    assert answer.endswith(b"\r\nafter\n")
    assert (before, after) == (0, 1)


def test_the_socket_is_taken_once_and_another_address_is_opened_anew():
    async def run() -> tuple[int | None, int | None]:
        async with serving() as before:
            after = Serving([b"after\n"], before.port)
            taken = handed_over(before)
            after.server.take(taken)
            before.server.leave()
            await after.apply(after.port)
            first = after.server.descriptor
            await after.apply(None)
            await after.apply(after.port)
            found = first, after.server.descriptor
            assert after.conditions.texts == []
            await after.server.close()
            assert taken.fileno() == -1
            return found

    first, second = asyncio.run(run())
    assert first is not None
    assert second is not None


def test_one_that_nobody_wants_is_closed():
    async def run() -> int:
        async with serving() as before:
            after = Serving([], before.port)
            taken = handed_over(before)
            after.server.take(taken)
            await after.apply(None)
            return taken.fileno()

    assert asyncio.run(run()) == -1


@pytest.mark.parametrize("port", [None, 9551])
def test_where_none_is_served_there_is_none_to_hand_over(port):
    async def run() -> int | None:
        with socket.socket() as other:
            other.bind((LOCALHOST, 0))
            other.listen()
            served = Serving([], other.getsockname()[1])
            await served.apply(None if port is None else served.port)  # it is taken
            try:
                return served.server.descriptor
            finally:
                await served.server.close()

    assert asyncio.run(run()) is None


@pytest.mark.parametrize("descriptor", [9, None], ids=["served", "not-served"])
def test_it_is_offered_where_there_is_one(tmp_path, descriptor):
    parts = SimpleNamespace(
        config=configured(tmp_path, tunnel()),
        engine=SimpleNamespace(plane=SimpleNamespace(sa_slots=65536)),
        spd=SimpleNamespace(tunnel_numbers={"to-b": 0}),
        mtus=SimpleNamespace(export=lambda: CarriedMtus([], {})),
        substitutes=SimpleNamespace(offload_faults={"segments": "refused"}),
        metrics=SimpleNamespace(descriptor=descriptor),
    )
    gateway = Giving(
        cast("Any", parts),
        control=lambda: (tmp_path / "a.sock", 8),
        stopping=lambda: False,
        gone=lambda _process: None,
        lost=lambda _why: None,
    )
    places = Places()
    offer = gateway.made_offer(HOST, places, None)
    assert places.descriptors[offer.listening] == 8
    assert (offer.metrics if offer.metrics is None else places.descriptors[offer.metrics]) == descriptor
    assert offer.offload_faults == {"segments": "refused"}
