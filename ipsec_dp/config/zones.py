"""[[zone]] and [[zone_rule]]: read, and checked against each other and the tunnels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import model, tables
from ipsec_dp.config.findings import Findings, Place, suggest
from ipsec_dp.config.quantities import OPAQUE
from ipsec_dp.config.read import array_of, read_table
from ipsec_dp.config.resolve import check_interface, check_name
from ipsec_dp.config.selectors import resolve_selectors
from ipsec_dp.config.shadows import find_shadowed
from ipsec_dp.config.zone_policy import GATEWAY, ZonePolicy, covers
from ipsec_dp.ipsec.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.errors import Severity


class _SourceAndDestination(Place):
    """Reports what is wrong with selectors in the words of a zone rule."""

    def _add(self, severity: Severity, key: str, wrong: str, right: str) -> None:
        texts = (text.replace("local", "source").replace("remote", "destination") for text in (key, wrong, right))
        super()._add(severity, *texts)


def zone_place(name: str) -> str:
    """How findings name a zone."""
    return f'zone "{name}"'


def check_pattern(text: str) -> str:
    """An interface's name, or the beginning of one and "*". Raises BadValueError."""
    check_interface(text.removesuffix("*"))
    return text


def resolve_zones(document: dict[str, Any], findings: Findings) -> tuple[model.Zone, ...]:
    """All zones that could be read."""
    zones = []
    for number, row in enumerate(array_of(document, "zone", findings), 1):
        name = row.get("name") if isinstance(row, dict) else None
        place = findings.at(zone_place(name) if isinstance(name, str) else f"zone #{number}")
        table = read_table(tables.Zone, row, place)
        if table is None:
            continue
        name = place.optional("name", check_name, table.name)
        if name == GATEWAY:
            place.error("name", f'"{GATEWAY}" is the gateway itself', "write another name")
        if table.interfaces is not None and not table.interfaces:
            place.error("interfaces", "is empty", 'name the interfaces of this zone, e.g. ["ipsec0"]')
        interfaces = place.values("interfaces", check_pattern, table.interfaces or ())
        if name is not None:
            zones.append(model.Zone(name=name, interfaces=interfaces))
    return tuple(zones)


def resolve_zone_rules(document: dict[str, Any], findings: Findings) -> tuple[model.ZoneRule, ...]:
    """All rules; those that could not be read hold nothing."""
    rules = []
    for number, row in enumerate(array_of(document, "zone_rule", findings), 1):
        table = read_table(tables.ZoneRule, row, findings.at(f"zone_rule #{number}"))
        if table is None:
            continue
        selectors = tables.Selectors(
            local=table.source,
            remote=table.destination,
            protocol=table.protocol,
            local_ports=table.source_ports,
            remote_ports=table.destination_ports,
        )
        place = _SourceAndDestination(findings, f"zone_rule #{number}")
        resolved = resolve_selectors(selectors, place)
        if any(selector.opaque for selector in resolved):
            place.error(
                "local_ports" if table.source_ports == OPAQUE else "remote_ports",
                "zones judge connections, to which later fragments belong",
                "leave the ports out, or write those of the connection",
            )
        rules.append(
            model.ZoneRule(
                from_zone=table.from_ or "",
                to_zone=table.to or "",
                selectors=resolved,
                allow=table.action == "allow",
                log=table.log,
            )
        )
    return tuple(rules)


def check_zones(config: model.Config, findings: Findings) -> None:
    """Names once, each interface in one zone, rules between zones there are, none that is never reached, and tunnels that pass."""
    for name, count in Counter(zone.name for zone in config.zones).items():
        if count > 1:
            findings.at(zone_place(name)).error("name", f"{count} zones have this name", "give each zone its own")
    _check_interfaces(config.zones, findings)
    _check_rule_names(config, findings)
    _check_reached(config.zone_rules, findings)
    if config.zones:
        _check_tunnels(config, findings)


def _check_interfaces(zones: Sequence[model.Zone], findings: Findings) -> None:
    seen: list[tuple[str, str]] = []
    for zone in zones:
        for interface in zone.interfaces:
            for other, owner in seen:
                if covers(other, interface) or covers(interface, other):
                    where = "twice here" if owner == zone.name else f'also in zone "{owner}"'
                    as_what = "" if other == interface else f" as {other}"
                    findings.at(zone_place(zone.name)).error(
                        "interfaces", f"{interface} is {where}{as_what}", "name each interface in one zone"
                    )
            seen.append((interface, zone.name))


def _check_rule_names(config: model.Config, findings: Findings) -> None:
    known = [zone.name for zone in config.zones] + [GATEWAY]
    for number, rule in enumerate(config.zone_rules, 1):
        place = findings.at(f"zone_rule #{number}")
        for key, name in (("from", rule.from_zone), ("to", rule.to_zone)):
            if name and name not in known:
                place.error(key, f'no zone is named "{name}"', suggest(name, known))
        if rule.from_zone == rule.to_zone == GATEWAY:
            place.error("to", "what the gateway sends itself is not judged", "name a zone")


def _check_reached(rules: Iterable[model.ZoneRule], findings: Findings) -> None:
    """Rules between the same two zones of which an earlier one holds everything."""
    flat = [
        Rule(selector, "discard", f"{rule.from_zone} to {rule.to_zone}", None, policy=number)
        for number, rule in enumerate(rules, 1)
        for selector in rule.selectors
    ]
    reported = set()
    for rule, holders in find_shadowed(flat):
        if rule.policy not in reported:
            reported.add(rule.policy)
            earlier = " and ".join(f"#{number}" for number in dict.fromkeys(holder.policy for holder in holders))
            wrong = f"never reached: zone_rule {earlier} holds all of {rule.selector} from {rule.interface}"
            findings.at(f"zone_rule #{rule.policy}").error("", wrong, "write the narrower rule first, or take one of both out")


def _check_tunnels(config: model.Config, findings: Findings) -> None:
    """Warns of tunnels that can carry nothing to or from anywhere."""
    policy = ZonePolicy(config)
    allowed = {rule.from_zone for rule in config.zone_rules if rule.allow} | {
        rule.to_zone for rule in config.zone_rules if rule.allow
    }
    members = {zone.name: zone.interfaces for zone in config.zones}
    for tunnel in config.tunnels:
        zone, place = policy.zone_of(tunnel.interface), findings.at(f'tunnel "{tunnel.name}"')
        if zone is None:
            place.warn(
                "interface",
                f"{tunnel.interface} is in no zone: nothing passes between it and interfaces that are in one",
                "name it in a [[zone]]",
            )
        elif zone not in allowed and all(each == tunnel.interface for each in members[zone]):
            place.warn(
                "interface",
                f'{tunnel.interface} is alone in zone "{zone}", and no rule lets anything in or out',
                f'write a [[zone_rule]] from or to "{zone}"',
            )
