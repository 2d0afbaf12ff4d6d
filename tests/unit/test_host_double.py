"""A whole gateway on a host in memory, without root: what it asks of its host, in which order, and that two of them talk."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal

import pytest

from ipsec_dp.config import Config, load
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES, Substitutes
from ipsec_dp.host import HostError
from ipsec_dp.host.conntrack import FlowTuple, NatFlow
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.sent_log import KEPT_DATAGRAMS
from tests.doubles.clock import FakeClock, settle
from tests.doubles.config import configured, tunnel
from tests.doubles.host import MemoryHost, Network
from tests.unit.gateway_doubles import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from ipsec_dp.network.host import Host

TUNNEL = """
[[tunnel]]
name = "{name}"
remote = "{remote}"
interface = "{interface}"
start = "{start}"
  [tunnel.auth]
  local_id = "{local_id}"
  remote_id = "{remote_id}"
  psk_file = "psk"
  [[tunnel.proxy_id]]
  local = "{local}"
  remote = "{beyond}"
"""
TO_B = {
    "name": "to-b",
    "remote": "192.0.2.2",
    "interface": "ipsec0",
    "start": "start",
    "local_id": "a.example",
    "remote_id": "b.example",
    "local": "10.1.0.0/24",
    "beyond": "10.2.0.0/24",
}
TO_A = {
    "name": "to-a",
    "remote": "192.0.2.1",
    "interface": "ipsec0",
    "start": "respond",
    "local_id": "b.example",
    "remote_id": "a.example",
    "local": "10.2.0.0/24",
    "beyond": "10.1.0.0/24",
}
TO_C = TO_B | {"name": "to-c", "remote": "192.0.2.3", "interface": "ipsec1", "remote_id": "c.example", "beyond": "10.3.0.0/24"}


def written(directory: Path, name: str, *tunnels: dict[str, str], options: str = "") -> Config:
    (directory / "psk").touch(mode=0o600)
    (directory / "psk").write_text("correct horse battery staple\n")
    file = directory / f"{name}.toml"
    file.write_text(f'[gateway]\nname = "{name}"\n{options}\n' + "".join(TUNNEL.format(**tunnel) for tunnel in tunnels))
    return load(file)


@dataclass
class Site:
    gateway: Gateway
    host: MemoryHost
    control: Path

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """By its control socket, as `ipsec-dp` does."""
        reader, writer = await asyncio.open_unix_connection(self.control)
        writer.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
        writer.close()
        if not answer["ok"]:
            raise ControlError(answer["error"])
        return answer["result"]


@asynccontextmanager
async def running(
    config: Config,
    clock: FakeClock,
    network: Network,
    address: str,
    flows: Iterable[NatFlow] = (),
    substitutes: Substitutes = NO_SUBSTITUTES,
) -> AsyncIterator[Site]:
    host = MemoryHost(config, clock, network, addresses=[address])
    host.flows.present += flows
    seam: Host = host
    control = config.path.parent / f"{config.name}.sock"
    gateway = Gateway(config, control, host=seam, clock=clock, substitutes=substitutes)
    try:
        await gateway.start()
        yield Site(gateway, host, control)
    finally:
        await gateway.close()


async def nothing() -> None:
    pass


class CountedLock(asyncio.Lock):
    """Knows how often it was asked for."""

    asked = 0

    async def acquire(self) -> Literal[True]:
        self.asked += 1
        return await super().acquire()


def test_the_guard_comes_before_anything_and_goes_after_everything(tmp_path):
    config = written(tmp_path, "a", TO_B)

    async def life() -> list[str]:
        async with running(config, FakeClock(), Network(), "192.0.2.1") as site:
            site.gateway.stop("down")
        return site.host.calls

    calls = asyncio.run(life())
    assert calls[0] == "guard closed"
    assert calls[-1] == "guard opened"
    up = ["guard closed", "interface ipsec0 made", "interfaces up", "workers started", "routes applied", "network changes heard"]
    down = ["network changes no longer heard", "routes unreachable", "interface ipsec0 removed", "routes removed", "guard opened"]
    assert [call for call in calls if call in up] == up
    assert [call for call in calls[calls.index(up[-1]) :] if call in down] == down


def test_connections_are_looked_at_between_guard_and_routes_and_deleted_after_them(tmp_path):
    """Before the guard some could come in addition, and after the routes a rule that covers the interface makes others."""
    config = written(tmp_path, "a", TO_B, options='nat_flows = "delete"')
    ends = [ip_address(each) for each in ("10.1.0.2", "10.2.0.2", "192.0.2.1")]
    flow = NatFlow(1, 17, FlowTuple(ends[0], ends[1], 5, 6), FlowTuple(ends[1], ends[2], 6, 5))

    async def life() -> list[str]:
        async with running(config, FakeClock(), Network(), "192.0.2.1", [flow]) as site:
            assert site.host.flows.deleted == [flow]
            return list(site.host.calls)

    calls = asyncio.run(life())
    wanted = ["guard closed", "connections listed", "routes applied", "connections listed", "connections deleted"]
    assert [call for call in calls if call in wanted] == wanted


def test_a_start_that_fails_leaves_the_guard(tmp_path, monkeypatch):
    config = written(tmp_path, "a", TO_B)

    async def life() -> MemoryHost:
        host = MemoryHost(config, FakeClock())

        async def refused(*_: object) -> None:
            raise HostError("no TUN here")

        monkeypatch.setattr(host.interfaces, "make", refused)
        gateway = Gateway(config, tmp_path / "a.sock", host=host, clock=FakeClock())
        with pytest.raises(HostError, match="no TUN here"):
            await gateway.start()
        await gateway.close()
        return host

    host = asyncio.run(life())
    assert host.calls[0] == "guard closed"
    assert "guard opened" not in host.calls
    assert host.guard.closed_for == [config]


@pytest.mark.parametrize(("options", "opened"), [("", True), ("keep_closed = true", False)])
def test_the_guard_stays_where_the_configuration_keeps_it(tmp_path, options, opened):
    config = written(tmp_path, "a", TO_B, options=options)

    async def life() -> list[str]:
        async with running(config, FakeClock(), Network(), "192.0.2.1") as site:
            site.gateway.stop("down")
        return site.host.calls

    assert ("guard opened" in asyncio.run(life())) is opened


def test_a_reload_holds_both_configurations_closed_until_routes_and_services_are_the_new_ones(tmp_path):
    config = written(tmp_path, "a", TO_B)

    async def life() -> tuple[Site, list[str]]:
        async with running(config, FakeClock(), Network(), "192.0.2.1") as site:
            written(tmp_path, "a", TO_C)
            before = len(site.host.calls)
            answer = await site.ask("reload", file=str(config.path))
            assert (answer["added"], answer["removed"]) == (["to-c"], ["to-b"])
            calls = site.host.calls[before:]
            assert site.host.guard.closed_for == [site.gateway.config]
            assert set(site.host.interfaces.numbers) == {"ipsec1"}
            site.gateway.stop("down")
        return site, calls

    _, calls = asyncio.run(life())
    order = [
        "host verified",
        "guard widened",
        "interfaces reconfigured",
        "interface ipsec1 made",
        "zones applied",
        "connections listed",
        "routes known",
        "connections listed",
        "guard settled",
        "interface ipsec0 removed",
        "host verified",
    ]
    assert calls == order


def test_a_reload_that_changes_the_host_comes_to_its_end_before_the_gateway_goes(tmp_path, monkeypatch):
    """Or it would close again what `down` has opened."""
    config = written(tmp_path, "a", TO_B)

    async def life() -> list[str]:
        changes, goes_on = asyncio.Event(), asyncio.Event()
        async with running(config, FakeClock(), Network(), "192.0.2.1") as site:
            apply = site.host.routing.apply

            async def slowly(**how: Any) -> None:
                changes.set()
                await goes_on.wait()
                await apply(**how)

            monkeypatch.setattr(site.host.routing, "apply", slowly)
            written(tmp_path, "a", TO_C)
            site.gateway.start_reload()
            await changes.wait()
            site.gateway.stop("down")
            closing = asyncio.get_running_loop().create_task(site.gateway.close())
            await settle()
            assert "guard opened" not in site.host.calls
            goes_on.set()
            await closing
            monkeypatch.setattr(site.gateway, "close", nothing)
        return site.host.calls

    calls = asyncio.run(life())
    assert "guard settled" in calls
    assert calls[-1] == "guard opened"


def test_a_reload_that_has_not_changed_anything_yet_does_not_when_the_gateway_goes(tmp_path, monkeypatch, caplog):
    config = written(tmp_path, "a", TO_B)

    async def life() -> list[str]:
        async with running(config, FakeClock(), Network(), "192.0.2.1") as site:
            written(tmp_path, "a", TO_C)
            site.host.changing = lock = CountedLock()
            async with site.host.changing:
                site.gateway.start_reload()
                await until(lambda: lock.asked == 2)
                site.gateway.stop("down")
                closing = asyncio.get_running_loop().create_task(site.gateway.close())
                await settle()
            await closing
            monkeypatch.setattr(site.gateway, "close", nothing)
        return site.host.calls

    calls = asyncio.run(life())
    assert "guard widened" not in calls
    assert calls[-1] == "guard opened"
    assert "the gateway is stopping; nothing was changed" in caplog.text


def test_two_gateways_negotiate_and_a_packet_goes_each_way(tmp_path):
    """Configuration, SPD, SAD, IKE and data plane of both, and nothing of this machine but the control sockets."""
    clock, network = FakeClock(), Network()
    packet, answer = udp("10.1.0.5", "10.2.0.5", b"there"), udp("10.2.0.5", "10.1.0.5", b"back")

    async def up(site: Site) -> bool:
        return (await site.ask("status"))["tunnels"][0]["state"] == "up"

    async def life() -> None:
        async with (
            running(written(tmp_path, "b", TO_A), clock, network, "192.0.2.2") as b,
            running(written(tmp_path, "a", TO_B), clock, network, "192.0.2.1") as a,
        ):
            for _ in range(200):
                await clock.advance(0.05)
                network.carry()
                await settle()
                if await up(a) and await up(b):
                    break
            else:
                raise AssertionError((await a.ask("status"), await b.ask("status"), network.lost))
            a.host.push("ipsec0", packet)
            network.carry()
            assert b.host.pulled("ipsec0") == [packet]
            b.host.push("ipsec0", answer)
            network.carry()
            assert a.host.pulled("ipsec0") == [answer]
            assert (await a.ask("status"))["tunnels"][0]["children"][0]["packets_out"] == 1
            a.gateway.stop("down")
            b.gateway.stop("down")

    asyncio.run(life())


def test_what_comes_again_and_again_is_kept_as_far_as_it_is_new(tmp_path):
    """A day of probes takes no more memory than an hour."""
    host = MemoryHost(configured(tmp_path, tunnel()), FakeClock())
    for number in range(3 * KEPT_DATAGRAMS):
        host.note(f"call {number}")
    assert KEPT_DATAGRAMS <= len(host.calls) <= 2 * KEPT_DATAGRAMS
    assert host.calls[-1] == f"call {3 * KEPT_DATAGRAMS - 1}"
    assert host.calls[0] == f"call {3 * KEPT_DATAGRAMS - len(host.calls)}"
