"""A gateway that goes on in one process after another: `upgrade` asked of it, and whoever is the last one ended after the test."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.rig.process import GatewayPair
from tests.netns import upgrade_faults
from tests.netns.traffic import POLL_S, TIMEOUT_S, until
from tests.netns.used import ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _pytest.mark import ParameterSet

    from ipsec_dp.rig.netns import Namespace, TwoSites
    from ipsec_dp.rig.process import GatewayProcess, SitePair
    from tests.netns.numbered import Numbered

PATIENCE_S = 60.0
# The program is started by the gateway's own user, who has to reach it: in a mount namespace of its own, where this interpreter
# lies in a home that others may not enter, that home is another one with nothing but the interpreter.
HOME, KEPT = Path("/root"), Path(sys.base_prefix)


def reachable(program: tuple[str, ...]) -> tuple[str, ...]:
    """`program`, started where everybody may enter the directories above the interpreter."""
    if not KEPT.is_relative_to(HOME):
        return program
    hidden = KEPT.relative_to(HOME).parts[0]
    script = (
        f"set -e; d=$(mktemp -d); mount --bind {HOME}/{hidden} $d; mount -t tmpfs -o mode=755,size=1m none {HOME}; "
        f'mkdir {HOME}/{hidden}; mount --bind $d {HOME}/{hidden}; umount $d; rmdir $d; exec "$@"'
    )
    return ("sh", "-c", script, "sh", *program)


def wait_ended(process: int) -> None:
    until(lambda: ended(process), "the end of a process")


def heirs(program: str) -> list[int]:
    """The processes of `program` that are to take a gateway's place, or did, where nobody said which it is; of several
    generations that live the first.

    What one of them has begun, a trial of an interface or a program that is not yet another, has its words and is none.
    """
    found: dict[int, int] = {}  # by its number that of who began it
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (each / "cmdline").read_bytes().split(b"\0")
            if program.encode() in words and b"--take-over" in words:
                found[int(each.name)] = int((each / "stat").read_text().rpartition(")")[2].split()[1])
    return [process for process, parent in found.items() if parent not in found]


def nobody_left(namespace: Namespace, seconds: float = TIMEOUT_S) -> None:
    """What still runs there would be the gateway in the tests that come: it is killed, and this test has failed. A gateway's helper
    ends a moment after it, when it hears of that."""
    left, deadline = namespace.pids(), time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = namespace.pids()
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert left == [], f"left behind in {namespace.label}: {left}"


def parameters(faults: Iterable[str]) -> list[ParameterSet]:
    """Of a test, some of them slow."""
    return [pytest.param(fault, marks=pytest.mark.slow if fault in upgrade_faults.SLOW else ()) for fault in faults]


def flows(*streams: Numbered) -> None:
    """A while of each, carried by whoever has the tunnel now."""
    enough = [len(each.arrived) + 300 for each in streams]
    until(lambda: all(len(each.arrived) > least for each, least in zip(streams, enough, strict=True)), "packets")


class Upgraded(GatewayPair):
    """gwA is the one that is upgraded; whoever goes on is ended after the test, too."""

    def __init__(self, sites: TwoSites, directory: Path, pair: SitePair, program: tuple[str, ...] = ()) -> None:
        """`program`: how gwA is started, where it is not the usual way."""
        super().__init__(sites, directory, pair)
        self.a.program = reachable(program or self.a.program)
        self.processes: list[int] = []

    def ask(self, **request: object) -> dict[str, Any]:
        """The answer, whatever becomes of gwA. NoDaemonError, ControlError."""
        answer: dict[str, Any] = control.request(self.a.control, {"verb": "upgrade", **request}, PATIENCE_S)
        return answer

    def upgrade(self, **request: object) -> dict[str, Any]:
        """The answer, once whoever was asked has ended."""
        answer = self.ask(**request)
        if self.processes:
            wait_ended(self.processes[-1])
        else:
            assert self.a.wait(10) == 0
        self.processes.append(answer["process"])
        return answer

    def answers(self) -> None:
        """The next process is done, and is asked."""

        def answered() -> dict[str, Any] | None:
            try:
                return self.a.status()
            except (ControlError, NoDaemonError):
                return None

        until(answered, "an answer of the next process")


def end(upgraded: Upgraded) -> None:
    """Whoever has become the gateway stops, as by `down`; one that does not is killed."""
    if not upgraded.processes or ended(last := upgraded.processes[-1]):
        return
    try:
        upgraded.a.ask("down")
        wait_ended(last)
    finally:
        if not ended(last):
            with contextlib.suppress(ProcessLookupError):
                os.kill(last, signal.SIGKILL)


class Succession(Upgraded):
    """The same for one gateway alone, which is not started yet: whoever it has become ends with the block."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.a = gateway
        self.a.program = reachable(self.a.program)
        self.processes = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self)


@contextlib.contextmanager
def started(pair: Upgraded) -> Iterator[Upgraded]:
    """Both gateways are started, and all that gwA has become ends afterwards."""
    try:
        pair.start()
        yield pair
    finally:
        try:
            end(pair)
        finally:
            pair.a.kill()
            pair.b.kill()
            print(pair.a.text())
            nobody_left(pair.a.namespace)
    assert "Traceback" not in pair.a.text()


@contextlib.contextmanager
def upgraded(sites: TwoSites, directory: Path, pair: SitePair, *program: str) -> Iterator[Upgraded]:
    """gwA, started by `program` where there is one, and gwB are up, and all that gwA has become ends afterwards."""
    with started(Upgraded(sites, directory, pair, program)) as made:
        made.a.wait_negotiated(PATIENCE_S)
        yield made
