"""The process of the trial: it tells what it found, ends, and leaves nothing behind, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from ipsec_dp.gateway.privileges import Privileges
from ipsec_dp.host import offload_trial
from ipsec_dp.host.offload_trial import OffloadTrial
from ipsec_dp.host.super_packets import OffloadFaults
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock

FOUND = OffloadFaults({"tun_tso4": "x"}, ("tun_tso4",), "")
LONG_S, TURN_S = 120, 40  # nothing depends on them but how long a test hangs that fails


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """However busy the machine is."""
    monkeypatch.setattr(offload_trial, "PROCESS_S", LONG_S)
    monkeypatch.setattr(offload_trial, "END_S", LONG_S)


@pytest.fixture
def begun(monkeypatch):
    """The numbers of the processes, in order."""
    numbers, fork = list[int](), os.fork

    def forked():
        if number := fork():
            numbers.append(number)
        return number

    monkeypatch.setattr(os, "fork", forked)
    return numbers


def says(monkeypatch, found=FOUND):
    monkeypatch.setattr(offload_trial, "find_out", lambda: found)


def says_nothing(monkeypatch):
    monkeypatch.setattr(offload_trial, "find_out", signal.pause)


def is_left(number):
    """Alive, or dead and not yet asked for."""
    try:
        return os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) or True
    except ChildProcessError:
        return False


def test_the_process_tells_what_it_found_and_is_gone(monkeypatch, begun):
    says(monkeypatch)
    trial = OffloadTrial.start()
    assert trial.result(LONG_S) == FOUND
    trial.close()
    trial.close()
    assert [is_left(each) for each in begun] == [False]


def test_one_that_says_nothing_is_not_waited_for(monkeypatch, begun):
    says_nothing(monkeypatch)
    trial = OffloadTrial.start()
    assert "no answer" in trial.result(0).untried
    trial.close()
    assert [is_left(each) for each in begun] == [False]


def test_one_that_nobody_asks_is_gone_too(monkeypatch, begun):
    says_nothing(monkeypatch)
    OffloadTrial.start().close()
    assert [is_left(each) for each in begun] == [False]


def test_one_that_was_roots_and_does_not_end_holds_nobody_up(monkeypatch, begun):
    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    says_nothing(monkeypatch)
    trial = OffloadTrial.start()
    with monkeypatch.context() as given_up:
        given_up.setattr(offload_trial, "END_S", 0.01)
        given_up.setattr(signal, "pidfd_send_signal", refuse)
        assert "no answer" in trial.result(0).untried
        trial.close()
    assert trial.descriptor == -1
    (number,) = begun
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)


def test_its_alarm_ends_it_even_if_alarms_were_held_back(monkeypatch, begun):
    monkeypatch.setattr(offload_trial, "PROCESS_S", 1)
    says_nothing(monkeypatch)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGALRM,))
    try:
        OffloadTrial.start()
        (number,) = begun
        assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGALRM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_without_a_pidfd_there_is_no_process(monkeypatch, begun):
    def refuse(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    says_nothing(monkeypatch)
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        OffloadTrial.start()
    assert [is_left(each) for each in begun] == [False]


CHILDREN_IGNORED = """
import os, select, signal
from ipsec_dp.host import offload_trial
waits, goes_on = os.pipe()

def find_out():
    os.close(goes_on)
    os.read(waits, 1)  # until the other has it
    return offload_trial.OffloadFaults()

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
offload_trial.find_out = find_out
trial = offload_trial.OffloadTrial.start()
os.close(goes_on)
ended = select.poll()
ended.register(trial.descriptor, select.POLLIN)
ended.poll()
trial.result(0)
trial.close()
"""


def test_it_may_have_gone_unasked_where_whoever_began_us_ignores_children():
    subprocess.run([sys.executable, "-c", CHILDREN_IGNORED], check=True, timeout=LONG_S)


@pytest.fixture
def gateway(monkeypatch, begun):
    """The event loop of one that watches its privileges until `stack` is left, and has asked for the faults."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # no helper

    @contextlib.contextmanager
    def made():
        with contextlib.closing(Privileges.at_start()) as held, asyncio.Runner() as runner:
            held.offload_faults()
            stack = contextlib.AsyncExitStack()
            held.watch(runner.get_loop(), stack, Conditions(FakeClock()))
            yield runner, stack
            runner.run(stack.aclose())

    return made


def turn(runner, condition):
    """The loop, until it is so."""
    deadline = time.monotonic() + TURN_S
    while not condition():
        assert time.monotonic() < deadline
        runner.run(asyncio.sleep(0))


@pytest.mark.parametrize("what", [says, says_nothing])
def test_nothing_of_it_stays_under_a_gateway(monkeypatch, begun, gateway, what):
    what(monkeypatch)
    with gateway() as (runner, _):
        turn(runner, lambda: not is_left(*begun))


def test_the_number_of_its_descriptor_is_another_s_once_it_has_gone(monkeypatch, begun, gateway):
    """What has that number when the gateway ends is watched on."""
    held: list[int] = []
    pidfd_open = os.pidfd_open

    def opened(process):
        held.append(pidfd_open(process))
        return held[-1]

    monkeypatch.setattr(os, "pidfd_open", opened)
    says(monkeypatch)
    reading, writing = os.pipe()
    heard: list[None] = []
    with gateway() as (runner, stack):
        turn(runner, lambda: not is_left(*begun))
        (number,) = held
        os.dup2(reading, number, inheritable=False)
        loop = runner.get_loop()
        loop.add_reader(number, heard.append, None)
        runner.run(stack.aclose())
        os.write(writing, b"x")
        turn(runner, lambda: heard)
        loop.remove_reader(number)
    for each in (reading, writing, number):  # it is open
        os.close(each)
