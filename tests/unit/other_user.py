"""Another user of this host, for tests as root: asks a control socket, or runs the command, without a right.

What is needed is imported before the rights go: the interpreter may lie where other users cannot read.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOBODY = 65534
AWAY = f"""
import json, os, sys
uid, groups = json.loads(sys.argv.pop(1))
def drop():
    os.setgroups(groups)
    os.setgid({NOBODY} if uid else 0)
    os.setuid(uid)
"""
ASKING = """
import socket
drop()
path, *lines = sys.argv[1:]
clients = []
def client():
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(path)
    clients.append(made)
    return made.makefile("rb")
try:
    for line in lines:
        reader = client()
        try:
            clients[-1].sendall(line.encode() + b"\\n")
        except BrokenPipeError:
            pass  # turned away: the reason is there to read
        print(reader.readline().decode().strip())
except OSError as error:
    print(json.dumps({"errno": error.errno}))
"""
PRYING = """
import ctypes, fcntl
import errno as _errno
libc = ctypes.CDLL(None, use_errno=True)
def called(name, *arguments):
    result = libc[name](*(ctypes.c_long(each) for each in arguments))
    return os.strerror(ctypes.get_errno()) if result < 0 else None
def said(of, path):
    try:
        of(path)
    except OSError as error:
        return error.strerror
def read(path):
    with open(path, "rb", buffering=0) as file:
        file.read(1)
SEIZE, ATTACH, DETACH, PIDFD_OPEN, PIDFD_GETFD, CORE, FILES = 0x4206, 16, 17, 434, 438, 4, 64
drop()
reached = []
for process in map(int, sys.argv[1:]):
    at = f"/proc/{process}/"
    files = ("mem", "environ", "maps", "smaps", "pagemap", "auxv", "syscall", "stack", f"task/{process}/mem")
    links = ("exe", "cwd", "root", *(f"fd/{number}" for number in range(FILES)))
    found = {name: said(read, at + name) for name in files} | {name: said(os.readlink, at + name) for name in links}
    found |= {f"fdinfo/{number}": said(read, f"{at}fdinfo/{number}") for number in range(FILES)}
    room, word = ctypes.create_string_buffer(8), ctypes.c_long * 2
    near, far = word(ctypes.addressof(room), 8), word(0x400000, 8)
    found["memory"] = called("process_vm_readv", process, ctypes.addressof(near), 1, ctypes.addressof(far), 1, 0)
    found["seize"] = called("ptrace", SEIZE, process, 0, 0)
    found["attach"] = called("ptrace", ATTACH, process, 0, 0)
    limit = (ctypes.c_ulong * 2)(1 << 30, 1 << 30)
    found["core"] = called("prlimit64", process, CORE, ctypes.addressof(limit), 0)
    pidfd = libc.syscall(PIDFD_OPEN, process, 0)
    for number in range(FILES):
        found[f"descriptor {number}"] = called("syscall", PIDFD_GETFD, pidfd, number, 0)
    denied = ("Operation not permitted", "Permission denied")
    for name, why in found.items():  # which numbers there are may be seen of a process that is not protected yet
        if why not in denied and not (name.startswith("fd") and why == "No such file or directory"):
            reached.append(f"{process}: {name}: {why}")
print(json.dumps(reached))
"""
COMMAND = """
import asyncio, concurrent.futures, importlib, pkgutil
import ipsec_dp, ipsec_dp.cli
ours = ("cli", "config", "gateway", "network", "host", "ike", "keying", "services", "databases", "dataplane", "util")
for name in (*("ipsec_dp." + one for one in ours), "concurrent.futures", "rich"):
    package = importlib.import_module(name)
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not each.name.rpartition(".")[2].startswith("_"):
            importlib.import_module(each.name)
for arguments in (["--help"], ["status", "--control", "/nowhere/a.sock"], ["check", "/nowhere/a.toml"]):
    stderr, sys.stderr, stdout, sys.stdout = sys.stderr, open(os.devnull, "w"), sys.stdout, open(os.devnull, "w")
    ipsec_dp.cli.main(arguments)
    sys.stderr, sys.stdout = stderr, stdout
drop()
import tempfile
for arguments in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            status = ipsec_dp.cli.main(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        print(json.dumps([status, out.read().decode(), err.read().decode()]))
"""


class Said(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class User:
    """`groups`: that it is in besides that of nobody."""

    uid: int = NOBODY
    groups: tuple[int, ...] = ()

    def ask(self, path: Path, requests: Iterable[object]) -> list[dict[str, Any]]:
        """The answer to each, every one on a connection that stays; {"errno": …} where it cannot connect."""
        done = self._run(ASKING, str(path), *map(json.dumps, requests))
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    def reaches(self, *processes: int) -> list[str]:
        """In which ways it gets at what is in their memory, or at their descriptors: each but for those that are not permitted."""
        done = self._run(PRYING, *map(str, processes))
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)
        return found

    def commands(self, *lines: str) -> list[Said]:
        """`ipsec-dp` with each of these."""
        done = self._run(COMMAND, json.dumps([line.split() for line in lines]))
        assert done.returncode == 0, done.stderr
        return [Said(*json.loads(line)) for line in done.stdout.splitlines()]

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-c", AWAY + program, json.dumps([self.uid, self.groups]), *arguments)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
