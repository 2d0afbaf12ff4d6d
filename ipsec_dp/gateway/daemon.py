"""`ipsec-dp up`: one gateway in the foreground until SIGTERM, SIGINT or `down`; SIGHUP is `reload`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import protect_process
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.gateway.privileges import Privileges
from ipsec_dp.gateway.service_reports import ServiceReports
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES
from ipsec_dp.host.service_manager import ServiceManager
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.faults import explained, log_to_stderr, unexpected

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.gateway.confirmation import Trial
    from ipsec_dp.gateway.substitutes import Substitutes
    from ipsec_dp.util.clock import Clock

log = logging.getLogger("ipsec_dp")

SWITCH_S = 0.0005  # after which a thread that computes lets the event loop go on; each of its system calls may have to wait so long


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a task or a callback raised and nobody took."""
    error, message = context.get("exception"), context["message"]
    log.error("%s", unexpected(message, error) if isinstance(error, Exception) else message)


async def _serve(gateway: Gateway, manager: ServiceManager, privileges: Privileges, clock: Clock) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_fault)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, gateway.start_reload)
    async with AsyncExitStack() as stack:
        stack.callback(manager.close)
        stack.push_async_callback(gateway.close)
        stack.callback(manager.stopping)
        privileges.watch(loop, stack, gateway.conditions)
        await gateway.start()
        manager.ready()
        if manager.asks:
            reports = loop.create_task(ServiceReports(manager, gateway, clock).run())
            stack.callback(reports.cancel)
        return await gateway.wait()


def run(
    config: Config,
    control_path: Path,
    trial: Trial | None = None,
    *,
    verbose: bool = False,
    trace_ike: bool = False,
    substitutes: Substitutes = NO_SUBSTITUTES,
    privileges: Privileges | None = None,
) -> int:
    """Runs the gateway, with `trial` on trial; its exit status. Errors are logged in one line each, with what would help.

    `substitutes`: what a rig puts in the place of parts, to hear of what they do. `privileges` are dropped before anything is
    touched; None: they stay."""
    log_to_stderr(verbose=verbose, trace_ike=trace_ike)
    try:
        with explained("the gateway ended"):
            protect_process()
            sys.setswitchinterval(SWITCH_S)
            manager, clock = ServiceManager.of(os.environ), SystemClock()
            if privileges is not None:
                privileges.drop(config, control_path)
                kept = privileges.reread(substitutes.reread), privileges.place(substitutes.place)
                substitutes = replace(substitutes, reread=kept[0], place=kept[1])
            substitutes = replace(substitutes, reloading=manager.reloading)
            gateway = Gateway(config, control_path, clock=clock, trial=trial, substitutes=substitutes)
            if privileges is not None:
                privileges.tell(gateway.conditions)
            return asyncio.run(_serve(gateway, manager, privileges or Privileges(), clock))
    except IpsecDpError as error:
        for line in error.lines:
            log.error("%s", line)
        return error.exit_status
