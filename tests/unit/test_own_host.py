"""Tests that run as root run on a host of their own: what one run makes, no other run sees, and what a killed one left is ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import own_host
from tests.netns.traffic import until

pytestmark = pytest.mark.root

KILLED = """
import os, signal, subprocess
from tests import own_host
own_host.enter()
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
print(subprocess.Popen(["sleep", "60"], start_new_session=True, **quiet).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_this_process_has_loopback_alone_and_a_run_of_its_own():
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    for kind in ("net", "mnt"):
        assert os.readlink(f"/proc/self/ns/{kind}") != os.readlink(f"/proc/{os.getppid()}/ns/{kind}")
    own = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert ["/run", "tmpfs"] in [[fields[4], fields[fields.index("-") + 1]] for fields in own]


def test_programs_that_a_killed_run_left_are_ended():
    killed = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=30, check=False)
    assert killed.returncode == -9, killed.stderr
    left = int(killed.stdout)
    until(lambda: left in own_host.sweep(), "the program, whose environment can be read a moment after it began")
    until(lambda: left not in own_host.sweep(), "the end of a program that was killed")


def test_programs_of_a_run_that_lives_are_not():
    program = subprocess.Popen(["sleep", "60"])
    try:
        assert program.pid not in own_host.sweep()
        assert program.poll() is None
    finally:
        program.kill()
        program.wait()
