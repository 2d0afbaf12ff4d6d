"""`ipsec-dp up` as a process: signals, the service manager, exit statuses."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.config.model import DEFAULT_LOG
from ipsec_dp.errors import BadValueError
from ipsec_dp.gateway import daemon, unlocked_keys
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock


class MemoryGateway:
    """Lives until it is stopped; notes what was asked of it."""

    def __init__(self, *, fails: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._fails = fails
        self._stopped = asyncio.Event()
        self.conditions = Conditions(FakeClock())
        self.passed_on: list[signal.Signals] = []
        self.giving = SimpleNamespace(pass_on=self.passed_on.append, hands_over=None)
        self.left_to: int | None = None

    async def tunnels_up(self) -> tuple[int, int]:
        return 2, 3

    def loops_pass(self) -> bool:
        return True

    async def start(self) -> None:
        self.calls.append("start")
        if self._fails is not None:
            raise self._fails

    async def wait(self) -> int:
        await self._stopped.wait()
        return 7

    async def close(self) -> None:
        self.calls.append("close")

    def start_reload(self) -> None:
        self.calls.append("reload")

    def stop(self, why: str) -> None:
        self.calls.append(why)
        self._stopped.set()


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A service manager's socket."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield made


def told(manager):
    """What it was told until now."""
    manager.setblocking(False)
    found = []
    while True:
        try:
            found.append(manager.recv(100).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def run(monkeypatch):
    """Runs `up` with a gateway of the test's. Neither the process nor the interpreter is changed by it."""
    monkeypatch.setattr(daemon, "protect_process", lambda: None)
    before = sys.getswitchinterval()

    def run(gateway: MemoryGateway, successor: Any = None) -> int:
        monkeypatch.setattr(daemon, "Gateway", lambda *_, **__: gateway)
        return daemon.run(cast("Any", SimpleNamespace(log=DEFAULT_LOG)), cast("Any", None), successor=successor)

    yield run
    sys.setswitchinterval(before)


class Signalled(MemoryGateway):
    """Sends its own process signals as soon as it is up."""

    def __init__(self, *numbers: signal.Signals) -> None:
        super().__init__()
        self._numbers = numbers

    async def wait(self) -> int:
        for number in self._numbers:
            handled = len(self.calls)
            os.kill(os.getpid(), number)
            while len(self.calls) == handled:  # noqa: ASYNC110 - handlers run in the order of the numbers, not of their sending
                await asyncio.sleep(0)
        return await super().wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_its_status_is_the_gateways(run, number):
    gateway = Signalled(number)
    assert run(gateway) == 7
    assert gateway.calls == ["start", number.name, "close"]


def test_sighup_is_reload(run):
    gateway = Signalled(signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    assert run(gateway) == 7
    assert gateway.calls == ["start", "reload", "reload", "SIGTERM", "close"]


def test_a_sighup_that_waited_until_a_successor_takes_it_is_reload(run):
    class Waited(MemoryGateway):
        def start_reload(self) -> None:
            super().start_reload()
            self.stop("seen")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)  # other tests may have left threads that block nothing
        gateway = Waited()
        assert run(gateway) == 7
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert "reload" in gateway.calls


def test_the_service_manager_hears_when_it_is_ready_and_when_it_stops(run, manager):
    assert run(Signalled(signal.SIGTERM)) == 7
    first, *_, last = told(manager)
    assert (first, last) == ("READY=1", "STOPPING=1")


@pytest.mark.parametrize("locked", [False, True])
def test_memory_is_locked_before_the_gateway_starts_and_it_is_told_whether(run, monkeypatch, locked):
    gateway = Signalled(signal.SIGTERM)
    monkeypatch.setattr(daemon, "protect_process", lambda: gateway.calls.append("protect"))
    monkeypatch.setattr(daemon, "memory_is_locked", lambda: locked and "protect" in gateway.calls)
    monkeypatch.setattr(unlocked_keys, "tell", lambda _, *, locked: gateway.calls.append(f"locked: {locked}"))
    assert run(gateway) == 7
    assert gateway.calls[:3] == ["protect", f"locked: {locked}", "start"]


class HandedOver(MemoryGateway):
    """Another process goes on; `heard` is what the service manager was told before this one begins to end."""

    def __init__(self, manager: socket.socket) -> None:
        super().__init__()
        self._manager = manager

    async def wait(self) -> int:
        self.giving.hands_over(4711)
        self.left_to = 4711
        return 0

    async def close(self) -> None:
        self.heard = told(self._manager)


def test_the_service_manager_knows_who_goes_on_before_this_process_begins_to_end(run, manager):
    gateway = HandedOver(manager)
    assert run(gateway) == 0
    assert [text for text in gateway.heard if not text.startswith("STATUS=")] == ["READY=1", "MAINPID=4711"]
    assert told(manager) == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_when_another_process_goes_on_is_for_that(run, manager, number):
    """Whoever sent it knew no better; until the process is gone."""
    gateway, before = HandedOver(manager), {each: signal.getsignal(each) for each in daemon.SIGNALS}
    try:
        assert run(gateway) == 0
        os.kill(os.getpid(), number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert gateway.passed_on == [number]


class Busy(HandedOver):
    """It hands itself over in one turn of the event loop, while signals come."""

    def __init__(self, manager: socket.socket, number: int) -> None:
        super().__init__(manager)
        self._number = number

    async def wait(self) -> int:
        await asyncio.sleep(0)
        os.kill(os.getpid(), self._number)
        return await super().wait()


@pytest.mark.parametrize(("number", "asked"), [(signal.SIGHUP, "reload"), (signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_a_signal_that_comes_while_a_gateway_is_handed_over_reaches_it_before_its_end(run, manager, number, asked):
    """It knows then to whom it is to be passed on."""
    gateway, before = Busy(manager, number), {each: signal.getsignal(each) for each in daemon.SIGNALS}
    try:
        assert run(gateway) == 0
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert gateway.calls == ["start", asked]


class Beating(MemoryGateway):
    """Stops once the service manager has been told how it is."""

    asked = 0

    def loops_pass(self) -> bool:
        self.asked += 1
        if self.asked == 2:
            self.stop("seen")
        return True


def test_while_it_is_up_the_service_manager_hears_how_it_is_and_that_it_lives(run, manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    assert run(Beating()) == 7
    assert told(manager) == ["READY=1", "WATCHDOG=1", "STATUS=2 of 3 tunnels up", "WATCHDOG=1", "STOPPING=1"]


class TakenOver(Beating):
    """In the place of another process, whose file says something else: it is taken over as long as it takes."""

    async def take_over(self, _successor: object, _lives: object) -> None:
        asyncio.get_running_loop().call_soon(self.calls.append, "another's turn")
        self.calls.append("taken over")

    async def take_file(self, _successor: object) -> None:
        self.calls.append("the file")
        async with asyncio.timeout(5.0):
            await self._stopped.wait()


def test_a_file_that_is_taken_over_after_an_upgrade_keeps_nobody_waiting(run, manager, monkeypatch):
    """The service manager's watchdog least of all. No reload comes before it."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    gateway = TakenOver()
    assert run(gateway, SimpleNamespace(place=lambda otherwise: otherwise)) == 7
    assert [text for text in told(manager) if not text.startswith("STATUS=")] == [
        "READY=1",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    assert gateway.calls == ["taken over", "the file", "another's turn", "seen", "close"]


class Settling(TakenOver):
    """It has something left to do when the service manager's process is this one."""

    async def take_over(self, _successor: object, lives: Any) -> None:
        lives(60.0)
        await asyncio.sleep(0)
        lives(60.0)

    async def take_file(self, _successor: object) -> None:
        pass

    def loops_pass(self) -> bool:
        self.asked += 1
        if self.asked == 4:
            self.stop("seen")
        return True


def test_a_successor_that_settles_says_that_it_lives_before_it_is_ready(run, manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    assert run(Settling(), SimpleNamespace(place=lambda otherwise: otherwise)) == 7
    heard = [text for text in told(manager) if not text.startswith("STATUS=")]
    assert heard == [*["WATCHDOG=1"] * 2, "READY=1", *["WATCHDOG=1"] * 2, "STOPPING=1"]


def test_a_start_that_fails_is_taken_down_and_never_ready(run, manager, caplog):
    gateway = MemoryGateway(fails=BadValueError("the key is short", "give 20 octets"))
    assert run(gateway) == BadValueError.exit_status
    assert gateway.calls == ["start", "close"]
    assert told(manager) == ["STOPPING=1"]
    assert [record.getMessage() for record in caplog.records] == ["the key is short; give 20 octets"]


def test_what_a_task_raises_and_nobody_takes_is_one_line(run, caplog):
    class Faulty(Signalled):
        async def start(self) -> None:
            asyncio.get_running_loop().call_soon(dict[str, str]().__getitem__, "no such key")

    assert run(Faulty(signal.SIGTERM)) == 7
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "KeyError: 'no such key'; that is a fault of ipsec-dp" in error.getMessage()
    assert error.exc_info is None


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("broken")])
def test_a_gateway_that_raises_what_nobody_foresaw_ends_in_one_line(run, caplog, error):
    assert run(MemoryGateway(fails=error)) == 1
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert record.getMessage().startswith("the gateway ended: ")


def test_a_service_manager_that_is_gone_stops_nothing(run, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert run(Signalled(signal.SIGTERM)) == 7
    assert "could not be told" in caplog.text


def test_an_abstract_socket_begins_with_an_at_sign(run, monkeypatch):
    name = f"ipsec-dp-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert run(Signalled(signal.SIGTERM)) == 7
        assert told(made)[0] == "READY=1"
