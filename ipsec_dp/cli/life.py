"""The verbs of a gateway's life: what is right with its configuration, up, down, what is changed in between."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import msgspec

from ipsec_dp.cli import render
from ipsec_dp.cli.asking import ask, read, with_what_is_left
from ipsec_dp.cli.encapsulation_words import firewalls
from ipsec_dp.cli.names_in_use import names_in_use
from ipsec_dp.cli.options import (
    FILE,
    confirm_option,
    control_option,
    examples,
    heed_interrupts,
    json_option,
    loading,
    say,
    show_findings,
    show_json,
)
from ipsec_dp.cli.patience import patience
from ipsec_dp.cli.secrets_in_use import line_of
from ipsec_dp.config import examine, load, load_to_close, located
from ipsec_dp.config.model import LogFormat, control_socket
from ipsec_dp.errors import ControlError, Finding, NoDaemonError
from ipsec_dp.gateway import messages
from ipsec_dp.host import privilege
from ipsec_dp.util.faults import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.config import Config
    from ipsec_dp.gateway.management import Lockout

LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
PREFIXES_SHOWN = 20
UPGRADE_TIMEOUT_S = 300.0
RELOAD_TIMEOUT_S = 600.0  # ten thousand tunnels are read in seconds, several reloads wait for each other


@click.command(
    epilog=examples("ipsec-dp up /etc/ipsec-dp/site-a.toml", "ipsec-dp up conf/manual-a.toml --control /tmp/site-a.sock")
)
@click.argument("file", type=FILE)
@control_option
@confirm_option("Go back to closed after TIME unless `ipsec-dp confirm` comes before: for a host that is administered from afar.")
@click.option("-v", "--verbose", is_flag=True, help="Log what is of use to whoever looks for a fault, too.")
@click.option("--log-format", type=click.Choice(LOG_FORMATS), help="As [log] format, and stronger than that.")
@click.option("--trace-ike", is_flag=True, help="Log a line for each IKE message: what it is and holds, by names and sizes.")
def up(
    file: Path, control: Path | None, confirm_s: int | None, *, verbose: bool, log_format: LogFormat | None, trace_ike: bool
) -> int:
    """Bring FILE's tunnels up and keep them up.

    It runs in the foreground until SIGTERM, Ctrl-C or `ipsec-dp down`, and then takes everything away again. After a crash a guard
    stays that lets no protected traffic out in clear; the next `up` adopts it.
    """
    heed_interrupts(signal.SIG_DFL)  # until the gateway has a handler of its own: nothing is begun before
    with loading():
        from ipsec_dp.gateway.privileges import Privileges
    with contextlib.closing(Privileges.at_start()) as privileges:
        config = load(file)
        gc.freeze()  # it stays: of ten thousand tunnels that is a million objects to look through
        show_findings(config.warnings)
        lockout = _look(config)
        _show_lockout(lockout, file)
        with loading():
            from ipsec_dp.gateway.confirmation import Trial
            from ipsec_dp.gateway.daemon import run
            from ipsec_dp.gateway.management import with_bypass
        path = config.control_path if control is None else control
        trial = None
        if confirm_s is not None:
            trial = Trial(confirm_s, with_bypass(config, lockout), "" if lockout is None else lockout.kept)
        return int(run(config, path, trial, verbose=verbose, trace_ike=trace_ike, log_format=log_format, privileges=privileges))


@click.command(epilog=examples("ipsec-dp down", "ipsec-dp down --control /run/ipsec-dp/site-a.sock"))
@control_option
@json_option
def down(control: Path | None, as_json: bool) -> int:
    """Stop the running gateway.

    Interfaces, routes and keys go, the guard too unless keep_closed is set.
    """
    try:
        with patience("stopping: SAs are deleted at the peers, then everything is taken away"):
            result = ask(control, messages.DownRequest())
    except NoDaemonError as error:
        raise with_what_is_left(error, control) from error
    if as_json:
        show_json(result)
    else:
        say("stopped")
    return 0


@click.command(epilog=examples("ipsec-dp upgrade", "ipsec-dp upgrade --exec /opt/ipsec-dp-2/bin/ipsec-dp"))
@click.option("--exec", "program", type=FILE, metavar="PATH", help="Another program than the one that is installed.")
@control_option
@json_option
@click.option("--take-over", "descriptor", type=int, hidden=True)
def upgrade(program: Path | None, control: Path | None, as_json: bool, descriptor: int | None) -> int:
    """Let the installed program go on with the running gateway.

    For after an upgrade of the package: the gateway starts its successor and hands it interfaces, sockets, SAs and all it knows.
    Packets wait for that moment, and peers notice nothing. What fails before leaves the running process as it was; what fails then
    leaves the guard closed. Only root may ask.
    """
    if descriptor is not None:  # this is the successor
        return _take_over(descriptor)
    request = messages.UpgradeRequest(program=None if program is None else str(program.absolute()))
    with patience("starting the successor, which reads the configuration; then it takes over at once"):
        answer = ask(control, request, UPGRADE_TIMEOUT_S)
    if as_json:
        show_json(answer, 2)
        return 0
    done = read(answer, messages.UpgradeAnswer)
    carried = f"{counted(done.ike_sas, 'IKE SA')} and {counted(done.child_sas, 'CHILD_SA')} carried"
    say(f"gateway {done.gateway}: version {done.before} -> {done.version}, now process {done.process}: {carried}")
    for each in done.left_out:
        say(f"  negotiated anew{f', tunnel {each.tunnel}' if each.tunnel else ''}: {each.why}")
    say(f"nobody forwarded for {done.gap_ms:.1f} ms; it took {done.took_s:.1f} s in all")
    if done.changes is not None:
        say(f"the configuration file has changed ({done.changes}): it is taken over next; `ipsec-dp status` warns where that fails")
    return 0


@click.command(epilog=examples("ipsec-dp guard /etc/ipsec-dp/site-a.toml"))
@click.argument("file", type=FILE)
def guard(file: Path) -> int:
    """Close what FILE protects, and do nothing else.

    For the time between boot and `up`: guard, zones, unreachable routes and what bypasses them are made, and it ends. No tunnel, no
    IKE. Once more changes nothing; `up` adopts what is there. A secret that is missing or a certificate that has expired hinders
    `up`, and not this.
    """
    heed_interrupts()
    config = load_to_close(file)
    show_findings(config.warnings)
    with loading():
        from ipsec_dp.gateway.stopped import close
    log_to_stderr()
    say(f"gateway {config.name}: {asyncio.run(close(config)).text}")
    return 0


@click.command("open", epilog=examples("ipsec-dp open site-a", "ipsec-dp open site-a --yes-in-clear"))
@click.argument("name")
@click.option("--yes-in-clear", is_flag=True, help="Do not ask: what was protected may leave in clear.")
def open_(name: str, yes_in_clear: bool) -> int:
    """Let leave in clear what gateway NAME left closed.

    For a gateway that does not run and will not be started again, as after a crash: guard, zones, routes and rules of its name go.
    Where it can be started, `ipsec-dp up` is better: it goes on from there without a packet in clear.
    """
    with loading():
        from ipsec_dp.gateway.stopped import left, open_up
    found = asyncio.run(left(name))
    if not found and not found.unseen:
        say(f"gateway {name} left nothing here: nothing is closed in its name")
        return 0
    if found.unseen:
        helps = "" if privilege.has(privilege.NET_ADMIN) else "; run as root"
        raise ControlError(f"what gateway {name} left cannot be seen, and nothing was changed: {found.unseen}{helps}")
    _show_held(name, found.held, found.unlisted)
    if not yes_in_clear:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask at: add --yes-in-clear")
        if click.prompt("Type the gateway's name to let it leave in clear", default="", show_default=False, err=True) != name:
            raise ControlError("that is another name; nothing was changed")
    log_to_stderr()
    asyncio.run(open_up(name))
    return 0


def _show_held(name: str, held: Sequence[str], unlisted: str) -> None:
    """`unlisted`: why it is not known what the guard holds beside these."""
    dead = f"Gateway {name} does not run. What it left"
    if unlisted:
        say(f"{dead} is a guard too; to which prefixes cannot be listed: {unlisted}", err=True)
    if not held:
        if unlisted:
            return
        say(f"{dead} are zones or routing rules, which hold no prefix by themselves.", err=True)
        return
    say(f"{dead} keeps traffic to these prefixes from leaving in clear:", err=True)
    for prefix in held[:PREFIXES_SHOWN]:
        say(f"  {prefix}", err=True)
    if len(held) > PREFIXES_SHOWN:
        say(f"  and {len(held) - PREFIXES_SHOWN} more", err=True)
    say("`ipsec-dp up FILE` protects them again, without a packet in clear.", err=True)


@click.command(
    epilog=examples("ipsec-dp check /etc/ipsec-dp/site-a.toml", "ipsec-dp check site-a.toml --json | jq -r '.findings[].key'")
)
@click.argument("file", type=FILE)
@json_option
def check(file: Path, as_json: bool) -> int:
    """Say everything that is wrong with FILE.

    One line each: tunnel, key, what is wrong, what would be right. Files that it names are looked at too: missing, readable by
    others, not a key; and whether somebody else's interface has a name that it uses. Exit status 2 when anything is wrong; warnings
    alone leave it 0.
    """
    with patience(f"reading {file}"):
        config, findings = examine(file)
    findings = findings if config is None else located((*findings, *names_in_use(config)), file)
    lockout = None if config is None else _look(config)
    if as_json:
        findings += () if lockout is None else located((lockout.finding(str(file)),), file)
        rows = [{name: getattr(finding, name) for name in Finding.__slots__} for finding in findings]
        show_json({"schema": 1, "file": str(file), "ok": config is not None, "findings": rows}, 2)
    else:
        show_findings(findings)
        _show_lockout(lockout, file)
        if config is not None:
            tunnels, policies, routes = len(config.tunnels), len(config.policies), len(config.routes)
            say(f"{file}: good: {counted(tunnels, 'tunnel')}, {counted(policies, 'policy')}, {counted(routes, 'route')}")
            if (line := line_of(config)) is not None:
                say(line)
            for line in firewalls(config.tunnels).values():
                say(line)
    return 2 if config is None else 0


@click.command(
    epilog=examples("ipsec-dp reload", "ipsec-dp reload /etc/ipsec-dp/new.toml --dry-run", "ipsec-dp reload --json | jq .changed")
)
@click.argument("file", type=FILE, required=False)
@control_option
@confirm_option("The former configuration comes back after TIME unless `ipsec-dp confirm` comes before.")
@click.option("--dry-run", is_flag=True, help="Say what would change for which tunnel, and change nothing.")
@json_option
def reload(file: Path | None, control: Path | None, confirm_s: int | None, dry_run: bool, as_json: bool) -> int:
    """Take what changed in the configuration over, and nothing else.

    FILE: another file than the one taken over last. Tunnels that nothing changes for lose no packet. Secrets, certificates and CRLs
    are read again too. A file with an error changes nothing: it is shown as `check` does, exit status 2.
    """
    if dry_run:
        if confirm_s is not None:
            raise click.UsageError("--dry-run changes nothing, so there is nothing to --confirm: take one of both")
        return _preview(file, control, as_json)
    request = messages.ReloadRequest(file=None if file is None else str(file.absolute()), confirm_s=confirm_s)
    outcome, confirms = _reload(control, request, as_json)
    if confirm_s is not None and outcome.applied and not confirms:
        raise ControlError("this gateway knows no --confirm: the configuration is taken over, and does not go back by itself")
    return 0 if outcome.applied else 2


def _take_over(descriptor: int) -> int:
    heed_interrupts(signal.SIG_DFL)
    with loading():
        from ipsec_dp.gateway.upgrade.entry import run
    return run(descriptor)


def _preview(file: Path | None, control: Path | None, as_json: bool) -> int:
    request = messages.PreviewRequest(file=None if file is None else str(file.absolute()))
    return 0 if _reload(control, request, as_json)[0].dry_run else 2


def _reload(
    control: Path | None, request: messages.ReloadRequest | messages.PreviewRequest, as_json: bool
) -> tuple[messages.ReloadAnswer, bool]:
    """Asks, and shows what was done, or would be; whether it goes back unless it is confirmed."""
    with patience("reloading" if isinstance(request, messages.ReloadRequest) else "comparing"):
        answer = ask(control, request, RELOAD_TIMEOUT_S)
    outcome = read(answer, messages.ReloadAnswer)
    if as_json:
        show_json(answer, 2)
        return outcome, "confirm_within_s" in answer
    show_findings(outcome.findings)
    if outcome.applied or outcome.dry_run:
        result = read(answer, messages.ReloadResult)
        render.print_reload(result)
        if result.confirm_within_s is not msgspec.UNSET:
            say(f"`ipsec-dp confirm` within {result.confirm_within_s:g} s keeps it; else the former configuration comes back")
    return outcome, "confirm_within_s" in answer


@click.command(epilog=examples("ipsec-dp confirm", "ipsec-dp confirm site-a"))
@click.argument("name", required=False)
@control_option
@json_option
def confirm(name: str | None, control: Path | None, as_json: bool) -> int:
    """Keep what `up --confirm` or `reload --confirm` did.

    NAME: the gateway, when it is not this host's only one. Come from where you administer this host: it shows that you still reach
    it.
    """
    path = control_socket(name) if control is None and name is not None else control
    answer = ask(path, messages.ConfirmRequest(name=name))
    if as_json:
        show_json(answer)
    else:
        say(f"{read(answer, messages.ConfirmAnswer).confirmed} is kept")
    return 0


def _look(config: Config) -> Lockout | None:
    """Whether the configuration takes the way by which we administer this host."""
    with loading():
        from ipsec_dp.gateway.management import look
    return asyncio.run(look(config))


def _show_lockout(lockout: Lockout | None, file: Path) -> None:
    if lockout is not None:
        show_findings(located((lockout.finding(str(file)),), file))
        click.echo(lockout.toml, err=True, nl=False)


def counted(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
