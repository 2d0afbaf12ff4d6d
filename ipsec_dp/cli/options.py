"""What several verbs have in common: their options, what stands at the end of their help, and how they load what they need."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipsec_dp.config.quantities import parse_duration
from ipsec_dp.errors import BadValueError, IpsecDpError
from ipsec_dp.gateway.messages import CONFIRM_MAX_S
from ipsec_dp.util.text import LINE, shown, shown_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ipsec_dp.errors import Finding

INTERVAL_LEAST_S, INTERVAL_MOST_S = 0.5, 3600.0
COLUMNS_LEAST: Final = 20  # of what stands beside a label

FILE = click.Path(path_type=Path, readable=False)  # why it cannot be read is said by who reads it

control_option = click.option(
    "--control", type=FILE, metavar="PATH", help="The gateway's control socket, when it is not this host's only one."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class DurationType(click.ParamType[int]):
    """ "90s", "15m"; seconds, from one to a day."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            seconds = parse_duration(value)
        except BadValueError as error:
            self.fail(str(error), param, ctx)
        if not 1 <= seconds <= CONFIRM_MAX_S:
            self.fail(f'{value} is no time to wait for; write "1s" to "1d"', param, ctx)
        return seconds


class IntervalType(click.ParamType[float]):
    """ "2", "0.5", "5s"; seconds between two looks, from half of one to an hour."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = interval_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        if not INTERVAL_LEAST_S <= seconds <= INTERVAL_MOST_S:
            self.fail(f"{value} s: give {INTERVAL_LEAST_S:g} to {INTERVAL_MOST_S:g}", param, ctx)
        return seconds


def interval_of(text: str) -> float | None:
    """Seconds; None: it is no number."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s?", text)
    return None if found is None else float(found[1])


def confirm_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--confirm", "confirm_s", type=DurationType(), metavar="TIME", help=help_text)


wait_option = click.option("--wait", is_flag=True, help="Wait for what comes of it: exit status 0 only if it is done.")
timeout_option = click.option(
    "--timeout",
    "limit_s",
    type=DurationType(),
    default="60s",
    show_default=True,
    metavar="TIME",
    help="With --wait: at most so long.",
)


def examples(*lines: str) -> str:
    """What `--help` ends with."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def heed_interrupts(handler: Callable[[int, FrameType | None], object] | signal.Handlers = signal.default_int_handler) -> None:
    """Lets SIGINT end this process as Ctrl-C does: a shell that starts it in the background has it inherit SIGINT as ignored."""
    signal.signal(signal.SIGINT, handler)


def say(text: str, *, err: bool = False, whole: bool = False) -> None:
    """One line for people, whatever is in it; on a terminal as many as it takes, unless it is to be copied `whole`."""
    line = shown(text, LINE)
    click.echo(line if whole or not (sys.stderr if err else sys.stdout).isatty() else fitted(line), err=err)


_LABEL: Final = re.compile(r"\s*(?:\S+ )*\S+ {2,}|\s*(?:- )?")  # "remote    ", "  - "


def fitted(line: str, columns: int | None = None) -> str:
    """A line in those of the terminal, broken between words alone; the further ones stand below what follows its label."""
    width = shutil.get_terminal_size().columns if columns is None else columns
    label = _LABEL.match(line)
    indent = 0 if label is None or label.end() > width // 2 else label.end()
    below = " " * (indent or 2)
    return textwrap.fill(
        line,
        max(width, len(below) + COLUMNS_LEAST),
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    )


def show_json(value: object, indent: int | None = None) -> None:
    """For programs."""
    click.echo(json.dumps(shown_all(value), indent=indent))


def show_findings(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        say(str(finding), err=True)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Around the import of what one verb alone needs: made then, so that the others start quickly and without its libraries."""
    try:
        yield
    except ImportError as error:
        raise IpsecDpError(f"{error.name} cannot be loaded: {error}; run `make setup`, or install the package anew") from error
