"""A reload after the program was installed anew lets that go on: what is noticed, and what is done in which order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.gateway.messages import ReloadRefusal, ReloadRequest, ReloadResult, UpgradeRequest
from ipsec_dp.gateway.substitutes import Substitutes
from ipsec_dp.gateway.upgrade.executable import RunningProgram
from ipsec_dp.gateway.upgrade.giving import Giving
from ipsec_dp.gateway.verbs import GatewayVerbs
from tests.doubles.clock import FakeClock, settle
from tests.doubles.host import MemoryHost, Network
from tests.unit.test_host_double import TO_B, running, written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


@pytest.fixture
def package(tmp_path):
    made = tmp_path / "ipsec_dp"
    made.mkdir()
    for name in ("__init__.py", "_native.abi3.so", "errors.py"):
        (made / name).write_text("as it was")
    return made


def installed(package, name):
    """As a package manager does: another file takes the place, with the same octets."""
    (package / "new").write_bytes((package / name).read_bytes())
    (package / "new").rename(package / name)


@pytest.mark.parametrize("name", ["__init__.py", "_native.abi3.so"])
def test_a_program_that_was_installed_anew_is_another_one(package, name):
    program, seen = RunningProgram(package), []
    for change in (lambda: None, partial(installed, package, name)):
        change()
        seen.append(program.is_replaced)
    assert seen == [False, True]
    assert not RunningProgram(package).is_replaced


def test_one_that_is_gone_is_none_that_could_go_on(package):
    program = RunningProgram(package)
    (package / "__init__.py").unlink()
    assert not program.is_replaced
    package.rename(package.with_name("elsewhere"))
    assert not program.is_replaced


def test_what_could_not_be_seen_at_the_start_was_not_replaced(package, tmp_path):
    program = RunningProgram(tmp_path / "elsewhere")
    package.rename(tmp_path / "elsewhere")
    assert not program.is_replaced


DONE = ReloadResult(file="a.toml", added=(), removed=(), changed=(), kept=1, findings=(), read_s=0.0, applied_s=0.0)


class Reloaded:
    """A gateway in memory that is told to reload, and what came of it, in order."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        replaced: bool,
        came_of_it: object = DONE,
        refuses: str | None = None,
        stopped: bool = False,
    ) -> None:
        self.calls: list[str] = []
        self.gateway: Gateway | None = None
        self.over = asyncio.Event()

        async def reloads(*_: object) -> object:
            self.calls.append("reload")
            return came_of_it

        async def upgrades(_: Giving, path: object) -> None:
            assert path is None
            self.calls.append("upgrade")
            if stopped and self.gateway is not None:
                self.gateway.stop("meanwhile")
            if refuses is not None:
                raise ControlError(refuses)

        monkeypatch.setattr(GatewayVerbs, "reload", reloads)
        monkeypatch.setattr(Giving, "upgrade", upgrades)
        monkeypatch.setattr(RunningProgram, "is_replaced", replaced)

    @contextmanager
    def told(self) -> Iterator[None]:
        self.calls.append("begins")
        yield
        self.calls.append("over")
        self.over.set()

    def run(self, directory: Any) -> list[str]:
        config = written(directory, "a", TO_B)

        async def life() -> None:
            async with running(config, FakeClock(), Network(), "192.0.2.1", substitutes=Substitutes(reloading=self.told)) as site:
                self.gateway = site.gateway
                site.gateway.start_reload()
                await self.over.wait()

        asyncio.run(life())
        return self.calls


def test_a_reload_lets_another_program_go_on_which_takes_the_file_over_itself(tmp_path, monkeypatch):
    """It may understand more of it. For the service manager it is one reload."""
    assert Reloaded(monkeypatch, replaced=True).run(tmp_path) == ["begins", "upgrade", "over"]


def test_the_same_program_reads_the_file_again(tmp_path, monkeypatch):
    assert Reloaded(monkeypatch, replaced=False).run(tmp_path) == ["begins", "reload", "over"]


@pytest.mark.parametrize("came_of_it", [DONE, ReloadRefusal(file="a.toml")], ids=["taken", "refused"])
def test_where_another_program_cannot_go_on_this_one_reads_the_file_again(tmp_path, monkeypatch, came_of_it):
    refused = Reloaded(monkeypatch, replaced=True, refuses="not now", came_of_it=came_of_it)
    assert refused.run(tmp_path) == ["begins", "upgrade", "reload", "over"]


class HandingOver:
    """A gateway in memory that is handed over, to which SIGHUP comes meanwhile; `passed_on`: what its successor hears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, goes_on: bool) -> None:
        self.calls: list[str] = []
        self.passed_on: list[signal.Signals] = []
        self.alone = False

        async def upgrades(*_: object) -> None:
            self.calls.append("upgrade")
            self.begun.set()
            await self.over.wait()
            if not goes_on:
                raise ControlError("not now")
            self.alone = True

        async def reloads(*_: object) -> object:
            self.calls.append("reload")
            return DONE

        def pass_on(_: Giving, number: signal.Signals) -> bool:
            if self.alone:
                self.passed_on.append(number)
            return self.alone

        monkeypatch.setattr(GatewayVerbs, "reload", reloads)
        monkeypatch.setattr(Giving, "upgrade", upgrades)
        monkeypatch.setattr(Giving, "pass_on", pass_on)
        monkeypatch.setattr(RunningProgram, "is_replaced", False)

    async def nothing(self, _: Gateway) -> None:
        pass

    def run(self, directory: Any, then: Callable[[Gateway], Awaitable[object]] | None = None) -> None:
        async def life() -> None:
            self.begun, self.over = asyncio.Event(), asyncio.Event()
            async with running(written(directory, "a", TO_B), FakeClock(), Network(), "192.0.2.1") as site:
                asked = asyncio.create_task(site.gateway.verbs.upgrade(UpgradeRequest()))
                await self.begun.wait()
                for _ in range(2):
                    site.gateway.start_reload()
                await settle()
                assert self.calls == ["upgrade"]
                self.over.set()
                with contextlib.suppress(ControlError):
                    await asked
                await (then or self.nothing)(site.gateway)
                await settle()

        asyncio.run(life())


def test_a_reload_that_is_asked_for_during_an_upgrade_comes_after_one_that_fails(tmp_path, monkeypatch):
    handing = HandingOver(monkeypatch, goes_on=False)
    handing.run(tmp_path)
    assert (handing.calls, handing.passed_on) == (["upgrade", "reload"], [])


def test_a_reload_that_is_asked_for_during_an_upgrade_is_the_successors(tmp_path, monkeypatch):
    """It may have looked at the file before."""
    handing = HandingOver(monkeypatch, goes_on=True)
    handing.run(tmp_path)
    assert (handing.calls, handing.passed_on) == (["upgrade"], [signal.SIGHUP])


def test_so_is_one_that_comes_when_the_successor_is_alone_and_a_stop_too(tmp_path, monkeypatch):
    handing = HandingOver(monkeypatch, goes_on=True)

    async def then(gateway: Gateway) -> None:
        gateway.start_reload()
        gateway.stop("SIGTERM")

    handing.run(tmp_path, then)
    assert (handing.calls, handing.passed_on) == (["upgrade"], [signal.SIGHUP] * 2 + [signal.SIGTERM])


def test_a_process_that_has_handed_over_begins_no_other_upgrade(tmp_path, monkeypatch):
    """Whose reload waited for the one that succeeded, and comes to a file that was read since."""
    handing = HandingOver(monkeypatch, goes_on=True)

    async def then(gateway: Gateway) -> None:
        gateway.left_to = 4711
        assert not await gateway.verbs.follow_program()
        gateway.left_to = None

    handing.run(tmp_path, then)
    assert handing.calls == ["upgrade"]


def test_a_reload_that_is_asked_for_before_the_gateway_is_up_comes_once_then(tmp_path, monkeypatch):
    calls, config, clock = list[str](), written(tmp_path, "a", TO_B), FakeClock()

    async def reloads(*_: object) -> object:
        calls.append("reload")
        return DONE

    async def life() -> None:
        host: Any = MemoryHost(config, clock, Network(), addresses=["192.0.2.1"])
        gateway = Gateway(config, None, host=host, clock=clock)
        for _ in range(2):
            gateway.start_reload()
        await settle()
        assert calls == []
        await gateway.start()
        await settle()
        await gateway.close()

    monkeypatch.setattr(GatewayVerbs, "reload", reloads)
    asyncio.run(life())
    assert calls == ["reload"]


class Settling:
    """What takes another process's place in a gateway; `told` of each step is what somebody tells that gateway then."""

    alone, engine = True, None

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Any, told: Callable[[Gateway, str], object]) -> None:
        config, clock = written(directory, "a", TO_B), FakeClock()
        host: Any = MemoryHost(config, clock, Network(), addresses=["192.0.2.1"])
        self.gateway = Gateway(config, directory / "a.sock", host=host, clock=clock)
        self.calls: list[str] = []
        self._told = told

        async def reloads(*_: object) -> object:
            self.calls.append("reload")
            return DONE

        monkeypatch.setattr(GatewayVerbs, "reload", reloads)

    async def _step(self, what: str) -> None:
        self._told(self.gateway, what)
        await settle()
        self.calls.append(what)

    async def take(self, *_: object) -> Any:
        await self._step("settled")
        return SimpleNamespace(plane=SimpleNamespace(provider="none"), reloader=None)

    async def take_file(self, *_: object) -> None:
        await self._step("file")

    def live(self, *, stops: bool = False) -> list[str]:
        async def life() -> None:
            this: Any = self
            await self.gateway.take_over(this, lambda _: None)
            await self.gateway.take_file(this)
            await settle()
            if stops:
                assert await self.gateway.wait() == 0
                self.calls.append("stopped")

        asyncio.run(life())
        return self.calls


@pytest.mark.parametrize("when", ["settled", "file"])
def test_a_reload_that_is_asked_for_while_a_successor_settles_comes_after_its_file(tmp_path, monkeypatch, when):
    def told(gateway: Gateway, what: str) -> None:
        if what == when:
            gateway.start_reload()

    assert Settling(monkeypatch, tmp_path, told).live() == ["settled", "file", "reload"]


def test_a_stop_while_a_successor_settles_ends_it_once_it_has_and_no_reload_comes(tmp_path, monkeypatch):
    def told(gateway: Gateway, _: str) -> None:
        gateway.start_reload()
        gateway.stop("SIGTERM")

    assert Settling(monkeypatch, tmp_path, told).live(stops=True) == ["settled", "stopped"]


def taken_over(monkeypatch: pytest.MonkeyPatch, directory: Any, then: Callable[[Gateway, asyncio.Event], object]) -> list[str]:
    """What is done once a gateway is to take the file over, where somebody wanted a reload before; `then` comes next."""
    calls: list[str] = []

    async def life() -> None:
        over, config = asyncio.Event(), written(directory, "a", TO_B)

        async def takes(*_: object) -> None:
            calls.append("file")
            await over.wait()

        async def reloads(*_: object) -> ReloadResult:
            calls.append("reload")
            return DONE

        successor: Any = SimpleNamespace(take_file=takes)
        async with running(config, FakeClock(), Network(), "192.0.2.1") as site:
            assert site.gateway.engine is not None
            monkeypatch.setattr(site.gateway.engine.reloader, "reload", reloads)
            reload = asyncio.create_task(site.gateway.verbs.reload(ReloadRequest()))
            asyncio.get_running_loop().call_soon(then, site.gateway, over)
            await site.gateway.take_file(successor)
            over.set()
            await reload

    asyncio.run(life())
    return calls


def test_no_reload_comes_before_the_file_that_is_taken_over_after_an_upgrade(tmp_path, monkeypatch):
    """Which is the older one."""
    assert taken_over(monkeypatch, tmp_path, lambda _, over: over.set()) == ["file", "reload"]


def test_a_stop_does_not_wait_for_the_file_that_is_taken_over(tmp_path, monkeypatch):
    assert "file" in taken_over(monkeypatch, tmp_path, lambda gateway, _: gateway.stop("told to"))


def test_a_gateway_that_ends_meanwhile_reads_nothing_again(tmp_path, monkeypatch):
    """As where the successor has gone after the point of no return."""
    broken = Reloaded(monkeypatch, replaced=True, refuses="gone", stopped=True)
    assert broken.run(tmp_path) == ["begins", "upgrade", "over"]
