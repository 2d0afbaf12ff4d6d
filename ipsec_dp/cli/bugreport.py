"""`bugreport`: one archive with what whoever looks for a fault asks for first, and no key."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ipsec_dp.cli import report_archive, report_parts
from ipsec_dp.cli.asking import ask
from ipsec_dp.cli.options import FILE, control_option, examples, json_option, say, show_json
from ipsec_dp.cli.report_parts import PART_S, Part, part
from ipsec_dp.gateway import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

README: Final = "README.txt"
TEXT: Final = """\
What ipsec-dp {version} has to say about itself, made on {at} by `ipsec-dp bugreport`.

In it are addresses (yours and your peers'), names of hosts, gateways, tunnels, interfaces, users and
files, identities, traffic selectors, and of dropped packets addresses and ports. Look through it
before you send it, and send it only to whom you would tell them.

Not in it: keys, shared secrets, private keys, what stands in the files that the configuration names,
octets of packets, comments of the configuration. What stood where it has no place in the
configuration reads (removed), and a secret that something quoted reads (secret).

"""


@click.command(epilog=examples("sudo ipsec-dp bugreport", "sudo ipsec-dp bugreport /tmp/report.tar.gz --config a.toml"))
@click.argument("file", required=False, type=FILE)
@click.option("--config", "configs", multiple=True, type=FILE, metavar="PATH", help="This configuration; else the gateway's.")
@control_option
@json_option
def bugreport(file: Path | None, configs: tuple[Path, ...], control: Path | None, as_json: bool) -> int:
    """Collect what a report about a fault needs, in one archive.

    Version, doctor, configuration without secrets, status, counters, last events, examples of dropped packets, kernel and offloads.
    No key is in it; addresses and names are. Without a running gateway it holds what can be had. FILE must not be there yet.
    """
    now = datetime.now().astimezone()
    path = Path(f"ipsec-dp-bugreport-{now:%Y%m%d-%H%M%S}.tar.gz") if file is None else file
    report_archive.check_free(path)
    parts = collect(control, configs)
    members = {README: readme(parts, now)} | {each.name: each.data for each in parts if each.missing is None}
    report_archive.write(path, members, time.time())
    if as_json:
        rows = [{"name": each.name, "octets": len(each.data), "missing": each.missing, "cut": each.cut} for each in parts]
        show_json({"schema": 1, "file": str(path), "parts": rows})
        return 0
    for each in parts:
        say(line_of(each))
    say(f"{path}: it holds addresses and names, and no key; look through it before you send it")
    return 0


def line_of(each: Part) -> str:
    """ "status.json        12 kB  how the gateway and its tunnels are"."""
    if each.missing is not None:
        return f"{each.name:<20}missing  {each.about}: {each.missing}"
    cut = "" if each.cut is None else f" (cut, of {each.cut} octets)"
    return f"{each.name:<20}{max(1, len(each.data) // 1000):>4} kB  {each.about}{cut}"


def readme(parts: Sequence[Part], now: datetime) -> bytes:
    from ipsec_dp.cli.tools import version_text

    head = TEXT.format(version=version_text().removeprefix("ipsec-dp "), at=f"{now:%Y-%m-%d %H:%M:%S %z}")
    return (head + "\n".join(map(line_of, parts)) + "\n").encode()


def collect(control: Path | None, configs: Sequence[Path]) -> list[Part]:
    """Every part, finished."""
    answered: dict[str, dict[str, Any]] = {}

    def asked(request: messages.ControlRequest, key: str) -> dict[str, Any]:
        answered[key] = ask(control, request, PART_S)
        return answered[key]

    def reported() -> dict[str, Any]:
        return {key: value for key, value in asked(messages.ReportRequest(), "report").items() if key != "events"}

    def status_of() -> dict[str, Any]:
        return report_parts.rest_of_status(asked(messages.StatusRequest(), "status"))

    report = part("gateway.json", "the gateway's log and configuration file", reported)
    status = part("status.json", "how the gateway and its tunnels are", status_of)
    files = list(configs) or ([Path(answered["report"]["config"])] if "config" in answered.get("report", {}) else _of_units())
    configurations: list[report_parts.Configurations] = []

    def configuration() -> dict[str, Any]:
        configurations.append(report_parts.Configurations(files))
        return configurations[0].told

    made = [
        part("version.json", "this program", _version),
        part("doctor.json", "what this host lacks", report_parts.doctor),
        part("configuration.json", "the configuration without secrets, and what check says", configuration),
        report,
        status,
        _of(status, answered, "counters.json", "what was carried and dropped", report_parts.COUNTERS),
        _of(status, answered, "drops.json", "examples of dropped packets", report_parts.EXAMPLES),
        _events(report, answered),
        part("kernel.json", "the kernel, its offloads, libraries", report_parts.kernel),
    ]
    if not configurations:  # it is not known what would have to be struck out
        made = [each if each.name in ("version.json", "kernel.json", "configuration.json") else _withheld(each) for each in made]
    forms = configurations[0].forms if configurations else set()
    return [report_parts.finished(each, forms) for each in made]


def _withheld(each: Part) -> Part:
    return Part(each.name, each.about, missing="left out: without the configuration nobody knows the secrets to look for in it")


def _of(status: Part, answered: dict[str, Any], name: str, about: str, keys: Sequence[str]) -> Part:
    if status.missing is not None:
        return Part(name, about, missing=status.missing)
    return part(name, about, lambda: report_parts.of_status(answered["status"], keys))


def _events(report: Part, answered: dict[str, Any]) -> Part:
    name, about = "events.jsonl", "the last events"
    if report.missing is not None:
        return Part(name, about, missing=report.missing)
    return part(name, about, lambda: report_parts.lines(answered["report"].get("events", ())))


def _of_units() -> list[Path]:
    """Of the gateways that the service unit starts."""
    from ipsec_dp.cli.checks import Host
    from ipsec_dp.cli.route_checks import configurations

    return [config.path for config in configurations(Host())]


def _version() -> bytes:
    """As `version --json` has it."""
    command = sys.executable, "-P", "-m", "ipsec_dp", "version", "--json"
    return subprocess.run(command, capture_output=True, check=True, timeout=PART_S).stdout
