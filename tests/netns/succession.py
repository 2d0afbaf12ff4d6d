"""A gateway that goes on in one process after another: `upgrade` asked of it, and whoever is the last one ended after the test.

For tests with a gateway of their own (`Succession`), or with both of `netns.two_sites` (`Upgraded`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.rig.process import GatewayPair
from tests.netns.traffic import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import TwoSites
    from ipsec_dp.rig.process import GatewayProcess, SitePair
    from tests.netns.numbered import Numbered

PATIENCE_S = 60.0
DOWN_S = 10.0
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


def ended(process: int) -> bool:
    """Whether nothing of it is left, or nothing but its status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_ended(process: int) -> None:
    until(lambda: ended(process), "the end of a process")


class Succession:
    """A gateway that is not started yet, and the processes that take its place, of which the last one ends with the block."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        gateway.program = reachable(gateway.program)
        self.processes: list[int] = []  # without the first

    def ask(self, **request: object) -> Any:
        """What `upgrade` answers. ControlError."""
        return control.request(self.gateway.control, {"verb": "upgrade", **request}, PATIENCE_S)

    def upgrade(self, **request: object) -> Any:
        """The same, once the process that was asked has ended."""
        answer = self.ask(**request)
        if self.processes:
            wait_ended(self.processes[-1])
        else:
            assert self.gateway.wait(DOWN_S) == 0
        self.processes.append(answer["process"])
        return answer

    def answers(self) -> Any:
        """The next process is done, and is asked: its status."""

        def answered() -> Any:
            try:
                return self.gateway.status()
            except (ControlError, NoDaemonError):
                return None

        return until(answered, "an answer of the next process")

    def end(self) -> None:
        """Whoever has become the gateway stops, as by `down`; one that does not is killed."""
        if not self.processes or ended(last := self.processes[-1]):
            return
        try:
            control.request(self.gateway.control, {"verb": "down"}, PATIENCE_S)
            wait_ended(last)
        finally:
            if not ended(last):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(last, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class Upgraded(GatewayPair):
    """Both gateways, of which gwA is the one that is upgraded; whoever goes on is ended after the test, too."""

    def __init__(self, sites: TwoSites, directory: Path, pair: SitePair) -> None:
        super().__init__(sites, directory, pair)
        self.succession = Succession(self.a)
        self.ask, self.upgrade, self.answers = self.succession.ask, self.succession.upgrade, self.succession.answers

    @property
    def processes(self) -> list[int]:
        return self.succession.processes


@contextlib.contextmanager
def upgraded(sites: TwoSites, directory: Path, pair: SitePair, *program: str) -> Iterator[Upgraded]:
    """gwA and gwB are up, and all that gwA has become ends afterwards. `program`: how gwA is started first."""
    made = Upgraded(sites, directory, pair)
    if program:
        made.a.program = reachable(program)
    try:
        made.start()
        made.a.wait_negotiated()
        yield made
    finally:
        try:
            made.succession.end()
        finally:
            made.a.kill()
            made.b.kill()
            print(made.a.text())
    assert "Traceback" not in made.a.text()


def flows(*streams: Numbered) -> None:
    """A while of each, carried by whoever has the tunnel now."""
    enough = [len(each.arrived) + 300 for each in streams]
    until(lambda: all(len(each.arrived) > least for each, least in zip(streams, enough, strict=True)), "packets")
