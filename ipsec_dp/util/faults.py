"""Whatever goes wrong without being raised on purpose becomes one line with its cause; where in the code it was is for the log at
debug level."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util import os_errors
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("ipsec_dp")

LOG_VARIABLE: Final = "IPSEC_DP_LOG"  # "debug": the log says everything


class UnexpectedError(IpsecDpError):
    """What nobody raised on purpose: a refusal of the system that no part foresaw, or a fault of ours."""


class LineFormatter(logging.Formatter):
    """Whatever a message holds, it is one line; so is each of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = shown(record.getMessage(), LINE)
        record.asctime = self.formatTime(record)
        trace = self.formatException(record.exc_info).split("\n") if record.exc_info else []
        return "\n".join((self.formatMessage(record), *(shown(line, LINE) for line in trace)))


def log_to_stderr() -> None:
    """One line for each event, from INFO on; from DEBUG on where IPSEC_DP_LOG says so."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler])
    log.setLevel(logging.DEBUG if os.environ.get(LOG_VARIABLE) == "debug" else logging.INFO)


def unexpected(what: str, error: Exception) -> UnexpectedError:
    """The error as one line; `what` begins it: what could not be done."""
    log.debug("%s", what, exc_info=error)
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
