"""The verb `test`: a tunnel on trial, by the running gateway or, from its file, without one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.completion import tunnel_names
from ipsec_dp.cli.options import FILE, control_option, examples, json_option, loading, say, show_json
from ipsec_dp.cli.patience import patience
from ipsec_dp.gateway import messages

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.gateway.trial_answer import TrialAnswer

TIMEOUT_S = 180.0  # three silent addresses by two versions


@click.command(
    "test",
    epilog=examples(
        "ipsec-dp test to-b                           by the running gateway",
        "ipsec-dp test to-b --messages                and a line for each IKE message",
        "ipsec-dp test to-b --file site-a.toml        before there is a gateway",
        "ipsec-dp test to-b --yes --json",
    )
    + "\n\n\b\nExit status: 0 it would come up; 1 it would not, or was not tried;\n2 usage or configuration; 3 no daemon.",
)
@click.argument("name", shell_complete=tunnel_names)
@click.option("--file", type=FILE, metavar="FILE", help="Test what FILE says, where no gateway runs.")
@click.option("--yes", is_flag=True, help="Also beside a tunnel that is up: do not ask.")
@click.option("--messages", "with_messages", is_flag=True, help="List the IKE messages.")
@control_option
@json_option
def test(name: str, file: Path | None, yes: bool, with_messages: bool, control: Path | None, as_json: bool) -> int:
    """Negotiate tunnel NAME without installing anything.

    Phase 1, phase 2, a rekey and the path's MTU are tried with the peer, and what was made there is deleted again: no packet takes
    it, nothing here changes, and no INITIAL_CONTACT is sent. It says how far it came, why not further, and what both sides offered.
    """
    with loading():
        from ipsec_dp.cli.trial_view import print_trial
    answer = _alone(name, file) if file is not None else _asked(name, control, as_json, yes=yes)
    if as_json:
        show_json(_fields(answer), 2)
    elif answer.asks is not None:
        say(f"{answer.asks}; --yes tests it all the same", err=True)
    else:
        print_trial(answer, messages=with_messages)
    return 0 if answer.passed else 1


def _alone(name: str, file: Path) -> TrialAnswer:
    with loading():
        from ipsec_dp.cli.lone_trial import run
    with patience(f"negotiating {name} on trial"):
        return run(name, file)


def _asked(name: str, control: Path | None, as_json: bool, *, yes: bool) -> TrialAnswer:
    """By the gateway; a person at a terminal is asked where the tunnel is up."""
    with loading():
        from ipsec_dp.gateway.trial_answer import TrialAnswer

    def negotiate(*, beside: bool) -> TrialAnswer:
        with patience(f"negotiating {name} on trial"):
            return read(ask(control, messages.TestRequest(name=name, beside=beside), TIMEOUT_S), TrialAnswer)

    answer = negotiate(beside=yes)
    if answer.asks is None or as_json or not sys.stdin.isatty():
        return answer
    say(answer.asks)
    if not click.confirm("Test it all the same?"):
        return answer
    return negotiate(beside=True)


def _fields(answer: TrialAnswer) -> object:
    import msgspec

    return msgspec.to_builtins(answer)
