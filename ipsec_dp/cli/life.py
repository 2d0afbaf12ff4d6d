"""The verbs of a gateway's life: what is right with its configuration, up, down, what is changed in between."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from ipsec_dp.cli import render
from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.options import FILE, control_option, examples, heed_interrupts, json_option, loading, show_findings
from ipsec_dp.config import examine, load
from ipsec_dp.errors import Finding
from ipsec_dp.gateway import messages

RELOAD_TIMEOUT_S = 600.0  # ten thousand tunnels are read in seconds, several reloads wait for each other


@click.command(
    epilog=examples("ipsec-dp up /etc/ipsec-dp/site-a.toml", "ipsec-dp up conf/manual-a.toml --control /tmp/site-a.sock")
)
@click.argument("file", type=FILE)
@control_option
def up(file: Path, control: Path | None) -> int:
    """Bring FILE's tunnels up and keep them up.

    It runs in the foreground until SIGTERM, Ctrl-C or `ipsec-dp down`, and then takes everything away again. After a crash a guard
    stays that lets no protected traffic out in clear; the next `up` adopts it.
    """
    heed_interrupts(signal.SIG_DFL)  # until the gateway has a handler of its own: nothing is begun before
    config = load(file)
    show_findings(config.warnings)
    with loading():
        from ipsec_dp.gateway.daemon import run
    return int(run(config, config.control_path if control is None else control))


@click.command(epilog=examples("ipsec-dp down", "ipsec-dp down --control /run/ipsec-dp/site-a.sock"))
@control_option
@json_option
def down(control: Path | None, as_json: bool) -> int:
    """Stop the running gateway.

    Interfaces, routes and keys go, the guard too unless keep_closed is set.
    """
    result = ask(control, messages.DownRequest())
    click.echo(json.dumps(result) if as_json else "stopped")
    return 0


@click.command(
    epilog=examples("ipsec-dp check /etc/ipsec-dp/site-a.toml", "ipsec-dp check site-a.toml --json | jq -r '.findings[].key'")
)
@click.argument("file", type=FILE)
@json_option
def check(file: Path, as_json: bool) -> int:
    """Say everything that is wrong with FILE.

    One line each: tunnel, key, what is wrong, what would be right. Files that it names are looked at too: missing, readable by
    others, not a key. Exit status 2 when anything is wrong; warnings alone leave it 0.
    """
    config, findings = examine(file)
    if as_json:
        rows = [{name: getattr(finding, name) for name in Finding.__slots__} for finding in findings]
        click.echo(json.dumps({"schema": 1, "file": str(file), "ok": config is not None, "findings": rows}, indent=2))
    else:
        show_findings(findings)
        if config is not None:
            tunnels, policies, routes = len(config.tunnels), len(config.policies), len(config.routes)
            click.echo(f"{file}: good: {counted(tunnels, 'tunnel')}, {counted(policies, 'policy')}, {counted(routes, 'route')}")
    return 2 if config is None else 0


@click.command(epilog=examples("ipsec-dp reload", "ipsec-dp reload /etc/ipsec-dp/new.toml", "ipsec-dp reload --json | jq .changed"))
@click.argument("file", type=FILE, required=False)
@control_option
@json_option
def reload(file: Path | None, control: Path | None, as_json: bool) -> int:
    """Take what changed in the configuration over, and nothing else.

    FILE: another file than the one taken over last. Tunnels that nothing changes for lose no packet. Secrets, certificates and CRLs
    are read again too. A file with an error changes nothing: it is shown as `check` does, exit status 2.
    """
    request = messages.ReloadRequest(file=None if file is None else str(file.absolute()))
    answer = ask(control, request, RELOAD_TIMEOUT_S)
    outcome = read(answer, messages.ReloadAnswer)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        show_findings(outcome.findings)
        if outcome.applied:
            render.print_reload(read(answer, messages.ReloadResult))
    return 0 if outcome.applied else 2


def counted(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
