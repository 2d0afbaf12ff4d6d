"""`ipsec-dp up`: one gateway in the foreground until SIGTERM, SIGINT or `down`; SIGHUP is `reload`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.dataplane import memory_is_locked, protect_process
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway import unlocked_keys
from ipsec_dp.gateway.gateway import Gateway, tell_unseen
from ipsec_dp.gateway.gateway_log import GatewayLog
from ipsec_dp.gateway.privileges import Privileges
from ipsec_dp.gateway.service_reports import ServiceReports
from ipsec_dp.gateway.stopped import advice
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES
from ipsec_dp.host.descriptors import make_room
from ipsec_dp.host.service_manager import ServiceManager
from ipsec_dp.util import os_errors
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.faults import explained, unexpected
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import Config
    from ipsec_dp.config.model import LogFormat
    from ipsec_dp.gateway.confirmation import Trial
    from ipsec_dp.gateway.substitutes import Substitutes
    from ipsec_dp.gateway.upgrade.taking import Successor
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

DESCRIPTORS = 8  # that the event loop and the control socket take
SWITCH_S = 0.0005  # after which a thread that computes lets the event loop go on; each of its system calls may have to wait so long
ENDING = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*ENDING, signal.SIGHUP)  # that a gateway is told something by
YOUNG = 10_000  # objects that are new, before they are looked through: an IKE SA makes thousands, and holds no cycle


def _log_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a task or a callback raised and nobody took."""
    error, message = context.get("exception"), context["message"]
    log.error("%s", unexpected(message, error) if isinstance(error, Exception) else message, extra=told("task_fault"))


async def _serve(
    gateway: Gateway, manager: ServiceManager, privileges: Privileges, clock: Clock, successor: Successor | None
) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_fault)
    for number in ENDING:
        loop.add_signal_handler(number, gateway.stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, gateway.start_reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))  # a successor's was kept until now
    reports = ServiceReports(manager, gateway, clock)
    async with AsyncExitStack() as stack:
        stack.callback(manager.close)
        stack.push_async_callback(gateway.close)
        stack.callback(manager.stopping)
        privileges.watch(loop, stack, gateway.conditions)
        stack.callback(reports.close)
        await (gateway.start() if successor is None else gateway.take_over(successor, reports.lives))
        manager.ready()
        reports.lives()
        if successor is not None:
            await gateway.take_file(successor)
        status = await gateway.wait()
        if gateway.left_to is not None:
            privileges.leave()
            _pass_signals_on(gateway)
        return status


def _pass_signals_on(gateway: Gateway) -> None:
    """To the process that goes on. Handlers of the event loop stay as long as that does: it may have been told of a signal that it
    has not looked at. To be called again when it is closed, which gives back what signals do by default."""
    for number in SIGNALS:
        signal.signal(number, lambda number, _: gateway.giving.pass_on(signal.Signals(number)))


def run(
    config: Config,
    control_path: Path,
    trial: Trial | None = None,
    *,
    verbose: bool = False,
    trace_ike: bool = False,
    log_format: LogFormat | None = None,
    substitutes: Substitutes = NO_SUBSTITUTES,
    privileges: Privileges | None = None,
    successor: Successor | None = None,
) -> int:
    """Runs the gateway, with `trial` on trial, or as the `successor` of another process; its exit status. Errors are logged in one
    line each, with what would help.

    `substitutes`: what a rig puts in the place of parts, to hear of what they do. `privileges` are dropped before anything is
    touched; None: they stay."""
    written = GatewayLog(config.log, form=log_format, verbose=verbose)
    held, manager = privileges or Privileges(), ServiceManager.of(os.environ)
    undropped = _drop(held, config, control_path) if privileges is not None else None  # before there is a thread
    with written.running(trace_ike=trace_ike):
        try:
            with explained("the gateway ended"):
                if undropped is not None:
                    _tell_left(config.name)
                    raise undropped
                protect_process()
                _have_descriptors(config)
                sys.setswitchinterval(SWITCH_S)
                gc.set_threshold(YOUNG)
                clock = SystemClock()
                substitutes = replace(
                    substitutes,
                    reread=held.reread(substitutes.reread),
                    place=held.place(substitutes.place) if successor is None else successor.place(held.place(substitutes.place)),
                    in_force=held.in_force(substitutes.in_force),
                    reloading=manager.reloading,
                    offload_faults=held.offload_faults(),
                )
                gateway = Gateway(config, control_path, clock=clock, trial=trial, substitutes=substitutes, log=written)
                held.tell(gateway.conditions)
                unlocked_keys.tell(gateway.conditions, locked=memory_is_locked())
                gateway.giving.hindrance = _hindrance(manager)
                gateway.giving.alive, gateway.giving.hands_over = manager.alive, manager.hand_over
                gateway.giving.privileges = None if privileges is None else held
                gateway.giving.options = {"verbose": verbose, "trace_ike": trace_ike, "log_format": log_format}
                status = asyncio.run(_serve(gateway, manager, held, clock, successor))
                if gateway.left_to is not None:
                    _pass_signals_on(gateway)
                return status
        except IpsecDpError as error:
            if successor is not None and not successor.alone:  # the other process goes on, and has told why
                return error.exit_status
            for line in error.lines:
                log.error("%s", line, extra=told("gateway_failed"))
            return error.exit_status


def _hindrance(manager: ServiceManager) -> str | None:
    """Why this process may not end while its successor goes on."""
    if os.getpid() == 1:
        return "this process is the first of its container, which ends with it: start the container anew"
    if os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()) and not manager.asks:
        return "the service manager does not ask to be told (Type=notify), and would end the successor: restart the service"
    return None


def _have_descriptors(config: Config) -> None:
    """Raises OSError where a start would end in the middle for want of them."""
    try:
        with ExitStack() as stack:
            for _ in range(DESCRIPTORS):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        make_room()
    except OSError as error:
        tell_unseen(os_errors.text_of(error), config.name)
        raise


def _tell_left(name: str) -> None:
    """What a gateway before this one has left closed, which did not begin."""
    left = advice((name,))
    if left:
        log.warning("%s", left, extra=told("guard_holds"))


def _drop(privileges: Privileges, config: Config, control_path: Path) -> IpsecDpError | None:
    """What hindered it, for when there is a log."""
    try:
        with explained("the gateway ended"):
            privileges.drop(config, control_path)
    except IpsecDpError as error:
        return error
    return None
