"""All memory of a process stays out of swap where that is not limited: the keys that are Python's, too."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from ipsec_dp.dataplane import memory_is_locked, process
from ipsec_dp.host import privilege

IPC_LOCK = 14  # <linux/capability.h>: locks beyond the limit


@pytest.fixture
def lib(monkeypatch):
    """The core, which changes nothing of this process."""
    calls: list[str] = []

    def call(name):
        calls.append(name)
        return 0

    made = SimpleNamespace(calls=calls, **{name: partial(call, name) for name in ("dp_process_protect", "dp_process_lock")})
    monkeypatch.setattr(process, "lib", made)
    return made


@pytest.mark.parametrize(
    ("limit", "locks"),
    [(0, False), (8 << 20, False), (1 << 40, False), (resource.RLIM_INFINITY, True)],
    ids=["none", "8 MiB", "1 TiB", "no limit"],
)
def test_memory_is_locked_without_a_limit_alone(lib, monkeypatch, limit, locks):
    """Under one what is mapped later would be refused."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    process.protect_process()
    assert lib.calls == ["dp_process_protect", *(["dp_process_lock"] if locks else [])]


def test_that_the_kernel_refuses_is_no_error(lib, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    lib.dp_process_lock, lib.dp_process_is_locked = lambda: -errno.EPERM, lambda: 0
    process.protect_process()
    assert not memory_is_locked()


# Prints whether the mapping of a key that Python makes afterwards is locked, what it says itself, and octets locked in all.
PROGRAM = """
import os, resource, sys
from ipsec_dp._native import ffi
from ipsec_dp.dataplane import memory_is_locked, protect_process
{before}
protect_process()
key = os.urandom(1 << 20)
address, found, inside = int(ffi.cast("uintptr_t", ffi.from_buffer(key))), None, False
for line in open("/proc/self/smaps"):
    name = line.split()[0]
    if name == "VmFlags:":
        found = "lo" in line.split() if inside else found
    elif not name.endswith(":"):
        low, high = (int(each, 16) for each in name.split("-"))
        inside = low <= address < high
print(found, memory_is_locked(), [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")][0])
"""
# CAP_IPC_LOCK does in the kernel what no limit does.
NO_LIMIT = "resource.getrlimit = lambda _: (resource.RLIM_INFINITY,) * 2"
LIMIT = "resource.getrlimit = lambda _: (8 << 20,) * 2"


def run(before):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(before=before)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def may_lock():
    return privilege.has(IPC_LOCK) or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


def test_a_key_of_pythons_lies_in_locked_memory():
    key, says, _ = run(NO_LIMIT)
    assert (key, says) == (str(may_lock()),) * 2


def test_under_a_limit_nothing_is_locked():
    assert run(LIMIT) == ["False", "False", "0"]
