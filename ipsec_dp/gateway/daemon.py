"""`ipsec-dp up`: one gateway in the foreground until SIGTERM, SIGINT or `down`; SIGHUP is `reload`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import protect_process
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.gateway import Gateway
from ipsec_dp.gateway.gateway_log import GatewayLog
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES
from ipsec_dp.util.faults import explained, unexpected
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.config.model import LogFormat
    from ipsec_dp.gateway.confirmation import Trial
    from ipsec_dp.gateway.substitutes import Substitutes

log = logging.getLogger(__name__)

SWITCH_S = 0.0005  # after which a thread that computes lets the event loop go on; each of its system calls may have to wait so long


def _notify(state: str) -> None:
    """Tells a service manager, where one asks (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning(
            "the service manager at %s could not be told: %s", address, error.strerror or error, extra=told("manager_unreached")
        )


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a task or a callback raised and nobody took."""
    error, message = context.get("exception"), context["message"]
    log.error("%s", unexpected(message, error) if isinstance(error, Exception) else message, extra=told("task_fault"))


async def _serve(gateway: Gateway) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_fault)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, gateway.start_reload)
    try:
        await gateway.start()
        _notify("READY=1")
        return await gateway.wait()
    finally:
        _notify("STOPPING=1")
        await gateway.close()


def run(
    config: Config,
    control_path: Path,
    trial: Trial | None = None,
    *,
    verbose: bool = False,
    trace_ike: bool = False,
    log_format: LogFormat | None = None,
    substitutes: Substitutes = NO_SUBSTITUTES,
) -> int:
    """Runs the gateway, with `trial` on trial; its exit status. Errors are logged in one line each, with what would help.

    `substitutes`: what a rig puts in the place of parts, to hear of what they do."""
    written = GatewayLog(config.log, form=log_format, verbose=verbose)
    with written.running(trace_ike=trace_ike):
        try:
            with explained("the gateway ended"):
                protect_process()
                sys.setswitchinterval(SWITCH_S)
                return asyncio.run(_serve(Gateway(config, control_path, trial=trial, substitutes=substitutes, log=written)))
        except IpsecDpError as error:
            for line in error.lines:
                log.error("%s", line, extra=told("gateway_failed"))
            return error.exit_status
