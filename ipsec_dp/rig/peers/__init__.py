"""Other implementations as processes in network namespaces: peers for tests of interoperation, contenders of the benchmark.

Each is started with configurations that the caller gives as text, keeps everything it needs below a directory of its own, and is
ended by its process id. What they have in common is here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace

SEARCH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
STOP_SECONDS = 5.0
POLL_S = 0.02


class PeerError(Exception):
    """A peer is not installed, did not start, or did not do what it was asked to; the text holds what it logged."""


def find(program: str, package: str) -> str:
    """The path of a program. PeerError with the line that installs it."""
    path = shutil.which(program, path=SEARCH)
    if path is None:
        raise PeerError(f"{program} is not installed: apt-get install -y --no-install-recommends {package}")
    return path


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
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def run_directory(self) -> Path:
        return self.directory / "run"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def argv(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the peer's mount namespace; each step replaces the one before, the pid stays."""
        script = 'mount --bind "$0" /run && exec "$@"'
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        return ["unshare", "--mount", "sh", "-c", script, str(self.run_directory), "env", *settings, *argv]

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
