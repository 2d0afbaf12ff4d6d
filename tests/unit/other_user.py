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

    def commands(self, *lines: str) -> list[Said]:
        """`ipsec-dp` with each of these."""
        done = self._run(COMMAND, json.dumps([line.split() for line in lines]))
        assert done.returncode == 0, done.stderr
        return [Said(*json.loads(line)) for line in done.stdout.splitlines()]

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-c", AWAY + program, json.dumps([self.uid, self.groups]), *arguments)
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
