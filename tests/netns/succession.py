"""A gateway that goes on in one process after another: `upgrade` asked of it, and whoever is the last one ended after the test."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Self

from tests.netns.test_upgrade import Upgraded, ended, reachable, wait_ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipsec_dp.rig.netns import TwoSites
    from ipsec_dp.rig.process import GatewayProcess, SitePair


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
def upgraded(sites: TwoSites, directory: Path, pair: SitePair) -> Iterator[Upgraded]:
    """gwA and gwB are up, and all that gwA has become ends afterwards."""
    made = Upgraded(sites, directory, pair)
    try:
        made.start()
        made.a.wait_negotiated()
        yield made
    finally:
        try:
            end(made)
        finally:
            made.a.kill()
            made.b.kill()
            print(made.a.text())
    assert "Traceback" not in made.a.text()
