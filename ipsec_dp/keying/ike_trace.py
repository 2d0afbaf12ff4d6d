"""`--trace-ike` of `up` and `log`: a line of the log for each IKE message, few enough that a flood of them fills no disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.strangers import LIMITS, Allowance
from ipsec_dp.ike.v2.trace import MessageTrace
from ipsec_dp.util.faults import TRACE_LOG
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ipsec_dp.ike.actions import Path
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


class SwitchedTrace:
    """`environment.Trace` that is there while its logger is at debug level, which may change between any two messages."""

    def __init__(self, write: Callable[[str, bool], None]) -> None:
        self._write = write
        self._trace: MessageTrace | None = None

    @property
    def _on(self) -> MessageTrace | None:
        """What was remembered of messages goes when it ends: of those before and meanwhile nothing is known then."""
        if not log.isEnabledFor(logging.DEBUG):
            self._trace = None
        elif self._trace is None:
            self._trace = MessageTrace(self._write)
        return self._trace

    def arrived(self, datagram: bytes, path: Path) -> None:
        if trace := self._on:
            trace.arrived(datagram, path)

    def opened(self, message: Any) -> None:
        if trace := self._on:
            trace.opened(message)

    def handled(self) -> None:
        if trace := self._on:
            trace.handled()

    def sealed(self, payloads: Sequence[Any], datagrams: Sequence[bytes]) -> None:
        if trace := self._on:
            trace.sealed(payloads, datagrams)

    def described(self, datagram: bytes, text: Callable[[], str], *, proven: bool) -> None:
        if trace := self._on:
            trace.described(datagram, text, proven=proven)

    def left(self, datagram: bytes, path: Path) -> None:
        if trace := self._on:
            trace.left(datagram, path)


def ike_trace(clock: Clock) -> Trace:
    """The trace of a gateway, on or off."""
    return SwitchedTrace(TraceLog(clock).write)


class CookieLines:
    """What never comes here: requests that the data plane answered with a COOKIE by itself. `sent`: how many until now."""

    def __init__(self, sent: Callable[[], int]) -> None:
        self._sent = sent
        self._told: int | None = None  # None: the trace is off

    def look(self) -> None:
        """Each second, while the trace is on."""
        if not log.isEnabledFor(logging.DEBUG):
            self._told = None
            return
        sent = self._sent()
        more = 0 if self._told is None else sent - self._told
        self._told = sent
        if more:
            requests = "request" if more == 1 else "requests"
            log.debug("out the data plane answered %d IKE_SA_INIT %s with COOKIE", more, requests, extra=told("ike_message"))
