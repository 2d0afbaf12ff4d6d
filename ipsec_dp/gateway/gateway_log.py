"""The log of a gateway that runs: in which form it is written and where, from which level on, and what is lost of it."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipsec_dp.gateway.log_events import PACKAGE, SUBSYSTEMS, loggers_of
from ipsec_dp.gateway.log_forms import JsonFormatter, settled
from ipsec_dp.gateway.log_journal import JournalSink
from ipsec_dp.gateway.log_writer import LogWriter, NoSink, StreamSink, own_line
from ipsec_dp.gateway.messages import LogAnswer
from ipsec_dp.util.faults import LOG_VARIABLE, TRACE_LOG, text_formatter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.config import Config
    from ipsec_dp.config.model import LogFormat, LogLevel, LogOutput
    from ipsec_dp.gateway.log_writer import Sink
    from ipsec_dp.util.conditions import Conditions

JOURNAL_SOCKET: Final = Path("/run/systemd/journal/socket")
SOURCE: Final = "log"  # of conditions


class _Handler(logging.Handler):
    """Leaves each line to the writer. Nothing is ever raised into who logs."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(settled(record))
        except Exception:  # noqa: BLE001 - it is counted
            self._writer.left_out += 1

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Whoever logs does not hear of it."""


def stderr_descriptor() -> int | None:
    """One of our own that leads where stderr does: its number stays ours, whatever closes the other and opens a socket in its
    place. None: it is closed."""
    try:
        return os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return None


class GatewayLog:
    """Of one process. Levels are those of Python's loggers."""

    def __init__(self, output: LogOutput, *, form: LogFormat | None = None, verbose: bool = False) -> None:
        """`form`, `verbose`: said on the command line, and stronger than any configuration. So is IPSEC_DP_LOG."""
        self._output = output
        self._form = form
        self._verbose = verbose or os.environ.get(LOG_VARIABLE) == "debug"
        self._writer: LogWriter | None = None

    @property
    def form(self) -> LogFormat:
        return self._output.form if self._form is None else self._form

    @contextmanager
    def running(self, *, trace_ike: bool = False, journal: Path = JOURNAL_SOCKET) -> Iterator[None]:
        """Everything that is logged meanwhile is written; what waits at the end too, as far as that goes in a little time."""
        self._journal = journal
        self._writer = writer = LogWriter(self._sink())
        handler, root = _Handler(writer), logging.getLogger()
        root.addHandler(handler)
        self.set_level("debug" if self._verbose else self._output.level)
        self.set_trace(on=trace_ike)
        try:
            yield
        finally:
            root.removeHandler(handler)
            self._writer = None
            writer.close()

    def _sink(self) -> Sink:
        descriptor = stderr_descriptor()
        if self.form == "json":
            return NoSink() if descriptor is None else StreamSink(descriptor, JsonFormatter())
        text = NoSink() if descriptor is None else StreamSink(descriptor, text_formatter())
        return text if self.form == "text" else JournalSink(self._journal, text, own_line)

    # ---- what is changed while it runs

    def reconfigure(self, config: Config) -> None:
        """Another configuration is in force: what it says otherwise about the log than the former counts from now on."""
        before, form = self._output, self.form
        self._output = config.log
        if self._writer is not None and self.form != form:
            self._writer.use(self._sink())
        if config.log.level != before.level and not self._verbose:
            self.set_level(config.log.level)

    def set_level(self, level: LogLevel, subsystem: str | None = None) -> None:
        """Of one subsystem; None: of all, whatever each had. Where nothing is written levels are others' (a rig's, a test's)."""
        if self._writer is None:
            return
        number = logging.getLevelNamesMapping()[level.upper()]
        if subsystem is None:
            logging.getLogger(PACKAGE).setLevel(number)
        for each in SUBSYSTEMS if subsystem is None else (subsystem,):
            for name in loggers_of(each):
                logging.getLogger(name).setLevel(logging.NOTSET if subsystem is None else number)

    def set_trace(self, *, on: bool) -> None:
        """A line for each IKE message, whatever the levels are. Where nothing is written it is others' too."""
        if self._writer is not None:
            logging.getLogger(TRACE_LOG).setLevel(logging.DEBUG if on else logging.INFO)

    @property
    def answer(self) -> LogAnswer:
        """How it is now."""
        levels = {name: logging.getLogger(loggers_of(name)[0]).getEffectiveLevel() for name in SUBSYSTEMS}
        return LogAnswer(
            format=self.form,
            levels={name: logging.getLevelName(number).lower() for name, number in levels.items()},
            left_out=0 if self._writer is None else self._writer.left_out,
            trouble=None if self._writer is None else self._writer.trouble,
            trace_ike=logging.getLogger(TRACE_LOG).isEnabledFor(logging.DEBUG),
        )

    def look(self, conditions: Conditions) -> None:
        """Lines that are lost are a condition while they are."""
        trouble = None if self._writer is None else self._writer.trouble
        if trouble is None:
            conditions.end(SOURCE, "")
        else:
            conditions.begin(SOURCE, "", f"lines of the log are lost: {trouble}; `ipsec-dp log` counts them")
