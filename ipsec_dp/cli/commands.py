"""The verbs: their arguments, help and examples. Each function checks what it was given and calls the one that does the work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from ipsec_dp import __version__
from ipsec_dp.cli import render
from ipsec_dp.config import examine, load
from ipsec_dp.config.model import CONTROL_DIRECTORY, control_socket
from ipsec_dp.errors import ControlError, Finding, IpsecDpError, NoDaemonError
from ipsec_dp.gateway import messages
from ipsec_dp.gateway.status import GatewayStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.gateway.messages import ControlRequest, NegotiationRequest

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILE = click.Path(path_type=Path)
WATCH_INTERVAL_S = 1.0
STATES = tuple(render.STATE_STYLES)
RELOAD_TIMEOUT_S = 600.0  # ten thousand tunnels are read in seconds, several reloads wait for each other

control_option = click.option(
    "--control", type=FILE, metavar="PATH", help="The gateway's control socket, when it is not this host's only one."
)
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=5202, show_default=True, help="TCP and UDP port of the server."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def examples(*lines: str) -> str:
    """What `--help` ends with."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


Answered = TypeVar("Answered", bound=msgspec.Struct)


class VerbGroup(click.Group):
    """Lists the verbs in the order in which one meets them, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "ipsec-dp demo                        see it work, in namespaces of its own",
        "ipsec-dp doctor                      what this host lacks, and what to do",
        "ipsec-dp check conf/manual-a.toml    is this file right?",
        "ipsec-dp up conf/manual-a.toml       bring its tunnels up and keep them up",
        "ipsec-dp status --watch              what they do, each second",
    )
    + "\n\n\b\nExit status: 0 done; 1 failed; 2 usage or configuration; 3 no daemon.",
)
def program() -> None:
    """Userspace IPsec for Linux: ESP tunnels between networks, to any standards-compliant peer."""


# ---- a gateway's life ------------------------------------------------------------------------------------------------------------


@program.command(
    epilog=examples("ipsec-dp up /etc/ipsec-dp/site-a.toml", "ipsec-dp up conf/manual-a.toml --control /tmp/site-a.sock")
)
@click.argument("file", type=FILE)
@control_option
def up(file: Path, control: Path | None) -> int:
    """Bring FILE's tunnels up and keep them up.

    It runs in the foreground until SIGTERM, Ctrl-C or `ipsec-dp down`, and then takes everything away again. After a crash a guard
    stays that lets no protected traffic out in clear; the next `up` adopts it.
    """
    _heed_interrupts()
    config = load(file)
    _show_findings(config.warnings)
    with _loading():
        from ipsec_dp.gateway.daemon import run
    return int(run(config, config.control_path if control is None else control))


@program.command(epilog=examples("ipsec-dp down", "ipsec-dp down --control /run/ipsec-dp/site-a.sock"))
@control_option
@json_option
def down(control: Path | None, as_json: bool) -> int:
    """Stop the running gateway.

    Interfaces, routes and keys go, the guard too unless keep_closed is set.
    """
    result = ask(control, messages.DownRequest())
    click.echo(json.dumps(result) if as_json else "stopped")
    return 0


@program.command(
    epilog=examples(
        "ipsec-dp status",
        "ipsec-dp status to-b",
        "ipsec-dp status --state failed",
        "ipsec-dp status --watch",
        "ipsec-dp status --json | jq '.tunnels[].state'",
    )
)
@click.argument("name", required=False)
@control_option
@click.option("--state", type=click.Choice(STATES), help="Only the tunnels in this state.")
@json_option
@click.option("--watch", is_flag=True, help="Show it again each second, until Ctrl-C.")
def status(name: str | None, control: Path | None, state: str | None, as_json: bool, watch: bool) -> int:
    """Show tunnels, their SAs, what was dropped and why.

    NAME: this tunnel alone. What was dropped is always that of the whole gateway.
    """
    request = messages.StatusRequest(name=name, state=state)
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs: take one of both")
    if watch:
        render.watch(lambda: read(ask(control, request), GatewayStatus), time.sleep, WATCH_INTERVAL_S)
        return 0
    answer = ask(control, request)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        render.print_status(read(answer, GatewayStatus))
    return 0


@program.command(
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
        _show_findings(findings)
        if config is not None:
            tunnels, policies, routes = len(config.tunnels), len(config.policies), len(config.routes)
            click.echo(f"{file}: good: {_count(tunnels, 'tunnel')}, {_count(policies, 'policy')}, {_count(routes, 'route')}")
    return 2 if config is None else 0


# ---- a tunnel's negotiation ----------------------------------------------------------------------------------------------------


def _negotiate(control: Path | None, as_json: bool, text: str, request: NegotiationRequest) -> int:
    """Asks the gateway; what comes of it shows in its log and in `status`."""
    result = ask(control, request)
    click.echo(json.dumps(result) if as_json else text)
    return 0


@program.command(
    epilog=examples("ipsec-dp reload", "ipsec-dp reload /etc/ipsec-dp/new.toml", "ipsec-dp reload --json | jq .changed")
)
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
        _show_findings(outcome.findings)
        if outcome.applied:
            render.print_reload(read(answer, messages.ReloadResult))
    return 0 if outcome.applied else 2


@program.command(epilog=examples("ipsec-dp initiate to-b", "ipsec-dp initiate to-b && ipsec-dp status --watch"))
@click.argument("name")
@control_option
@json_option
def initiate(name: str, control: Path | None, as_json: bool) -> int:
    """Negotiate tunnel NAME now.

    It returns at once; `status` and the gateway's log show what comes of it.
    """
    return _negotiate(control, as_json, f"{name}: calling", messages.InitiateRequest(name=name))


@program.command(epilog=examples("ipsec-dp rekey to-b", "ipsec-dp rekey to-b --ike"))
@click.argument("name")
@click.option("--ike", is_flag=True, help="Replace the IKE SA instead of its CHILD_SAs.")
@control_option
@json_option
def rekey(name: str, ike: bool, control: Path | None, as_json: bool) -> int:
    """Replace the keys of tunnel NAME now.

    Without losing a packet: the new SAs carry traffic before the old ones go.
    """
    return _negotiate(control, as_json, f"{name}: rekeying", messages.RekeyRequest(name=name, ike=ike))


@program.command(epilog=examples("ipsec-dp terminate to-b"))
@click.argument("name")
@control_option
@json_option
def terminate(name: str, control: Path | None, as_json: bool) -> int:
    """Delete the SAs of tunnel NAME, here and at the peer.

    Its traffic stays protected: it waits, or is dropped, until the tunnel is up again.
    """
    return _negotiate(control, as_json, f"{name}: terminated", messages.TerminateRequest(name=name))


@program.group()
def policy() -> None:
    """Ask the policy database."""


@policy.command(
    epilog=examples(
        "ipsec-dp policy explain 10.1.0.5 10.2.0.9 tcp 40000 443",
        "ipsec-dp policy explain 10.1.0.5 10.2.0.9 icmp 8 0          type and code",
        "ipsec-dp policy explain 10.2.0.9 10.1.0.5 tcp 443 40000 --inbound",
        "ipsec-dp policy explain 10.1.0.5 10.2.0.9 --file site-a.toml    no gateway needed",
    )
)
@click.argument("src")
@click.argument("dst")
@click.argument("proto", required=False)
@click.argument("sport", required=False)
@click.argument("dport", required=False)
@click.option("--inbound", is_flag=True, help="The packet comes from a peer's side: SRC is remote, DST is local.")
@click.option("--iif", metavar="INTERFACE", help="By which another host's packet comes; found out if it is left out.")
@click.option("--file", type=FILE, metavar="FILE", help="Ask a configuration instead of the running gateway.")
@control_option
@json_option
def explain(
    src: str,
    dst: str,
    proto: str | None,
    sport: str | None,
    dport: str | None,
    inbound: bool,
    iif: str | None,
    file: Path | None,
    control: Path | None,
    as_json: bool,
) -> int:
    """Say what decides about a packet, and why.

    Which route it takes (the kernel is asked), which rule holds it first, which SA carries it, what the guard does with it outside
    the tunnel, and which chains of the host's own filter may drop it.
    Without PROTO or ports it is a packet that does not show them, as a later fragment.
    """
    with _loading():
        from ipsec_dp.gateway.explain import explain
        from ipsec_dp.gateway.explanation import ExplainAnswer
        from ipsec_dp.gateway.question import question_of
    question = question_of(src, dst, proto, sport, dport, inbound=inbound, iif=iif)
    if file is not None:
        answer = msgspec.to_builtins(asyncio.run(explain(load(file), question, None)).answer)
    else:
        packet = messages.ExplainRequest(
            source=src, destination=dst, protocol=proto, sport=sport, dport=dport, inbound=inbound, iif=iif
        )
        answer = ask(control, packet)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        render.print_explanation(read(answer, ExplainAnswer))
    return 0


# ---- this host and this program --------------------------------------------------------------------------------------------------


@program.command(epilog=examples("ipsec-dp doctor", "sudo ipsec-dp doctor --json"))
@json_option
def doctor(as_json: bool) -> int:
    """Say what is missing on this host, and what to do.

    It looks at TUN, capabilities, offloads, CPU features, memlock and ports, and changes nothing.
    """
    with _loading():
        from ipsec_dp.cli.doctor import run
    return int(run(json=as_json))


@program.command(epilog=examples("sudo ipsec-dp demo", "sudo ipsec-dp demo --output /tmp/demo --json"))
@click.option("--output", type=FILE, default=Path("build/demo"), show_default=True, help="Directory for captures and the report.")
@json_option
def demo(output: Path, as_json: bool) -> int:
    """Move real traffic through ESP, and report (needs root).

    Two hosts and two gateways in network namespaces of their own: ping, a file, iperf3, captures inside and outside.
    """
    _heed_interrupts()
    with _loading():
        from ipsec_dp.cli.demo import run
    return int(run(output=output, json=as_json))


@program.group(
    invoke_without_command=True,
    epilog=examples(
        "ipsec-dp bench --json                    how fast this machine seals and opens ESP",
        "ipsec-dp bench server                    on the far machine; then on the near one:",
        "ipsec-dp bench client 10.2.0.1           what the path to it carries",
    ),
)
@json_option
@click.pass_context
def bench(ctx: click.Context, as_json: bool) -> int:
    """Measure: ESP on this machine, or a path with its two ends."""
    if ctx.invoked_subcommand:
        return 0
    with _loading():
        from ipsec_dp.bench.esp import run
    return int(run(json=as_json))


@bench.command("server", epilog=examples("ipsec-dp bench server --bind 10.2.0.1"))
@click.option("--bind", default="", metavar="ADDRESS", help="Listen at this address only, for example one inside the tunnel.")
@port_option
def bench_server(bind: str, port: int) -> int:
    """The far end of a path: takes what clients send until Ctrl-C.

    Whoever can connect may send: let it run only while you measure.
    """
    with _loading():
        from ipsec_dp.bench.server import run
    return int(run(bind, port))


@bench.command("client", epilog=examples("ipsec-dp bench client 10.2.0.1", "ipsec-dp bench client 10.2.0.1 --measure tcp_1 --json"))
@click.argument("host")
@click.option("--measure", "names", multiple=True, metavar="NAME", help="Only this, as the answer names it; may be repeated.")
@port_option
@json_option
def bench_client(host: str, names: tuple[str, ...], port: int, as_json: bool) -> int:
    """Measure the path to a bench server at HOST.

    TCP streams, loss-free UDP rates, round trips, CPU time: what the project's tunnel benchmark measures. About two minutes.
    """
    with _loading():
        from ipsec_dp.bench.client import MEASURED, run
    if unknown := set(names) - set(MEASURED):
        raise click.UsageError(f"no measure {', '.join(sorted(unknown))}; there are {', '.join(MEASURED)}")
    return int(run(host, port, names, json=as_json))


@program.command(epilog=examples("ipsec-dp version"))
@json_option
def version(as_json: bool) -> int:
    """Print the version."""
    if as_json:
        click.echo(json.dumps({"version": __version__, "python": platform.python_version(), "machine": platform.machine()}))
    else:
        click.echo(f"ipsec-dp {__version__} (Python {platform.python_version()}, {platform.machine()})")
    return 0


# ---- what several verbs need -----------------------------------------------------------------------------------------------------


def _heed_interrupts() -> None:
    """Lets SIGINT end this process as Ctrl-C does: a shell that starts it in the background has it inherit SIGINT as ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _show_findings(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        click.echo(str(finding), err=True)


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Around the import of what one verb alone needs: made then, so that the others start quickly and without its libraries."""
    try:
        yield
    except ImportError as error:
        raise IpsecDpError(f"{error.name} cannot be loaded: {error}; run `make setup`, or install the package anew") from error


def find_control(directory: Path = CONTROL_DIRECTORY, host: str | None = None) -> Path:
    """The control socket when none was named: that of the host's own name, else the only one. Raises NoDaemonError, UsageError."""
    own = directory / control_socket(platform.node() if host is None else host).name
    sockets = sorted(path for path in directory.glob("*.sock") if path.is_socket())
    if own in sockets:
        return own
    if len(sockets) > 1:
        raise click.UsageError(f"several gateways run here; add --control with one of {', '.join(map(str, sockets))}")
    if not sockets:
        raise NoDaemonError(f"no gateway runs here: {directory} holds no control socket; start one with: ipsec-dp up FILE")
    return sockets[0]


def ask(control: Path | None, request: ControlRequest, timeout: float | None = None) -> dict[str, object]:
    """What the running gateway answers, with all that it says, for programs; `read` is for people. Raises NoDaemonError,
    ControlError."""
    path = find_control() if control is None else control
    limit = {} if timeout is None else {"timeout": timeout}
    with _loading():
        from ipsec_dp.gateway.control import request as send
    message = {name: value for name, value in msgspec.to_builtins(request).items() if value is not None}
    answer = send(path, message, **limit)
    if answer is not None and not isinstance(answer, dict):
        raise ControlError(f"{path}: the answer to {message['verb']} is not an object")
    return answer or {}


def read(answer: dict[str, object], kind: type[Answered]) -> Answered:
    """The answer as this version knows it; what a newer gateway says besides is left out. Raises ControlError."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ControlError(f"the gateway's answer is not of a version that this command knows: {error}") from error
