"""Whoever has become a gateway is found, and ends with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.netns.succession import heirs, nobody_left
from tests.netns.traffic import until

PROGRAM = "/nowhere/ipsec-dp"
# It has begun another, which has its words still: a trial, or what is to become nft.
BEGINS = "import os, signal\nif os.fork():\n    print(flush=True)\nsignal.pause()"


def test_a_successor_is_who_takes_over_and_not_what_it_has_begun():
    with subprocess.Popen(
        [sys.executable, "-c", BEGINS, PROGRAM, "up", "--take-over", "3"], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            assert heirs(PROGRAM) == [process.pid]
            assert heirs("/nowhere/else") == []
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_gateway_that_a_test_has_left_behind_fails_that_test_and_not_the_next(lab):
    namespace = lab.namespace("gwA")
    nobody_left(namespace)
    process = namespace.spawn("sleep", "60")
    until(lambda: namespace.pids() == [process.pid], "the program in its namespace")
    with pytest.raises(AssertionError, match=rf"gwA: \[{process.pid}\]"):
        nobody_left(namespace, seconds=0.1)
    assert process.wait(10) == -signal.SIGKILL


def test_what_ends_by_itself_a_moment_later_is_not_left_behind(lab):
    """As the helper does, which hears of its gateway's end."""
    namespace = lab.namespace("gwA")
    process = namespace.spawn("sleep", "0.5")
    until(lambda: namespace.pids() == [process.pid], "the program in its namespace")
    nobody_left(namespace)
    assert process.wait(10) == 0
