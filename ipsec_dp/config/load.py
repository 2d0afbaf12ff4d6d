"""A configuration file, read and checked whole."""

from __future__ import annotations

import codecs
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import check, model, tables
from ipsec_dp.config.findings import Findings, suggest
from ipsec_dp.config.fragments import check_fragments
from ipsec_dp.config.identities import check_identities
from ipsec_dp.config.ikev1 import check_secrets
from ipsec_dp.config.interfaces import check_addresses
from ipsec_dp.config.logs import resolve_log
from ipsec_dp.config.metrics import resolve_metrics
from ipsec_dp.config.monitors import check_monitors
from ipsec_dp.config.named_files import NamedFiles
from ipsec_dp.config.positions import positioned
from ipsec_dp.config.read import array_of, parse_toml, read_table
from ipsec_dp.config.resolve import (
    check_group,
    resolve_gateway,
    resolve_keylog,
    resolve_offloads,
    resolve_policy,
    resolve_route,
    resolve_tunnel,
)
from ipsec_dp.config.zones import check_zones, resolve_zone_rules, resolve_zones
from ipsec_dp.errors import ConfigError, Finding
from ipsec_dp.util.collection import no_collection
from ipsec_dp.util.opening import opened_to_read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ipsec_dp.config.named_files import KeptKeys

FILE_OCTETS_MAX = 64 * 1024 * 1024
_WRITTEN = json.JSONEncoder(sort_keys=True, default=str)
KEY_TABLES = ("auth", "manual_unsafe")  # of a tunnel: what proves who the peer is, and says nothing of what is protected


def load(path: Path) -> model.Config:
    """The configuration in `path`. Raises ConfigError with everything that is wrong; what is only doubtful is in `warnings`."""
    config, findings = examine(path)
    if config is None:
        raise ConfigError(findings)
    return config


def examine(path: Path, kept: KeptKeys | None = None) -> tuple[model.Config | None, tuple[Finding, ...]]:
    """The configuration (None when it must be refused) and all findings about it, errors and warnings. `kept`: gets what its PSKs
    and PPKs are."""
    findings = Findings(str(path))
    text = _read_text(path, findings)
    return (None, tuple(findings.found)) if text is None else examine_text(text, path, kept)


def examine_text(text: str, path: Path, kept: KeptKeys | None = None) -> tuple[model.Config | None, tuple[Finding, ...]]:
    """`examine`, of what a file at `path` held once. The files that it names are read as they are now."""
    findings = Findings(str(path))
    with no_collection():
        document = parse_toml(text, findings)
        if document is None:
            return None, _unread(findings, text)
        config = resolve_document(document, path, findings, kept)
        found = positioned(findings.found, text, document)
    return (None if findings.errors else replace(config, warnings=_warnings(found), text=text)), found


def located(findings: Iterable[Finding], path: Path) -> tuple[Finding, ...]:
    """Findings that others than `examine` have made about this file, with their places in it."""
    findings = tuple(findings)
    read = Findings(str(path))
    text = _read_text(path, read) if any(finding.line is None for finding in findings) else None
    return findings if text is None else positioned(findings, text, parse_toml(text, read))


def load_to_close(path: Path) -> model.Config:
    """The configuration as far as it says what is protected; raises ConfigError.

    An error in [tunnel.auth] or [tunnel.manual_unsafe], or in a file that they name, is a warning: nothing is left open because a
    certificate has expired.
    """
    findings = Findings(str(path))
    text = _read_text(path, findings)
    document = None if text is None else parse_toml(text, findings)
    if document is None:
        raise ConfigError(_unread(findings, text))
    config = resolve_document(document, path, findings)
    positions = positioned(findings.found, text or "", document)
    found = [_of_keys(finding) for finding in positions]
    if any(finding.severity == "error" for finding in found) or len(config.tunnels) != len(document.get("tunnel", ())):
        raise ConfigError(positions)
    return replace(config, warnings=_warnings(found))


def _unread(findings: Findings, text: str | None) -> tuple[Finding, ...]:
    """What is wrong with a file that is no TOML, or cannot be read at all."""
    return tuple(findings.found) if text is None else positioned(findings.found, text, None)


def _warnings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding.severity == "warning")


def _of_keys(finding: Finding) -> Finding:
    """A finding about what authenticates a peer, as a warning; any other as it is."""
    return replace(finding, severity="warning") if finding.key.partition(".")[0] in KEY_TABLES else finding


def digest_of(row: object) -> bytes:
    """What two tables have in common only when the same is written in them."""
    return hashlib.blake2b(_WRITTEN.encode(row).encode(), digest_size=16).digest()


def _read_text(path: Path, findings: Findings) -> str | None:
    place = findings.at("")
    try:
        with opened_to_read(path) as opened, open(opened.descriptor, "rb", closefd=False) as file:
            data = file.read(FILE_OCTETS_MAX + 1)
    except OSError as error:
        right = "run as root" if isinstance(error, PermissionError) else "name a configuration file; conf/ has examples"
        place.error("", f"cannot be read: {error.strerror}", right)
        return None
    if len(data) > FILE_OCTETS_MAX:
        place.error("", "is larger than 64 MiB", "split it over several gateways")
        return None
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()  # TOML 1.1 passes over a byte order mark
    except UnicodeDecodeError as error:
        place.error("", f"octet {error.start} is not UTF-8", "save it as UTF-8")
        line, begin = data.count(b"\n", 0, error.start) + 1, data.rfind(b"\n", 0, error.start) + 1
        findings.found[-1] = replace(findings.found[-1], line=line, column=error.start - begin + 1)
        return None


def resolve_document(document: dict[str, Any], path: Path, findings: Findings, kept: KeptKeys | None = None) -> model.Config:
    """All tables in the order in which a reader meets them, then what joins them. The result is sound when no error was found."""
    with NamedFiles(path.parent, document, kept) as named_files:
        return _resolve_document(document, path, named_files, findings)


def _resolve_document(document: dict[str, Any], path: Path, named_files: NamedFiles, findings: Findings) -> model.Config:
    known = tables.File.__struct_fields__
    for key in document:
        if key not in known:
            findings.at("").error(key, "unknown table", suggest(key, known))
    place = findings.at("gateway")
    gateway = read_table(tables.Gateway, document.get("gateway", {}), place) or tables.Gateway()
    name, workers = resolve_gateway(gateway, place)
    names, tunnels, sound_tunnels = _resolve_tunnels(document, named_files, findings)
    policies, sound_policies = _resolve_policies(document, findings)
    config = model.Config(
        path=path,
        name=name,
        workers=workers,
        pin=gateway.pin,
        keep_closed=gateway.keep_closed,
        strict=gateway.strict,
        offloads=resolve_offloads(gateway),
        socket_buffer=gateway.socket_buffer,
        tunnels=tunnels,
        policies=policies,
        routes=_resolve_routes(document, findings),
        zones=resolve_zones(document, findings),
        zone_rules=resolve_zone_rules(document, findings),
        nat_flows=gateway.nat_flows,
        control_group=place.optional("control_group", check_group, gateway.control_group),
        keylog=resolve_keylog(gateway, path.parent, place),
        metrics=resolve_metrics(document, findings),
        log=resolve_log(document, findings),
    )
    if not names and not findings.errors:
        findings.at("").warn("tunnel", "there is none", "write a [[tunnel]] for each peer")
    check.check_names(names, config, findings)
    check.check_rules(sound_policies, sound_tunnels, findings)
    check.check_bypass(sound_policies, findings)
    check.check_routes(config, sound_tunnels, findings)
    check.check_sides(sound_tunnels, findings)
    check.check_nesting(config, sound_tunnels, findings)
    check_addresses(tunnels, findings)
    check_zones(config, findings)
    check_monitors(config, sound_tunnels, findings)
    check.check_manual(tunnels, named_files, findings)
    check_identities(sound_tunnels, findings)
    check_secrets(sound_tunnels, findings)
    check_fragments(sound_policies, sound_tunnels, findings)
    return config


def _resolve_tunnels(
    document: dict[str, Any], named_files: NamedFiles, findings: Findings
) -> tuple[list[str], tuple[model.Tunnel, ...], tuple[model.Tunnel, ...]]:
    """Names of all tunnels, those that could be read, and those among them without an error of their own."""
    names: list[str] = []
    tunnels: list[model.Tunnel] = []
    sound: list[model.Tunnel] = []
    seen: set[str] = set()
    for number, row in enumerate(array_of(document, "tunnel", findings), 1):
        given = row if isinstance(row, dict) else {}
        name = given.get("name")
        if isinstance(name, str):
            names.append(name)
        place = findings.at(check.tunnel_place(name) if isinstance(name, str) else f"tunnel #{number}")
        before = findings.errors
        table = read_table(tables.Tunnel, row, place)
        if table is None:
            continue
        tunnels.append(replace(resolve_tunnel(table, given, place, named_files), written=digest_of(given)))
        if findings.errors == before and tunnels[-1].name not in seen:
            sound.append(tunnels[-1])
        seen.add(tunnels[-1].name)
    return names, tuple(tunnels), tuple(sound)


def _resolve_policies(
    document: dict[str, Any], findings: Findings
) -> tuple[tuple[model.Policy, ...], list[tuple[int, model.Policy]]]:
    """All policies that could be read, and those without an error of their own with their number in the file."""
    policies: list[model.Policy] = []
    sound: list[tuple[int, model.Policy]] = []
    for number, row in enumerate(array_of(document, "policy", findings), 1):
        place = findings.at(f"policy #{number}")
        before = findings.errors
        table = read_table(tables.Policy, row, place)
        if table is None:
            continue
        policies.append(resolve_policy(table, place))
        if findings.errors == before:
            sound.append((number, policies[-1]))
    return tuple(policies), sound


def _resolve_routes(document: dict[str, Any], findings: Findings) -> tuple[model.Route, ...]:
    routes = []
    for number, row in enumerate(array_of(document, "route", findings), 1):
        place = findings.at(f"route #{number}")
        table = read_table(tables.Route, row, place)
        route = None if table is None else resolve_route(table, place)
        if route is not None:
            routes.append(route)
    return tuple(routes)
