"""The verbs with which one begins: a first file from answers, and other products' files made into ours."""

from __future__ import annotations

import sys
import textwrap
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipsec_dp.cli.options import FILE, examples, json_option, loading, say, show_findings, show_json
from ipsec_dp.errors import BadValueError, IpsecDpError
from ipsec_dp.host import HostError
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.migrate.draft import FileDraft
    from ipsec_dp.migrate.outcome import Migration
    from ipsec_dp.migrate.usual_cases import UsualCase

NAMED_MOST = 8
CASE_NAMES = ("site-to-site", "certificates", "hub", "on-demand", "ikev1")
ANSWERS = (
    ("name", "NAME", "This gateway; default: the host's name."),
    ("tunnel", "NAME", "The tunnel; default: peer."),
    ("remote", "PEER", "The peer's address or DNS name."),
    ("local", "ADDRESS", "Our outer address; default: follows the route."),
    ("local-net", "PREFIXES", "Our networks, by comma."),
    ("remote-net", "PREFIXES", "The peer's networks, by comma."),
    ("local-id", "IDENTITY", "Who we are; default: our address."),
    ("remote-id", "IDENTITY", "Who the peer is; default: its address."),
    ("psk-file", "FILE", "The shared key, relative to the file."),
    ("certificate", "FILE", "Our certificate."),
    ("private-key", "FILE", "Its private key."),
    ("ca", "FILE", "The authority of the peer's certificate."),
)


def answer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name, metavar, text in reversed(ANSWERS):
        command = click.option(f"--{name}", metavar=metavar, help=text)(command)
    return command


@click.command(
    epilog=examples(
        "ipsec-dp init                                     asks",
        "ipsec-dp init --case site-to-site --remote 192.0.2.2 --local-net 10.1.0.0/24 \\",
        "    --remote-net 10.2.0.0/24 --psk-file to-b.psk --new-psk site-a.toml",
    )
)
@click.argument("file", type=FILE, default=Path("ipsec-dp.toml"))
@click.option("--case", "case_name", type=click.Choice(CASE_NAMES), help="The usual case; default: site-to-site.")
@answer_options
@click.option("--new-psk", is_flag=True, help="Make the file of the shared key, with a random one (0600).")
@click.option("--no-input", is_flag=True, help="Never ask, on a terminal neither.")
@json_option
def init(file: Path, case_name: str | None, new_psk: bool, no_input: bool, as_json: bool, **given: str | None) -> int:
    """Write a first configuration FILE (ipsec-dp.toml), with comments.

    What the options do not say is asked for on a terminal, and nowhere else. It says what the other side has to be set to. Nothing
    is ever overwritten, and the file passes `ipsec-dp check`.
    """
    with loading():
        from ipsec_dp.migrate.usual_cases import CASES, draft_of, fresh_key
    if file.exists() or file.is_symlink():
        raise IpsecDpError(f"{file} is there already, and nothing is overwritten: name another file, or move it away")
    asks = not no_input and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    answers = {key: value for key, value in given.items() if value is not None}
    case = CASES[case_name or (_ask_case(CASES) if asks else CASE_NAMES[0])]
    if asks:
        new_psk = _ask(case, answers, file, new_psk=new_psk)
    _check_answers(case, answers)
    if new_psk and case.certificates:
        raise click.UsageError("--new-psk has no meaning with certificates")
    if new_psk and (file.parent / answers["psk_file"]).exists():
        raise IpsecDpError(f"{file.parent / answers['psk_file']} is there already, and nothing is overwritten: leave --new-psk out")
    source = _source(answers)
    draft = draft_of(case, answers, fresh_key(SystemClock().random) if new_psk else None, source)
    outcome = _write_first(draft, file, case)
    _show_first(outcome, case, answers if source is None else {**answers, "local": source}, file, as_json=as_json)
    return 0


def _source(answers: dict[str, str]) -> str | None:
    """Our address as the route to the peer has it now; None: it was given, or there is no telling."""
    from ipsec_dp.cli.lone_trial import source_towards

    if "local" in answers:
        return None
    try:
        return str(source_towards(ip_address(answers.get("remote", ""))))
    except (HostError, ValueError):  # no way there, or a name
        return None


def _ask_case(cases: dict[str, UsualCase]) -> str:
    names = list(cases)
    for number, case in enumerate(cases.values(), 1):
        say(f"  {number}  {case.title}")
    return names[click.prompt("Which case", type=click.IntRange(1, len(names)), default=1) - 1]


def _ask(case: UsualCase, answers: dict[str, str], file: Path, *, new_psk: bool) -> bool:
    """Asks for what is not given yet; whether a shared key is to be made."""
    from ipsec_dp.migrate.usual_cases import QUESTIONS

    # What may be left out is asked for beside what lacks; our outer address never is: the route to the peer says it.
    lacks = any(key not in answers for key in case.needs)
    wanted = {*(("tunnel", "local_id", "remote_id") if lacks else ()), *case.needs}
    for question in QUESTIONS:
        if question.key in answers or question.key not in wanted:
            continue
        default = f"{answers.get('tunnel', 'peer')}.psk" if question.key == "psk_file" else None
        optional = question.key not in case.needs
        while True:
            text = click.prompt(
                f"{question.text}, e.g. {question.example}", default="" if optional else default, show_default=bool(default)
            )
            try:
                if text:
                    question.parse(text)
            except BadValueError as error:
                say(str(error), err=True)
                continue
            if text:
                answers[question.key] = text
            break
    if case.certificates or new_psk or (file.parent / answers["psk_file"]).exists():
        return new_psk
    return click.confirm(f"Make {answers['psk_file']} with a random key", default=True)


def _check_answers(case: UsualCase, answers: dict[str, str]) -> None:
    from ipsec_dp.migrate.usual_cases import QUESTIONS

    lacking = [question.option for question in QUESTIONS if question.key in case.needs and question.key not in answers]
    if lacking:
        raise click.UsageError(f"{case.name} needs {named(lacking, NAMED_MOST)}")
    for question in QUESTIONS:
        if question.key in answers:
            try:
                question.parse(answers[question.key])
            except BadValueError as error:
                raise click.UsageError(f"{question.option}: {error}") from error


def _write_first(draft: FileDraft, file: Path, case: UsualCase) -> Migration:
    """The file, or nothing at all where `check` refuses it."""
    from ipsec_dp.migrate.outcome import settle, take_back, write_new

    heading = (
        f"Made by `ipsec-dp init`: {case.title}. docs/configuration.md has every key.\nAfter a change: ipsec-dp check {file.name}"
    )
    outcome = settle(draft, file, heading, with_secrets=True)
    try:
        if outcome.withheld:
            raise BadValueError(f"nothing is written: {next(iter(outcome.withheld.values()))[0]}", "answer otherwise")
        write_new(file, outcome.text.encode())
    except BaseException:
        take_back(outcome.secrets)
        raise
    return outcome


def _show_first(outcome: Migration, case: UsualCase, answers: dict[str, str], file: Path, *, as_json: bool) -> None:
    from ipsec_dp.migrate.usual_cases import mirrored, other_side

    rows, command = other_side(case, answers), mirrored(case, answers)
    if as_json:
        secrets = [str(path) for path in outcome.secrets]
        show_json({"schema": 1, "file": str(file), "secrets": secrets, "other_side": dict(rows), "other_side_command": command})
        return
    say(f"{file}: written; it passes check")
    for path in outcome.secrets:
        say(f"{path}: written, a random key of 256 bits (0600). Copy it to the other side by a way that nobody reads.")
    show_findings(outcome.warnings)
    say("")
    say("The other side has to be set to:")
    width = max(len(what) for what, _ in rows)
    for what, value in rows:
        for number, line in enumerate(textwrap.wrap(value, max(20, 78 - width - 4), break_on_hyphens=False) or [""]):
            say(f"  {what if number == 0 else '':<{width}}  {line}")
    if command is not None:
        say("")
        say("Where that is ipsec-dp too, with the same key beside the file:")
        say(f"  {command}", whole=True)
    say("")
    say(f"Next: ipsec-dp up {file}")


# ---- import ----------------------------------------------------------------------------------------------------------------------

output_option = click.option(
    "-o", "--output", type=FILE, metavar="FILE", help="Write here, secrets beside it (0600); default: print."
)


@click.group(
    "import",
    epilog=examples(
        "ipsec-dp import swanctl /etc/swanctl/swanctl.conf -o site.toml",
        "ipsec-dp import ipsec.conf /etc/ipsec.conf -o site.toml",
        "ipsec-dp import panos running-config.xml -o site.toml",
    ),
)
def import_() -> None:
    """Make a configuration of another product's.

    What it has and this program has not is listed line by line, with the reason. A tunnel that cannot be as it was is written as a
    comment, so what is written passes `ipsec-dp check`. Nothing is ever overwritten.
    """


@import_.command("swanctl", epilog=examples("ipsec-dp import swanctl /etc/swanctl/swanctl.conf -o site.toml"))
@click.argument("file", type=FILE)
@output_option
@json_option
def import_swanctl(file: Path, output: Path | None, as_json: bool) -> int:
    """Of strongSwan's swanctl.conf, with what it includes."""
    with loading():
        from ipsec_dp.migrate.swanctl import read_swanctl
    return _bring(lambda: read_swanctl(file), file, output, as_json=as_json)


@import_.command("ipsec.conf", epilog=examples("ipsec-dp import ipsec.conf /etc/ipsec.conf --local right -o site.toml"))
@click.argument("file", type=FILE)
@click.option("--dialect", type=click.Choice(["strongswan", "libreswan"]), help="Whose file it is; default: by its words.")
@click.option(
    "--local", type=click.Choice(["left", "right"]), default="left", show_default=True, help="The side that is this host."
)
@output_option
@json_option
def import_ipsec_conf(file: Path, dialect: Any, local: str, output: Path | None, as_json: bool) -> int:
    """Of strongSwan's or Libreswan's ipsec.conf, with ipsec.secrets beside it."""
    with loading():
        from ipsec_dp.migrate.ipsec_conf import read_ipsec_conf
    return _bring(lambda: read_ipsec_conf(file, dialect=dialect, local=local), file, output, as_json=as_json)


@import_.command("panos", epilog=examples("ipsec-dp import panos running-config.xml -o site.toml"))
@click.argument("file", type=FILE)
@output_option
@json_option
def import_panos(file: Path, output: Path | None, as_json: bool) -> int:
    """Of PAN-OS: set commands, or the XML export.

    Keys that the firewall encrypted are to be filled in.
    """
    with loading():
        from ipsec_dp.migrate.panos import read_panos
    return _bring(lambda: read_panos(file), file, output, as_json=as_json)


def _bring(read: Callable[[], FileDraft], file: Path, output: Path | None, *, as_json: bool) -> int:
    """Reads, settles, writes, reports; exit status 1 where no tunnel is in force."""
    from ipsec_dp.migrate.outcome import settle, take_back, write_new

    if output is not None and (output.exists() or output.is_symlink()):
        raise IpsecDpError(f"{output} is there already, and nothing is overwritten: name another file, or move it away")
    draft = read()
    heading = f"Made by `ipsec-dp import` of {file.name} ({draft.title}). docs/migrating.md says how it is read."
    outcome = settle(draft, output or Path("import.toml"), heading, with_secrets=output is not None)
    if output is not None:
        try:
            write_new(output, outcome.text.encode())
        except BaseException:
            take_back(outcome.secrets)
            raise
    if as_json:
        show_json(_as_json(outcome, draft, output))
    else:
        if output is None:
            click.echo(outcome.text, nl=False)
        _report(outcome, draft, output)
    return 0 if outcome.active else 1


def _as_json(outcome: Migration, draft: FileDraft, output: Path | None) -> dict[str, object]:
    remarks = [
        {"kind": each.kind, "file": each.at.file, "line": each.at.line, "what": each.what, "why": each.why}
        for each in outcome.remarks
    ]
    return {
        "schema": 1,
        "source": draft.title,
        "file": None if output is None else str(output),
        "text": outcome.text if output is None else None,
        "tunnels": list(outcome.active),
        "withheld": outcome.withheld,
        "remarks": remarks,
        "secrets": [str(path) for path in outcome.secrets],
    }


def _report(outcome: Migration, draft: FileDraft, output: Path | None) -> None:
    """To standard error where the file itself goes to standard output."""
    err = output is None
    for kind, title in (("left out", "Not translated:"), ("note", "Worth a look:")):
        found = [remark for remark in outcome.remarks if remark.kind == kind]
        if found:
            say(title, err=err)
        for remark in found:
            say(f"  {remark}", err=err)
    if outcome.withheld:
        say("Written as comments, not in force:", err=err)
    for name, why in outcome.withheld.items():
        for number, each in enumerate(why):
            say(f"  {name if number == 0 else ' ' * len(name)}  {each}", err=err)
    for path in outcome.secrets:
        say(f"{path}: written (0600)", err=err)
    for path in outcome.kept:
        say(f"{path}: was there already, and stays as it is", err=err)
    show_findings(outcome.warnings)
    there = f"of {len(draft.tunnels)} tunnels {len(outcome.active)} in force"
    say(f"{output or 'standard output'}: {there}, from {draft.title}; it passes check", err=err)
    if output is None and any(tunnel.secret for tunnel in draft.tunnels):
        say("Secrets are written with -o alone.", err=True)
