"""`ipsec-dp` that stands still in its start, when the guard is there and no interface yet, until it gets SIGUSR1: for tests that
look at it then. `python -m tests.netns.held up …`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

from ipsec_dp.cli import main
from ipsec_dp.network.interfaces import LinuxInterfaces

if TYPE_CHECKING:
    from ipsec_dp.rig.process import GatewayProcess

PROGRAM = (sys.executable, "-m", "tests.netns.held")


def let_go(gateway: GatewayProcess) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGUSR1)


if __name__ == "__main__":
    told: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: told.append(number))
    make = LinuxInterfaces.make

    async def held(*arguments: Any) -> None:
        go_on = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go_on.set)
        if not told:
            await go_on.wait()
        await make(*arguments)

    LinuxInterfaces.make = held  # type: ignore[method-assign, assignment]
    sys.exit(main())
