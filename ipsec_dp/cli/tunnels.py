"""The verbs about a running gateway's tunnels: what they do, what decides about a packet, and their negotiation."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ipsec_dp.cli import following, monitoring, render
from ipsec_dp.cli.asking import ask, read, with_what_is_left
from ipsec_dp.cli.completion import tunnel_names
from ipsec_dp.cli.options import (
    FILE,
    IntervalType,
    control_option,
    examples,
    interval_of,
    json_option,
    loading,
    say,
    show_json,
    timeout_option,
    wait_option,
)
from ipsec_dp.cli.patience import patience
from ipsec_dp.cli.waiting import Outcome, Wait
from ipsec_dp.config import load
from ipsec_dp.errors import ControlError, IpsecDpError, NoDaemonError
from ipsec_dp.gateway import messages
from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus
from ipsec_dp.util.text import shown_all

if TYPE_CHECKING:
    from ipsec_dp.gateway.messages import NegotiationRequest

WATCH_INTERVAL_S = 1.0
WATCHED = "--watch"  # what it says without seconds; no tunnel is called so
STATES = tuple(render.STATE_STYLES)


@click.command(
    epilog=examples(
        "ipsec-dp status",
        "ipsec-dp status to-b",
        "ipsec-dp status --state failed",
        "ipsec-dp status --watch 5",
        "ipsec-dp status --follow to-b                          what happens to it, a line an event",
        "ipsec-dp status --check to-b                           for monitoring",
        "ipsec-dp status --json | jq '.tunnels[].state'",
    )
)
@click.argument("name", required=False, shell_complete=tunnel_names)
@control_option
@click.option("--state", type=click.Choice(STATES), help="Only the tunnels in this state.")
@json_option
@click.option(
    "--watch", is_flag=False, flag_value=WATCHED, metavar="[SECONDS]", help="Show it again each second, or so often, until Ctrl-C."
)
@click.option("--follow", is_flag=True, help="Say what happens from now on, an event a line, until Ctrl-C (exit status 0).")
@click.option("--check", is_flag=True, help="For monitoring: one line, and exit status 0 OK, 1 warning, 2 critical, 3 unknown.")
def status(
    name: str | None, control: Path | None, state: str | None, as_json: bool, watch: str | None, follow: bool, check: bool
) -> int:
    """Show tunnels, their SAs, what was dropped and why.

    NAME: this tunnel alone. What was dropped is always that of the whole gateway. --follow ends with exit status 3 when the gateway
    stops.
    """
    name, interval_s = _watched(name, watch)
    if follow:
        if watch is not None or check or state is not None:
            raise click.UsageError("--follow tells what happens: it takes none of --watch, --check and --state")
        return following.follow(control, messages.FollowRequest(name=name), as_json=as_json)
    request = messages.StatusRequest(name=name, state=state)
    if check:
        if watch is not None or as_json or state is not None:
            raise click.UsageError("--check is for monitoring: it takes none of --watch, --json and --state")
        return _check(control, request)
    if watch is not None and as_json:
        raise click.UsageError("--watch is for people, --json for programs: take one of both, or --follow --json")
    if watch is not None:
        render.watch(lambda: read(ask(control, request), GatewayStatus), time.sleep, interval_s)
        return 0
    try:
        answer = ask(control, request)
    except NoDaemonError as error:
        raise with_what_is_left(error, control) from error
    if as_json:
        show_json(answer, 2)
    else:
        render.print_status(read(answer, GatewayStatus))
    return 0


def _watched(name: str | None, watch: str | None) -> tuple[str | None, float]:
    """The tunnel that is meant, and the seconds between two looks: what stands after --watch may be either."""
    if watch is None or watch == WATCHED:
        return name, WATCH_INTERVAL_S
    if name is None and interval_of(watch) is None:
        return watch, WATCH_INTERVAL_S
    return name, IntervalType().convert(watch, None, None)


def _check(control: Path | None, request: messages.StatusRequest) -> int:
    """Whatever hinders the question is UNKNOWN, on standard output: that is where a monitor looks."""
    try:
        level, text = monitoring.check(read(ask(control, request), GatewayStatus))
    except IpsecDpError as error:
        said = with_what_is_left(error, control) if isinstance(error, NoDaemonError) else error
        level = monitoring.Level.UNKNOWN
        text = monitoring.line(level, str(said))
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


def _tunnel(control: Path | None, name: str) -> TunnelStatus:
    """How it is now. ControlError where a reload has taken it away."""
    tunnels = read(ask(control, messages.StatusRequest(name=name)), GatewayStatus).tunnels
    if not tunnels:
        raise ControlError(f'no tunnel "{name}" any more')
    return tunnels[0]


def _begin_wait(control: Path | None, request: NegotiationRequest, limit_s: int) -> Wait:
    """Asks the gateway, and is ready to wait for what comes of it."""
    before = _tunnel(control, request.name)
    ask(control, request)
    return Wait(before, lambda: _tunnel(control, request.name), limit_s=limit_s, now=time.monotonic, sleep=time.sleep)


def _show_outcome(verb: str, outcome: Outcome, as_json: bool, done: str) -> int:
    """`done`: how it is called where it is."""
    tunnel = outcome.tunnel
    if as_json:
        found = {"state": tunnel.state, "state_text": tunnel.state_text, "last_error": tunnel.last_error}
        show_json({"tunnel": tunnel.name, "verb": verb, "done": outcome.done, "waited_s": round(outcome.waited_s, 1), **found})
    else:
        say(f"{tunnel.name}: {done if outcome.done else outcome.why}", err=not outcome.done)
    return 0 if outcome.done else 1


@click.command(epilog=examples("ipsec-dp initiate to-b", "ipsec-dp initiate to-b --wait --timeout 20s && ping 10.2.0.1"))
@click.argument("name", shell_complete=tunnel_names)
@wait_option
@timeout_option
@control_option
@json_option
def initiate(name: str, wait: bool, limit_s: int, control: Path | None, as_json: bool) -> int:
    """Negotiate tunnel NAME now.

    It returns at once; `status` and the gateway's log show what comes of it. With --wait it returns when the tunnel is up, or with
    exit status 1 and the reason when the attempt failed or took too long.
    """
    request = messages.InitiateRequest(name=name)
    if wait:
        with patience(f"waiting for {name} to be up"):
            outcome = _begin_wait(control, request, limit_s).until_up()
        return _show_outcome("initiate", outcome, as_json, "up")
    return _negotiate(control, as_json, f"{name}: calling", request)


@click.command(epilog=examples("ipsec-dp rekey to-b", "ipsec-dp rekey to-b --ike"))
@click.argument("name", shell_complete=tunnel_names)
@click.option("--ike", is_flag=True, help="Replace the IKE SA instead of its CHILD_SAs.")
@control_option
@json_option
def rekey(name: str, ike: bool, control: Path | None, as_json: bool) -> int:
    """Replace the keys of tunnel NAME now.

    Without losing a packet: the new SAs carry traffic before the old ones go.
    """
    return _negotiate(control, as_json, f"{name}: rekeying", messages.RekeyRequest(name=name, ike=ike))


@click.command(epilog=examples("ipsec-dp terminate to-b", "ipsec-dp terminate to-b --wait"))
@click.argument("name", shell_complete=tunnel_names)
@wait_option
@timeout_option
@control_option
@json_option
def terminate(name: str, wait: bool, limit_s: int, control: Path | None, as_json: bool) -> int:
    """Delete the SAs of tunnel NAME, here and at the peer.

    Its traffic stays protected: it waits, or is dropped, until the tunnel is up again. With --wait it returns when the SAs are
    gone; where traffic or the peer calls, others may have come by then.
    """
    request = messages.TerminateRequest(name=name)
    if wait:
        with patience(f"waiting for the SAs of {name} to be gone"):
            outcome = _begin_wait(control, request, limit_s).until_gone()
        return _show_outcome("terminate", outcome, as_json, "its SAs are gone")
    return _negotiate(control, as_json, f"{name}: terminated", request)


@click.command(epilog=examples("ipsec-dp unpin to-b"))
@click.argument("name", shell_complete=tunnel_names)
@control_option
@json_option
def unpin(name: str, control: Path | None, as_json: bool) -> int:
    """Let tunnel NAME fall to IKEv1 again.

    For a tunnel with version = "2-preferred" whose peer has authenticated with IKEv2 and now, known to you, speaks IKEv1 alone.
    Nothing of the tunnel ends; the next time that its peer authenticates with IKEv2 it stays with that again.
    """
    text = f"{name}: IKEv1 may be spoken where the peer does not answer IKEv2, until it has authenticated with IKEv2 again"
    return _negotiate(control, as_json, text, messages.UnpinRequest(name=name))


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
