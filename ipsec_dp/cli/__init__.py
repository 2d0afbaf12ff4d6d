"""The command `ipsec-dp`: `commands` parses what was asked, `render` shows answers, `main` turns errors into exit statuses.

Exit status: 0 done; 1 failed; 2 usage or configuration; 3 no daemon.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from ipsec_dp.cli.commands import program
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.faults import log_to_stderr, unexpected

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 1


def main(arguments: Sequence[str] | None = None, *, interruptible: bool = False) -> int:
    """Runs one verb and returns the exit status; without `arguments` those of the process.

    `interruptible`: Ctrl-C ends the verb from here on, and not the process.
    """
    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = program.main(args=None if arguments is None else list(arguments), prog_name="ipsec-dp", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except IpsecDpError as error:
        click.echo(str(error), err=True)
        return error.exit_status
    except (KeyboardInterrupt, click.Abort):
        return FAILED
    except BrokenPipeError:
        _silence_stdout()
        return FAILED
    except Exception as error:  # noqa: BLE001 - no fault of ours is shown as a traceback
        log_to_stderr()
        click.echo(str(unexpected("ipsec-dp", error)), err=True)
        return FAILED


def _silence_stdout() -> None:
    """Our reader is gone: what is still buffered must not raise again when the interpreter flushes at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
