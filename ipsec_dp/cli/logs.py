"""`log`: from which level on a running gateway logs."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.options import control_option, examples, json_option, say, show_json
from ipsec_dp.config.model import LogLevel
from ipsec_dp.gateway import messages
from ipsec_dp.gateway.log_events import SUBSYSTEMS

LEVELS: tuple[str, ...] = get_args(LogLevel)


@click.command(epilog=examples("ipsec-dp log", "ipsec-dp log debug ike", "ipsec-dp log info", "ipsec-dp log --trace-ike"))
@click.argument("level", required=False, metavar="[LEVEL]", type=click.Choice(LEVELS))
@click.argument("subsystem", required=False, metavar="[SUBSYSTEM]", type=click.Choice(tuple(SUBSYSTEMS)))
@click.option("--trace-ike/--no-trace-ike", default=None, help="Log a line for each IKE message, or no more, as `up --trace-ike`.")
@control_option
@json_option
def log(level: LogLevel | None, subsystem: str | None, *, trace_ike: bool | None, control: Path | None, as_json: bool) -> int:
    """Say or change what the running gateway logs.

    LEVEL (debug, info, warning, error): from which on, of SUBSYSTEM (ike, network, services, conditions, gateway) or of all, until
    the gateway ends. Without it: how it is, and whether lines are lost.
    """
    answer = ask(control, messages.LogRequest(level=level, subsystem=subsystem, trace_ike=trace_ike))
    if as_json:
        show_json(answer)
        return 0
    found = read(answer, messages.LogAnswer)
    say(f"format      {found.format}")
    for name, each in found.levels.items():
        say(f"{name:<11} {each}")
    say(f"trace-ike   {'on' if found.trace_ike else 'off'}")
    if found.left_out or found.trouble is not None:
        why = "" if found.trouble is None else f": {found.trouble}"
        say(f"lost        {found.left_out} line{'' if found.left_out == 1 else 's'}{why}")
    return 0
