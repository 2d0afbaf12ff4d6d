"""Peers that turn out at run time to lie behind another tunnel: nothing goes to them, and it is said why. Gateways in memory."""

from __future__ import annotations

import asyncio
import socket

from ipsec_dp.rig.packets import udp
from tests.doubles.clock import FakeClock, settle
from tests.doubles.host import Network
from tests.unit.test_host_double import TO_A, TO_B, TO_C, running, written

INNER = "10.2.0.9"  # where gateway b is; a's tunnel "to-b" holds it
BEHIND = f"the peer {INNER} lies behind tunnel"
ANYBODY = TO_B | {"name": "inner", "remote": "any", "interface": "ipsec1", "start": "respond", "remote_id": "b.example"}
INNERS = {"local": "10.1.0.0/24", "beyond": "10.3.0.0/24"}
B_CALLS = TO_A | {"start": "start", "local": "10.3.0.0/24"}
BYPASS = f'[[policy]]\naction = "bypass"\nprotocol = 50\nremote = "{INNER}/32"\n'


class Watched(Network):
    """Notes where a's IKE and ESP go."""

    def __init__(self) -> None:
        super().__init__()
        self.destinations: set[str] = set()

    def send(self, datagram):
        if str(datagram.source.address) == "192.0.2.1":
            self.destinations.add(str(datagram.destination.address))
        super().send(datagram)


async def passing(clock, network, seconds):
    for _ in range(round(seconds / 0.05)):
        await clock.advance(0.05)
        network.carry()
        await settle()


async def until_up(clock, network, site, name):
    for _ in range(400):
        await passing(clock, network, 0.05)
        states = {tunnel["name"]: tunnel["state"] for tunnel in (await site.ask("status"))["tunnels"]}
        if states[name] == "up":
            return
    raise AssertionError(states)


def test_a_name_that_means_an_address_behind_a_tunnel_is_not_called(tmp_path, monkeypatch, caplog):
    answer = [[(0, 0, 0, "", (INNER, 0))]]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer[0])
    clock, network = FakeClock(), Watched()
    inner = TO_B | INNERS | {"name": "inner", "remote": "inner.example", "interface": "ipsec1"}

    async def life() -> None:
        async with (
            running(written(tmp_path, "b", TO_A | {"local": "10.3.0.0/24"}), clock, network, "192.0.2.2"),
            running(written(tmp_path, "a", TO_B | {"remote": "192.0.2.77"}, inner), clock, network, "192.0.2.1") as a,
        ):
            await passing(clock, network, 5)
            assert "192.0.2.77" in network.destinations, "the control: what it sends is noted"
            assert INNER not in network.destinations
            status = await a.ask("status")
            (warning,) = [text for text in status["warnings"] if BEHIND in text]
            assert "which protects 10.2.0.0/24" in warning
            assert BEHIND in status["tunnels"][1]["last_error"]
            answer[0] = [(0, 0, 0, "", ("192.0.2.2", 0))]
            await until_up(clock, network, a, "inner")
            assert not [text for text in (await a.ask("status"))["warnings"] if BEHIND in text]

    asyncio.run(life())
    assert BEHIND in caplog.text


def called_by_b(directory, clock, network, outer, options=""):
    a = written(directory, "a", outer, ANYBODY | INNERS, options=options)
    b = written(directory, "b", B_CALLS | {"remote": "192.0.2.1"})
    return running(b, clock, network, INNER), running(a, clock, network, "192.0.2.1")


def test_ike_from_behind_a_tunnel_of_others_is_not_answered(tmp_path, caplog):
    clock, network = FakeClock(), Watched()

    async def life() -> None:
        b_runs, a_runs = called_by_b(tmp_path, clock, network, TO_B)
        async with b_runs as b, a_runs:
            await passing(clock, network, 10)
            assert INNER not in network.destinations
            assert (await b.ask("status"))["tunnels"][0]["state"] != "up"

    asyncio.run(life())
    assert f"IKE is not answered: {BEHIND}" in caplog.text


def test_with_a_bypass_it_is(tmp_path):
    clock, network = FakeClock(), Watched()

    async def life() -> None:
        b_runs, a_runs = called_by_b(tmp_path, clock, network, TO_B, BYPASS)
        async with b_runs as b, a_runs as a:
            await until_up(clock, network, b, "to-a")
            a.host.push("ipsec1", udp("10.1.0.5", "10.3.0.5", b"there"))
            network.carry()
            assert len(b.host.pulled("ipsec0")) == 1

    asyncio.run(life())


def test_whoever_shows_only_in_the_end_whose_peer_he_is_gets_no_sa(tmp_path):
    """The tunnel around it has any peer too, so the first messages are answered; no packet of the tunnel ever leaves."""
    clock, network = FakeClock(), Watched()
    outer = TO_B | {"remote": "any", "start": "respond", "remote_id": "c.example"}

    async def life() -> None:
        b_runs, a_runs = called_by_b(tmp_path, clock, network, outer)
        async with b_runs, a_runs as a:
            await passing(clock, network, 5)
            assert INNER in network.destinations
            status = await a.ask("status")
            assert [tunnel["children"] for tunnel in status["tunnels"]] == [[], []]
            assert [text for text in status["warnings"] if BEHIND in text]

    asyncio.run(life())


def test_a_reload_that_puts_a_tunnel_around_a_peer_ends_the_tunnel_to_it(tmp_path):
    clock, network = FakeClock(), Watched()

    async def life() -> None:
        b_runs, a_runs = called_by_b(tmp_path, clock, network, TO_C | {"beyond": "10.77.0.0/24"})
        async with b_runs as b, a_runs as a:
            await until_up(clock, network, b, "to-a")
            written(tmp_path, "a", TO_C | {"beyond": "10.2.0.0/24"}, ANYBODY | INNERS)
            await a.ask("reload", file=str(a.gateway.config.path))
            assert [tunnel["children"] for tunnel in (await a.ask("status"))["tunnels"]] == [[], []]
            network.destinations.clear()
            await passing(clock, network, 30)
            assert INNER not in network.destinations

    asyncio.run(life())
