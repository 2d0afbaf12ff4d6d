"""The life of a process that `upgrade` started: from the channel that it inherited to a gateway."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ipsec_dp.dataplane import protect_process
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.daemon import run as run_gateway
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from ipsec_dp.gateway.upgrade.taking import Successor
from ipsec_dp.host.drop import end_with_parent
from ipsec_dp.util.faults import explained

if TYPE_CHECKING:
    from ipsec_dp.config.model import LogFormat


def run(descriptor: int) -> int:
    """The exit status. Raises HandOverError when nobody has started us to take his place."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))  # it waits for who takes it: `daemon`
    protect_process()
    end_with_parent()  # one that hangs would keep the interfaces; until it is alone
    try:
        channel = HandOverChannel(socket.socket(fileno=descriptor))
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise HandOverError("there is no gateway here to take over: `ipsec-dp upgrade` starts this") from error
    try:
        received = Successor.receive(channel, os.close)
    except HandOverError as error:
        return error.exit_status
    with contextlib.closing(received) as successor:
        why = "it ended, and its log says why"
        try:
            return _run(successor)
        except IpsecDpError as error:  # the other process tells it
            why = "; ".join(error.lines)
            return error.exit_status
        finally:  # the other process has gone by then, or hears of it at once
            successor.refuse(why)


def _run(successor: Successor) -> int:
    offer = successor.offer
    with explained("the gateway could not be taken over"), contextlib.closing(successor.privileges()) as privileges:
        config = successor.config(Path(offer.config), privileges.learn)
        return run_gateway(
            config,
            Path(offer.control),
            verbose=offer.verbose,
            trace_ike=offer.trace_ike,
            log_format=cast("LogFormat | None", offer.log_format),
            privileges=privileges,
            successor=successor,
        )
