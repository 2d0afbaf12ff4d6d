"""A successor as a process: who sees its end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest

from ipsec_dp.gateway.upgrade.launch import SuccessorProcess
from ipsec_dp.gateway.upgrade.stream import HandOverChannel


@pytest.fixture
def over():
    return threading.Event()


@pytest.fixture
def successor(over):
    """One that waits for a signal, in a list that alone has it."""
    ours, theirs = HandOverChannel.pair()
    made = [SuccessorProcess(subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]), ours, over)]
    number = made[0].pid
    yield made
    theirs.close()
    ours.close()
    with contextlib.suppress(OSError):  # it has gone, and was seen
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)


def seen(process):
    """How it ended, by whoever's child it is; it stays to be seen. None: somebody else has seen it."""
    try:
        found = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return None
    assert found is not None
    return found.si_code, found.si_status


KILLED = (os.CLD_KILLED, signal.SIGKILL)


def test_one_that_is_not_needed_ends_and_leaves_nothing(successor, over):
    (process,) = successor
    process.end()
    assert seen(process.pid) is None
    assert over.is_set()


def test_the_end_of_one_that_is_the_service_is_left_for_the_manager_to_see(successor, over):
    """It starts the gateway anew, as after any failure. Not when what it was started by is deleted either."""
    process = successor[0].pid
    successor[0].abandon()
    assert over.is_set()
    successor.clear()
    gc.collect()
    assert seen(process) == KILLED


def test_so_is_that_of_one_that_ended_by_itself(successor):
    (process,) = successor
    process.leave()
    os.kill(process.pid, signal.SIGKILL)
    assert seen(process.pid) == KILLED
    process.pass_on(signal.SIGTERM)
    process.abandon()
    assert seen(process.pid) == KILLED


def test_a_signal_is_passed_on_to_one_that_is_the_service(successor):
    (process,) = successor
    process.leave()
    process.pass_on(signal.SIGTERM)
    assert seen(process.pid) == (os.CLD_KILLED, signal.SIGTERM)
