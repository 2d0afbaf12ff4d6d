"""`up --trace-ike`: a line of the log for each IKE message, few enough that a flood of them fills no disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.ike.strangers import LIMITS, Allowance
from ipsec_dp.ike.v2.trace import MessageTrace
from ipsec_dp.util.faults import TRACE_LOG
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Trace
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(TRACE_LOG)

LINES_A_SECOND: Final = 200.0  # of messages that are ours or authentic


class TraceLog:
    """Writes lines at debug level, and how many it left out; what is not proven has a share of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._allowed = {True: Allowance(LINES_A_SECOND), False: Allowance(LIMITS.trace_a_second)}
        self._left_out = 0

    def write(self, line: str, proven: bool) -> None:
        """One line, unless there were too many of its kind within the last second."""
        if not self._allowed[proven].take(self._clock.now()):
            self._left_out += 1
            return
        if self._left_out:
            log.debug("%d messages were left out of this trace", self._left_out, extra=told("trace_left_out", count=self._left_out))
            self._left_out = 0
        log.debug("%s", line, extra=told("ike_message"))


def ike_trace(clock: Clock) -> Trace:
    """The trace that was asked for, or none at all."""
    return MessageTrace(TraceLog(clock).write) if log.isEnabledFor(logging.DEBUG) else NO_TRACE
