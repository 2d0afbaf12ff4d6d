"""From a draft to files: secrets beside, what `check` refuses withheld, the TOML written once; nothing is ever overwritten.

The configuration's own check judges the draft where it will lie. A tunnel that it refuses stays in the file as comments with the
reason, so what is written passes `check`, and nothing of such a tunnel is in force.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

from ipsec_dp.config.findings import Findings
from ipsec_dp.config.load import resolve_document
from ipsec_dp.config.read import parse_toml
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.migrate.toml_writer import document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ipsec_dp.errors import Finding
    from ipsec_dp.migrate.draft import FileDraft, Remark, SourceLine

SECRET_MODE: Final = 0o600
EVERYTHING: Final = frozenset({"0.0.0.0/0", "::/0"})
_OF_TUNNEL: Final = re.compile(r'tunnel "([^"]+)"')
_OF_ROUTE: Final = re.compile(r"route #([0-9]+)")


@dataclass(slots=True)
class Migration:
    """What came of a draft. `secrets`: files that were written; `lacking`: those that a secret would be in, and none was."""

    text: str
    active: tuple[str, ...]
    withheld: dict[str, tuple[str, ...]]
    remarks: tuple[Remark, ...]
    secrets: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)  # files of such a name that were there before
    warnings: tuple[Finding, ...] = ()


def write_new(path: Path, content: bytes, mode: int = 0o644) -> None:
    """A file that was not there before, whole or not at all. Raises IpsecDpError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except FileExistsError:
        raise IpsecDpError(f"{path} is there already, and nothing is overwritten: name another file, or move it away") from None
    except OSError as error:
        raise IpsecDpError(f"cannot write {path}: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise IpsecDpError(f"cannot write {path}: {error.strerror}") from error


def settle(draft: FileDraft, target: Path, heading: str, *, with_secrets: bool) -> Migration:
    """Writes the secrets beside `target` (unless `with_secrets` is False), and gives the text that is to stand there. Raises
    IpsecDpError; no secret that it wrote is then left."""
    written: list[Path] = []
    kept: list[Path] = []
    try:
        if with_secrets:
            for path, content in _secrets(draft, target):
                if path.exists():
                    kept.append(path)
                    continue
                write_new(path, content, SECRET_MODE)
                written.append(path)
        give_interfaces(draft)
        warnings = _withhold_refused(draft, target)
    except BaseException:
        take_back(written)
        raise
    return Migration(
        text=document(draft, heading),
        active=tuple(tunnel.name for tunnel in draft.tunnels if not tunnel.withheld),
        withheld={tunnel.name: tuple(tunnel.withheld) for tunnel in draft.tunnels if tunnel.withheld},
        remarks=tuple(draft.remarks),
        secrets=written,
        kept=kept,
        warnings=warnings,
    )


def give_interfaces(draft: FileDraft) -> None:
    """Where everything may go in, routes decide, so each such tunnel has an interface of its own."""
    taken = {str(tunnel.settings["interface"].value) for tunnel in draft.tunnels if "interface" in tunnel.settings}
    free = (f"ipsec{number}" for number in count(1) if f"ipsec{number}" not in taken)
    routed = {route.tunnel for route in draft.routes}
    for tunnel in draft.tunnels:
        if not any(each.remote in EVERYTHING for each in tunnel.proxy_ids):
            continue
        if "interface" not in tunnel.settings:
            tunnel.put("interface", next(free), "its own: routes decide what goes in")
        if tunnel.name not in routed:
            draft.note(tunnel.origin, tunnel.name, "its selectors hold everything: say by [[route]] or `routes` what goes in")


def take_back(paths: list[Path]) -> None:
    """Removes files that this run made."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _secrets(draft: FileDraft, target: Path) -> Iterator[tuple[Path, bytes]]:
    for tunnel in draft.tunnels:
        if tunnel.secret is not None:
            yield target.parent / str(tunnel.settings["auth.psk_file"].value), tunnel.secret


def _withhold_refused(draft: FileDraft, target: Path) -> tuple[Finding, ...]:
    """Asks `check` until it refuses nothing: each round withholds at least one tunnel, or takes a route out."""
    while True:
        findings = Findings(str(target))
        parsed = parse_toml(document(draft, ""), findings)
        if parsed is not None:
            resolve_document(parsed, target, findings)
        errors = [finding for finding in findings.found if finding.severity == "error"]
        if not errors:
            return tuple(findings.found)
        if not _act(draft, target, errors):
            raise IpsecDpError(f"what was made does not pass check: {errors[0]}")


def _act(draft: FileDraft, target: Path, errors: list[Finding]) -> bool:
    acted = False
    gone = []
    routes = [route for route in draft.routes if not _is_withheld(draft, route.tunnel)]
    for error in errors:
        of_tunnel, of_route = _OF_TUNNEL.fullmatch(error.where), _OF_ROUTE.fullmatch(error.where)
        for tunnel in draft.tunnels:
            if of_tunnel is not None and tunnel.name == of_tunnel[1]:
                tunnel.withhold(f"{error.key}: {error.wrong}; {error.right}".replace(f"{target.parent}/", ""))
                acted = True
        if of_route is not None and int(of_route[1]) <= len(routes):
            route = routes[int(of_route[1]) - 1]
            draft.left_out(_origin(draft, route.tunnel), f"route {route.prefix}", f"{error.wrong}; {error.right}")
            gone.append(route)
    draft.routes = [route for route in draft.routes if not any(route is each for each in gone)]
    return acted or bool(gone)


def _is_withheld(draft: FileDraft, name: str) -> bool:
    return any(tunnel.name == name and tunnel.withheld for tunnel in draft.tunnels)


def _origin(draft: FileDraft, name: str) -> SourceLine:
    return next(tunnel.origin for tunnel in draft.tunnels if tunnel.name == name)
