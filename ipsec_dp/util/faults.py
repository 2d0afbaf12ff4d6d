"""Whatever goes wrong without being raised on purpose becomes one line with its cause; where in the code it was is for the log at
debug level."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util import os_errors
from ipsec_dp.util.text import LINE, shown
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

LOG_VARIABLE: Final = "IPSEC_DP_LOG"  # "debug": the log says everything
JOURNAL_VARIABLE: Final = "JOURNAL_STREAM"  # systemd.exec(5)
TRACE_LOG: Final = "ipsec_dp.keying.ike_trace"  # the logger of IKE messages


class UnexpectedError(IpsecDpError):
    """What nobody raised on purpose: a refusal of the system that no part foresaw, or a fault of ours."""


def trace_of(record: logging.LogRecord) -> list[str]:
    """The lines of its traceback: those that were made of it already (`trace`), else those of its exception."""
    if record.exc_info:
        return [shown(line, LINE) for line in logging.Formatter().formatException(record.exc_info).split("\n")]
    return list(getattr(record, "trace", ()))


class LineFormatter(logging.Formatter):
    """Whatever a message holds, it is one line; so is each of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = shown(record.getMessage(), LINE)
        record.asctime = self.formatTime(record)
        return "\n".join((self.formatMessage(record), *trace_of(record)))


class JournalFormatter(LineFormatter):
    """Each line begins with its priority, which the journal takes off it (sd-daemon(3)) and keeps beside the time that it came."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(f"<{priority_of(record.levelno)}>{line}" for line in super().format(record).split("\n"))


_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # of syslog(3)
_DEBUG: Final = 7


def priority_of(level: int) -> int:
    """syslog(3)'s for one of logging's levels."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


def text_formatter() -> logging.Formatter:
    """As people read a line at stderr: with its time and level, or for the journal with its priority."""
    return JournalFormatter("%(message)s") if _stderr_is_journal() else LineFormatter("%(asctime)s %(levelname)s %(message)s")


def is_journal(descriptor: int, stream: str | None) -> bool:
    """Whether a descriptor leads to the journal: `stream` is JOURNAL_STREAM, its device and inode (systemd.exec(5))."""
    try:
        there = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{there.st_dev}:{there.st_ino}"


class _QuietHandler(logging.StreamHandler[TextIO]):
    """A stderr that takes nothing is no reason to fail."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """The line is lost: where could it be said?"""


def log_to_stderr(*, verbose: bool = False, trace_ike: bool = False) -> None:
    """One line for each event, from INFO on; from DEBUG on if `verbose` or where IPSEC_DP_LOG says so. To the journal each with its
    priority. `trace_ike`: a line for each IKE message too."""
    handler = _QuietHandler(sys.stderr)
    handler.setFormatter(text_formatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("ipsec_dp").setLevel(logging.DEBUG if verbose or os.environ.get(LOG_VARIABLE) == "debug" else logging.INFO)
    logging.getLogger(TRACE_LOG).setLevel(logging.DEBUG if trace_ike else logging.INFO)


def _stderr_is_journal() -> bool:
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is none, or a test's
        return False
    return is_journal(descriptor, os.environ.get(JOURNAL_VARIABLE))


def unexpected(what: str, error: Exception) -> UnexpectedError:
    """The error as one line; `what` begins it: what could not be done."""
    log.debug("%s", what, exc_info=error, extra=told("fault"))
    if isinstance(error, OSError):
        return UnexpectedError(f"{what}: {os_errors.text_of(error)}")
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return UnexpectedError(f"{what}: {text}; that is a fault of ipsec-dp: report it, with the log under {LOG_VARIABLE}=debug")


@contextmanager
def explained(what: str) -> Iterator[None]:
    """What is raised inside is an IpsecDpError in the end. `what` as in `unexpected`."""
    try:
        yield
    except IpsecDpError:
        raise
    except Exception as error:  # whatever it is
        raise unexpected(what, error) from error
