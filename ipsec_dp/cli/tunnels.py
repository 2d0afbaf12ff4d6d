"""The verbs about a running gateway's tunnels: what they do, what decides about a packet, and their negotiation."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ipsec_dp.cli import monitoring, render
from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.options import FILE, control_option, examples, json_option, loading, say, show_json
from ipsec_dp.config import load
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway import messages
from ipsec_dp.gateway.status import GatewayStatus
from ipsec_dp.util.text import shown_all

if TYPE_CHECKING:
    from ipsec_dp.gateway.messages import NegotiationRequest

WATCH_INTERVAL_S = 1.0
STATES = tuple(render.STATE_STYLES)


@click.command(
    epilog=examples(
        "ipsec-dp status",
        "ipsec-dp status to-b",
        "ipsec-dp status --state failed",
        "ipsec-dp status --watch",
        "ipsec-dp status --check to-b                           for monitoring",
        "ipsec-dp status --json | jq '.tunnels[].state'",
    )
)
@click.argument("name", required=False)
@control_option
@click.option("--state", type=click.Choice(STATES), help="Only the tunnels in this state.")
@json_option
@click.option("--watch", is_flag=True, help="Show it again each second, until Ctrl-C.")
@click.option("--check", is_flag=True, help="For monitoring: one line, and exit status 0 OK, 1 warning, 2 critical, 3 unknown.")
def status(name: str | None, control: Path | None, state: str | None, as_json: bool, watch: bool, check: bool) -> int:
    """Show tunnels, their SAs, what was dropped and why.

    NAME: this tunnel alone. What was dropped is always that of the whole gateway.
    """
    request = messages.StatusRequest(name=name, state=state)
    if check:
        if watch or as_json or state is not None:
            raise click.UsageError("--check is for monitoring: it takes none of --watch, --json and --state")
        return _check(control, request)
    if watch and as_json:
        raise click.UsageError("--watch is for people, --json for programs: take one of both")
    if watch:
        render.watch(lambda: read(ask(control, request), GatewayStatus), time.sleep, WATCH_INTERVAL_S)
        return 0
    answer = ask(control, request)
    if as_json:
        show_json(answer, 2)
    else:
        render.print_status(read(answer, GatewayStatus))
    return 0


def _check(control: Path | None, request: messages.StatusRequest) -> int:
    """Whatever hinders the question is UNKNOWN, on standard output: that is where a monitor looks."""
    try:
        level, text = monitoring.check(read(ask(control, request), GatewayStatus))
    except IpsecDpError as error:
        level = monitoring.Level.UNKNOWN
        text = monitoring.line(level, str(error))
    say(text)
    return int(level)


def _negotiate(control: Path | None, as_json: bool, text: str, request: NegotiationRequest) -> int:
    """Asks the gateway; what comes of it shows in its log and in `status`."""
    result = ask(control, request)
    if as_json:
        show_json(result)
    else:
        say(text)
    return 0


@click.command(epilog=examples("ipsec-dp initiate to-b", "ipsec-dp initiate to-b && ipsec-dp status --watch"))
@click.argument("name")
@control_option
@json_option
def initiate(name: str, control: Path | None, as_json: bool) -> int:
    """Negotiate tunnel NAME now.

    It returns at once; `status` and the gateway's log show what comes of it.
    """
    return _negotiate(control, as_json, f"{name}: calling", messages.InitiateRequest(name=name))


@click.command(epilog=examples("ipsec-dp rekey to-b", "ipsec-dp rekey to-b --ike"))
@click.argument("name")
@click.option("--ike", is_flag=True, help="Replace the IKE SA instead of its CHILD_SAs.")
@control_option
@json_option
def rekey(name: str, ike: bool, control: Path | None, as_json: bool) -> int:
    """Replace the keys of tunnel NAME now.

    Without losing a packet: the new SAs carry traffic before the old ones go.
    """
    return _negotiate(control, as_json, f"{name}: rekeying", messages.RekeyRequest(name=name, ike=ike))


@click.command(epilog=examples("ipsec-dp terminate to-b"))
@click.argument("name")
@control_option
@json_option
def terminate(name: str, control: Path | None, as_json: bool) -> int:
    """Delete the SAs of tunnel NAME, here and at the peer.

    Its traffic stays protected: it waits, or is dropped, until the tunnel is up again.
    """
    return _negotiate(control, as_json, f"{name}: terminated", messages.TerminateRequest(name=name))


@click.group()
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
    with loading():
        from ipsec_dp.gateway.explain import explain
        from ipsec_dp.gateway.explanation import ExplainAnswer
        from ipsec_dp.gateway.question import question_of
    question = question_of(src, dst, proto, sport, dport, inbound=inbound, iif=iif)
    if file is not None:
        answer = shown_all(msgspec.to_builtins(asyncio.run(explain(load(file), question, None)).answer))
    else:
        packet = messages.ExplainRequest(
            source=src, destination=dst, protocol=proto, sport=sport, dport=dport, inbound=inbound, iif=iif
        )
        answer = ask(control, packet)
    if as_json:
        show_json(answer, 2)
    else:
        render.print_explanation(read(answer, ExplainAnswer))
    return 0
