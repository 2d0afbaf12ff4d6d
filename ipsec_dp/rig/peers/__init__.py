"""Other implementations as processes in network namespaces: peers for tests of interoperation, contenders of the benchmark.

Each is started with configurations that the caller gives as text, keeps everything it needs below a directory of its own, and is
ended by its process id. What they have in common is here.

A peer is the host's own program, or one in UNPACKED: there `make setup-dev` unpacks what would be a service of the host if it were
installed. Such a program runs with the /usr of that directory, so that it finds its libraries and plugins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.rig.netns import Namespace

SEARCH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
UNPACKED = Path(sys.prefix) / "peers"  # /usr, and `packages`: a line for each, its name and version
STOP_SECONDS = 5.0
POLL_S = 0.02


class PeerError(Exception):
    """A peer is not installed, did not start, or did not do what it was asked to; the text holds what it logged."""


def find(program: str, package: str, search: str = SEARCH) -> str:
    """The path of a program in a directory of `search`: the unpacked one, else the host's. PeerError with what brings it."""
    unpacked = os.pathsep.join(f"{UNPACKED}{directory}" for directory in search.split(os.pathsep) if directory.startswith("/"))
    path = shutil.which(program, path=unpacked) or shutil.which(program, path=search)
    if path is None:
        raise PeerError(
            f"{program} is not installed: `make setup-dev` unpacks it beside the system; to install it, services and all:  "
            f"apt-get install -y --no-install-recommends {package}"
        )
    return path


def is_unpacked(path: str) -> bool:
    """Whether `find` found the program in UNPACKED."""
    return Path(path).is_relative_to(UNPACKED)


def version(package: str) -> str:
    """Name and version of a Debian package that peers run from, "" when there is none."""
    for line in (UNPACKED / "packages").read_text().splitlines() if (UNPACKED / "packages").exists() else ():
        if line.partition(" ")[0] == package:
            return line
    if shutil.which("dpkg-query") is None:
        return ""
    command = ("dpkg-query", "-W", "-f", "${Package} ${Version}", package)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def output_of(*argv: str, stdin: str = "", seconds: float = 20.0) -> str:
    """What a program prints. PeerError when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise PeerError(f"{argv[0]}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_for(ready: Callable[[], bool], seconds: float, failed: Callable[[], str]) -> None:
    """Returns when `ready`; PeerError with what `failed` says after that many seconds."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise PeerError(failed())
        time.sleep(POLL_S)


@dataclass
class Daemon:
    """One foreground program in a namespace, with a /run of its own (`directory`/run) and a log (`directory`/log).

    Several programs that insist on names below /run can so stand beside each other and beside those of the host.
    """

    namespace: Namespace
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    unpacked: bool = False  # its programs, or what they were copied from, are in UNPACKED
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    usr: Path | None = None  # it runs with this in the place of /usr, wherever UNPACKED is

    @property
    def run_directory(self) -> Path:
        return self.directory / "run"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the peer's mount namespace; each step replaces the one before, the pid stays."""
        script = 'mount --bind "$0" /run && if [ -n "$1" ]; then mount --bind "$1" /usr; fi && shift && exec "$@"'
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        usr = str(self.usr or (UNPACKED / "usr" if self.unpacked else ""))
        if is_unpacked(argv[0]):  # UNPACKED itself may be below the /usr that is covered
            argv = (f"/{Path(argv[0]).relative_to(UNPACKED)}", *argv[1:])
        return ["env", *settings, "unshare", "--mount", "sh", "-c", script, str(self.run_directory), usr, *argv]

    def start(self, *argv: str) -> None:
        """Starts it; a program that was started before must have ended."""
        if self.process is not None:
            raise PeerError(f"{self.namespace.label}: {argv[0]} runs already")
        self.run_directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = self.namespace.spawn(*self.argv(*argv), stdout=log, stderr=log)

    def run(self, *argv: str, seconds: float = 20.0) -> str:
        """Runs a second program beside it, to its end; its output. NetnsError when it fails."""
        return self.namespace.run(*self.argv(*argv), timeout=seconds).stdout

    def text(self) -> str:
        """What it logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_for(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Returns when `ready`. PeerError with the log when the program ended first, or took longer."""

        def ended_or_ready() -> bool:
            return not self.running() or ready()

        wait_for(ended_or_ready, seconds, lambda: f"{self.namespace.label}: not {what} after {seconds:g} s:\n{self.text()}")
        if not self.running():
            raise PeerError(f"{self.namespace.label}: ended before it was {what}:\n{self.text()}")

    def rss_octets(self) -> int:
        """Resident memory of the program. PeerError when it does not run."""
        if self.process is None:
            raise PeerError(f"{self.namespace.label}: not running")
        return rss_octets(self.process.pid)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; nothing when it does not run."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """SIGKILL: the peer is gone without a message."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


def rss_octets(pid: int) -> int:
    """Resident memory of a process (VmRSS). PeerError when there is none."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
    except OSError as error:
        raise PeerError(f"process {pid}: {error.strerror}") from error
    raise PeerError(f"process {pid} has ended")
