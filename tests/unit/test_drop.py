"""Privileges given up for good, by a process of the test's own: its rows in /proc say what it kept."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading

import pytest

from ipsec_dp.host.drop import become, capabilities_for, raise_limits
from ipsec_dp.host.privilege import BPF, NET_ADMIN, NET_BIND_SERVICE, NET_RAW
from ipsec_dp.network.workers import CONTROL_NICE
from ipsec_dp.util.service_user import service_ids, service_user

PROGRAM = """
from ipsec_dp.host.drop import become
print(become(None, (12, 13), (12,)))
print(open("/proc/self/status").read())
"""


def rows(text):
    return {name: value.split() for name, _, value in (line.partition(":") for line in text.splitlines())}


def bits(row):
    return {number for number in range(64) if int(row[0], 16) >> number & 1}


def test_only_what_is_to_be_kept_is_and_nothing_comes_back():
    found = rows(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
    assert found["NoNewPrivs"] == ["1"]
    assert bits(found["CapPrm"]) == bits(found["CapEff"]) <= {NET_ADMIN, NET_RAW}
    assert bits(found["CapInh"]) == bits(found["CapAmb"]) <= {NET_ADMIN}


@pytest.mark.parametrize("may", [True, False])
def test_memory_for_keys_is_locked_without_limit_and_the_priority_taken_as_far_as_it_goes(monkeypatch, may):
    set_to, nice = {}, []

    def setrlimit(limit, values):
        if not may and limit == resource.RLIMIT_NICE:
            raise ValueError("not allowed to raise maximum limit")
        set_to[limit] = values

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    monkeypatch.setattr(os, "setpriority", lambda *arguments: nice.append(arguments))
    raise_limits()
    assert set_to[resource.RLIMIT_MEMLOCK] == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert nice == ([] if may else [(os.PRIO_PROCESS, 0, CONTROL_NICE)])


def test_where_the_limit_is_anothers_as_much_memory_is_locked_as_it_allows(monkeypatch):
    """In a container without CAP_SYS_RESOURCE."""
    set_to = []

    def setrlimit(limit, values):
        if resource.RLIM_INFINITY in values:
            raise ValueError("not allowed to raise maximum limit")
        set_to.append((limit, values))

    monkeypatch.setattr(resource, "getrlimit", lambda _limit: (1000, 5000))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    raise_limits()
    assert (resource.RLIMIT_MEMLOCK, (5000, 5000)) in set_to


def test_the_command_has_one_thread_when_it_gives_privileges_up():
    """numpy's OpenBLAS would begin one for each processor."""
    program = """
import os, sys
from ipsec_dp.__main__ import run
sys.argv = ["ipsec-dp", "version"]
run()
import numpy
print(len(os.listdir("/proc/self/task")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1"


def test_where_there_are_threads_nothing_is_given_up():
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        (text,) = become(None, ())
    finally:
        over.set()
        thread.join()
    assert "threads" in text


def test_what_a_gateway_needs_grows_with_its_workers():
    assert set(capabilities_for(1)) == {NET_ADMIN, NET_RAW, NET_BIND_SERVICE}
    assert set(capabilities_for(2)) - set(capabilities_for(1)) == {BPF}


def test_a_gateways_user_is_nobody_else():
    assert service_user().uid in service_ids()
    assert not service_ids() & {0, 65534}
