"""A start that has to be confirmed, of a whole gateway on a host in memory: it never locks out who administers it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ipsec_dp.gateway.composition import GatewayFailedError
from ipsec_dp.gateway.confirmation import Trial
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.host import HostError
from ipsec_dp.host.claim import RunningError
from tests.doubles.clock import FakeClock, settle
from tests.doubles.host import MemoryHost
from tests.unit.test_host_double import TO_B, TO_C, Site, written

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from ipsec_dp.config import Config


async def started_on_trial(directory: Path, clock: FakeClock, retreat: Config) -> tuple[Gateway, MemoryHost]:
    config = written(directory, "a", TO_B)
    host = MemoryHost(config, clock)
    gateway = Gateway(config, directory / "a.sock", host=host, clock=clock, trial=Trial(60, retreat))
    return gateway, host


def test_a_start_that_nobody_confirms_ends_closed_as_the_retreat_says(tmp_path):
    (tmp_path / "retreat").mkdir()
    retreat = written(tmp_path / "retreat", "a", TO_B, TO_C)

    async def life() -> MemoryHost:
        clock = FakeClock()
        gateway, host = await started_on_trial(tmp_path, clock, retreat)
        await gateway.start()
        await clock.advance(61)
        with pytest.raises(GatewayFailedError, match="the start was not confirmed"):
            await gateway.wait()
        await gateway.close()
        return host

    host = asyncio.run(life())
    assert "guard opened" not in host.calls
    assert host.guard.closed_for == [retreat]
    assert host.calls[-2:] == ["guard closed", "routes unreachable"]


def test_a_start_that_is_confirmed_ends_as_any_other(tmp_path):
    async def life() -> MemoryHost:
        clock = FakeClock()
        gateway, host = await started_on_trial(tmp_path, clock, written(tmp_path, "a", TO_C))
        await gateway.start()
        site = Site(gateway, host, tmp_path / "a.sock")
        (waits,) = [text for text in (await site.ask("status"))["warnings"] if "ipsec-dp confirm a" in text]
        assert "for 60 s" in waits
        assert (await site.ask("confirm", name="a"))["confirmed"] == "this start"
        assert (await site.ask("status"))["warnings"] == []
        await clock.advance(61)
        gateway.stop("down")
        assert await gateway.wait() == 0
        await gateway.close()
        return host

    assert asyncio.run(life()).calls[-1] == "guard opened"


def test_a_start_on_trial_that_fails_is_closed_as_the_retreat_says(tmp_path, monkeypatch):
    (tmp_path / "retreat").mkdir()
    retreat = written(tmp_path / "retreat", "a", TO_C)

    async def life() -> MemoryHost:
        gateway, host = await started_on_trial(tmp_path, FakeClock(), retreat)

        async def refused(*_: object) -> None:
            raise HostError("no TUN here")

        monkeypatch.setattr(host.interfaces, "make", refused)
        with pytest.raises(HostError, match="no TUN here"):
            await gateway.start()
        await gateway.close()
        return host

    assert asyncio.run(life()).guard.closed_for == [retreat]


@pytest.mark.parametrize("hangs", ["close_guard", "make"])
def test_a_start_on_trial_that_hangs_ends_when_its_time_is_over(tmp_path, monkeypatch, hangs):
    (tmp_path / "retreat").mkdir()
    retreat = written(tmp_path / "retreat", "a", TO_C)

    async def life() -> MemoryHost:
        clock = FakeClock()
        gateway, host = await started_on_trial(tmp_path, clock, retreat)
        begun = asyncio.Event()

        async def for_ever(*_: object) -> None:
            begun.set()
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(host if hangs == "close_guard" else host.interfaces, hangs, for_ever)
        starting = asyncio.get_running_loop().create_task(gateway.start())
        await begun.wait()
        await clock.advance(59)
        assert not starting.done()
        await clock.advance(2)
        await settle()
        assert starting.done()
        with pytest.raises(GatewayFailedError, match="the start was not confirmed"):
            await starting
        await gateway.close()
        return host

    assert asyncio.run(life()).guard.closed_for == [retreat]


def test_a_start_on_trial_that_is_cancelled_is_cancelled(tmp_path, monkeypatch):
    async def life() -> None:
        gateway, host = await started_on_trial(tmp_path, FakeClock(), written(tmp_path, "a", TO_C))
        begun = asyncio.Event()

        async def for_ever(*_: object) -> None:
            begun.set()
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(host.interfaces, "make", for_ever)
        starting = asyncio.get_running_loop().create_task(gateway.start())
        await begun.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await gateway.close()

    asyncio.run(life())


def test_the_way_of_who_administers_is_open_though_something_cannot_be_taken_away(tmp_path, monkeypatch):
    (tmp_path / "retreat").mkdir()
    retreat = written(tmp_path / "retreat", "a", TO_C)

    async def life() -> MemoryHost:
        clock = FakeClock()
        gateway, host = await started_on_trial(tmp_path, clock, retreat)
        start = host.routing.start

        def refused() -> None:
            raise HostError("the routes stay")

        async def held(stack: AsyncExitStack) -> None:
            await start(stack)
            stack.callback(refused)

        monkeypatch.setattr(host.routing, "start", held)
        await gateway.start()
        await clock.advance(61)
        with pytest.raises(HostError, match="the routes stay"):
            await gateway.close()
        return host

    assert asyncio.run(life()).guard.closed_for == [retreat]


def test_a_gateway_that_runs_already_is_not_touched_by_a_start_on_trial(tmp_path, monkeypatch):
    async def life() -> MemoryHost:
        gateway, host = await started_on_trial(tmp_path, FakeClock(), written(tmp_path, "a", TO_C))

        async def running_already() -> None:
            raise RunningError("a", "process 7")

        monkeypatch.setattr(host, "close_guard", running_already)
        with pytest.raises(RunningError):
            await gateway.start()
        await gateway.close()
        return host

    assert asyncio.run(life()).calls == []
