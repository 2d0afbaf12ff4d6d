"""What a service manager hears (sd_notify(3)), against a socket of the test's."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from ipsec_dp.host import service_manager
from ipsec_dp.host.service_manager import ServiceManager


@pytest.fixture
def heard(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.setblocking(False)
        yield made


def told(heard):
    found = []
    while True:
        try:
            found.append(heard.recv(4096).decode())
        except BlockingIOError:
            return found


def of(heard, **environment):
    return ServiceManager.of({"NOTIFY_SOCKET": heard.getsockname(), **environment})


def test_nobody_asks_and_nothing_happens(caplog):
    manager = ServiceManager.of({})
    manager.ready()
    manager.status("2 of 3 tunnels up")
    with manager.reloading():
        pass
    assert (manager.asks, manager.watchdog_s, caplog.records) == (False, None, [])


def test_it_hears_of_its_life_in_order(heard):
    manager = of(heard)
    assert manager.asks
    manager.ready()
    manager.alive()
    manager.stopping()
    assert told(heard) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_status_is_told_when_it_changes_on_one_line(heard):
    manager = of(heard)
    for text in ("1 of 2 tunnels up", "1 of 2 tunnels up", "2 of 2\nREADY=1"):
        manager.status(text)
    first, second = told(heard)
    assert first == "STATUS=1 of 2 tunnels up"
    assert "\n" not in second, "what comes from outside adds no line"


@pytest.mark.parametrize("fails", [False, True])
def test_a_reload_begins_at_a_time_and_is_over_whatever_comes_of_it(heard, fails):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    try:
        with of(heard).reloading():
            begun = told(heard)
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    (first,) = begun
    state, _, at = first.partition("\nMONOTONIC_USEC=")
    assert state == "RELOADING=1"
    assert before <= int(at) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert told(heard) == ["READY=1"]


def test_one_reload_within_another_is_part_of_it(heard):
    manager = of(heard)
    with manager.reloading(), manager.reloading():
        pass
    first, last = told(heard)
    assert (first.startswith("RELOADING=1"), last) == (True, "READY=1")
    with manager.reloading():
        assert told(heard)[0].startswith("RELOADING=1")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # another process is meant
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "1"}, None),
    ],
)
def test_how_often_it_wants_to_hear(heard, environment, seconds):
    assert of(heard, **environment).watchdog_s == seconds


def test_a_socket_that_is_not_there_is_told_and_asks_nothing(tmp_path, caplog):
    manager = ServiceManager.of({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "30000000"})
    assert (manager.asks, manager.watchdog_s) == (False, None)
    assert caplog.text == "", "there is no log yet"
    manager.ready()
    assert "could not be told" in caplog.text


def test_a_manager_that_does_not_read_is_not_waited_for_and_told_once(heard, caplog):
    manager = of(heard)
    for _ in range(1000):
        manager.alive()
    assert len(caplog.records) == 1
    read = told(heard)
    assert set(read) == {"WATCHDOG=1"}
    manager.ready()
    assert told(heard) == ["READY=1"], "it is heard again when it reads"


def full(heard):
    """One that does not read, and whose socket has no room."""
    manager = of(heard)
    for _ in range(1000):
        manager.alive()
    return manager


def test_it_hears_which_process_goes_on_as_soon_as_it_reads(heard, monkeypatch):
    monkeypatch.setattr(service_manager, "HEARS_S", 60.0)
    manager, read = full(heard), []
    reading = threading.Timer(0.02, lambda: read.append(heard.recv(4096)))
    reading.start()
    manager.hand_over(4711)
    reading.join()
    assert told(heard)[-1] == "MAINPID=4711"
    assert not manager.asks, "the other process says what is to be said now"


def test_one_that_does_not_hear_which_process_goes_on_is_told_more_by_this_one(heard, monkeypatch):
    """It stays the service."""
    monkeypatch.setattr(service_manager, "HEARS_S", 0.01)
    manager = full(heard)
    with pytest.raises(OSError, match="timed out"):
        manager.hand_over(4711)
    assert "MAINPID=4711" not in told(heard)
    manager.ready()
    assert told(heard) == ["READY=1"]


def test_where_nobody_asks_any_process_may_go_on():
    ServiceManager.of({}).hand_over(4711)


def test_a_closed_one_hears_nothing_more(heard):
    manager = of(heard)
    manager.close()
    manager.ready()
    assert (manager.asks, told(heard)) == (False, [])
