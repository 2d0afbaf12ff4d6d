"""`python -m ipsec_dp.rig.conformance HOST --psk-file FILE`: runs the cases against a gateway and writes a report."""

from __future__ import annotations

import fnmatch
import ipaddress
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.rig.conformance.calls import CallKit
from ipsec_dp.rig.conformance.kit import EchoEnds, Kit, RequirementLevel
from ipsec_dp.rig.conformance.report import FORMATS
from ipsec_dp.rig.conformance.run import all_passed, run_cases
from ipsec_dp.rig.conformance.table import CALLS, CASES
from ipsec_dp.rig.odd_parts import Agreed
from ipsec_dp.rig.odd_wire import UdpWire, UnreachableError
from ipsec_dp.util.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.rig.conformance.kit import ConformanceCase
    from ipsec_dp.rig.conformance.run import Verdict

IKE: Final = "aes128gcm16-prfsha256-ecp256"
ESP: Final = "aes128gcm16"
FAILED, UNUSABLE = 1, 2
WIDTH: Final = 80  # columns of the list of cases
ANY_PORTS: Final = (0, 0)


class _Usage(click.UsageError):
    """Cause and remedy in one line."""


def _wanted(cases: Sequence[ConformanceCase], patterns: tuple[str, ...], level: str) -> list[ConformanceCase]:
    found = [
        case
        for case in cases
        if (level == "all" or case.level is RequirementLevel.MUST)
        and (not patterns or any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns))
    ]
    if not found:
        raise _Usage(f"no case is named {' or '.join(patterns)}; --list shows their names")
    return found


def _selectors(texts: tuple[str, ...], option: str) -> tuple[TrafficSelector, ...]:
    try:
        return tuple(TrafficSelector.from_prefix(text) for text in texts)
    except ValueError as error:
        raise _Usage(f"{option}: {error}; write a prefix such as 10.1.0.0/24") from None


def _echo(destination: str | None, source: str | None, local: tuple[TrafficSelector, ...]) -> EchoEnds | None:
    if destination is None:
        return None
    try:
        to = ipaddress.ip_address(destination)
        first = next((each for each in local if each.version == to.version), None)
        if source is None and first is None:
            raise _Usage(f"--echo {destination}: no --local-ts is of its IP version; add one")
        default = 0 if first is None else min(first.start + 1, first.end)
        origin = ipaddress.ip_address(source) if source is not None else type(to)(default)
    except ValueError as error:
        raise _Usage(f"--echo: {error}; write an address behind the gateway that answers echo requests") from None
    if origin.version != to.version:
        raise _Usage("--echo and --echo-from are of different IP versions; write both of one")
    return EchoEnds(origin, to)


def _calling(command: str | None) -> Callable[[], None]:
    """Has the gateway call by that command, which nobody waits for: it may end only when the call has."""

    def call() -> None:
        if command is not None:
            subprocess.Popen(  # noqa: S602 - a command line of the person who runs this
                command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    return call


@click.command(help="Runs conformance cases against the gateway HOST, which must be your own and expect us as its peer.")
@click.argument("host", required=False)
@click.option("--psk-file", type=click.Path(path_type=Path), help="The pre-shared key, as `psk_file` has it.")
@click.option("--id", "local_id", default="conformance.example", show_default=True, help="Who we are.")
@click.option("--peer-id", help="Who the gateway is; anybody by default.")
@click.option("--local-ts", multiple=True, default=("10.1.0.0/24",), show_default=True, help="Our side of the CHILD_SA.")
@click.option("--remote-ts", multiple=True, default=("10.2.0.0/24",), show_default=True, help="The gateway's side.")
@click.option("--proposal", "ike", multiple=True, default=(IKE,), show_default=True, help="Of the IKE SA.")
@click.option("--esp-proposal", "esp", multiple=True, default=(ESP,), show_default=True, help="Of the CHILD_SA.")
@click.option("--echo", help="An address behind the gateway that answers echo requests; cases of ESP need one.")
@click.option("--echo-from", help="Whom they come from; by default the second address of --local-ts.")
@click.option("--port", "ports", nargs=2, type=int, default=(500, 4500), show_default=True, help="Of the gateway.")
@click.option("--source-port", "source", nargs=2, type=int, default=(0, 0), help="Of ours; 0 0 is any.", show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0.1, 50), default=5.0, show_default=True, help="Datagrams a second that prove nothing."
)
@click.option("--case", "patterns", multiple=True, help="Only cases whose name fits a pattern such as init-*.")
@click.option("--level", type=click.Choice(["all", "must"]), default="all", show_default=True, help="Which cases.")
@click.option("--format", "kind", type=click.Choice(list(FORMATS)), default="text", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where the report goes; standard output by default."
)
@click.option("--responder", is_flag=True, help="The gateway calls us: cases of an initiator, from ports 500 and 4500 of ours.")
@click.option("--call", help="With --responder: a command that has the gateway call; without, it calls by itself.")
@click.option("--wait", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Seconds until it has called.")
@click.option("--list", "listing", is_flag=True, help="Shows the cases and ends.")
def main(
    host: str | None,
    psk_file: Path | None,
    local_id: str,
    peer_id: str | None,
    local_ts: tuple[str, ...],
    remote_ts: tuple[str, ...],
    ike: tuple[str, ...],
    esp: tuple[str, ...],
    echo: str | None,
    echo_from: str | None,
    ports: tuple[int, int],
    source: tuple[int, int],
    rate: float,
    patterns: tuple[str, ...],
    level: str,
    kind: str,
    output: Path | None,
    *,
    responder: bool,
    call: str | None,
    wait: float,
    listing: bool,
) -> None:
    cases = _wanted(CALLS if responder else CASES, patterns, level)
    if listing:
        for case in cases:
            about = [f"{case.level} {case.section}: {case.what}", *([f"not applicable where {case.unless}"] if case.unless else [])]
            lines = [textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="      ") for text in about]
            click.echo("\n".join([case.name, *lines]))
        return
    if host is None or psk_file is None:
        raise _Usage("HOST and --psk-file are needed: whom to ask, and the key that both have")
    try:
        agreed = Agreed(
            psk=PreSharedKey.from_file(psk_file),
            local_id=Identity.from_text(local_id),
            remote_id=None if peer_id is None else Identity.from_text(peer_id),
            ike=parse_ike(ike),
            esp=parse_esp(esp),
            local=_selectors(local_ts, "--local-ts"),
            remote=_selectors(remote_ts, "--remote-ts"),
        )
    except IkeError as error:
        raise _Usage(str(error)) from None
    target = _echo(echo, echo_from, agreed.local)
    progress = _Progress(len(cases), shown=sys.stderr.isatty())
    try:
        with UdpWire(host, ports, ports if responder and source == ANY_PORTS else source, rate) as wire:
            kit = CallKit(agreed, wire, _calling(call), wait=wait) if responder else Kit(agreed, wire, echo=target)
            verdicts = run_cases(kit, cases, progress.tell)
    except UnreachableError as error:
        click.echo(shown(str(error)), err=True)
        sys.exit(UNUSABLE)
    finally:
        progress.end()
    report = FORMATS[kind](verdicts, host)
    try:
        if output is None:
            click.echo(report, nl=False)
        else:
            output.write_text(report)
    except OSError as error:
        raise _Usage(f"--output {output}: {error.strerror}; write a file that may be made") from None
    sys.exit(0 if all_passed(verdicts) else FAILED)


class _Progress:
    """One line of a terminal that says how far it is."""

    def __init__(self, cases: int, *, shown: bool) -> None:
        self._cases, self._shown, self._done, self._failed = cases, shown, 0, 0

    def tell(self, verdict: Verdict) -> None:
        self._done += 1
        self._failed += not all_passed([verdict])
        if self._shown:
            click.echo(f"\r\x1b[K{self._done}/{self._cases}, {self._failed} failed: {verdict.case.name}"[:79], nl=False, err=True)

    def end(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)


if __name__ == "__main__":
    main(prog_name="python -m ipsec_dp.rig.conformance")
