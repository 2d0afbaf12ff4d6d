"""What a configuration wants of the host, in the words of `host`: selectors of the guard, rules between zones, routed prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.addresses import AddressRange
from ipsec_dp.config import ANY_PORTS
from ipsec_dp.host import guard, routes, zones

if TYPE_CHECKING:
    from ipsec_dp.config import Config, PortRange, Selector, ZoneRule
    from ipsec_dp.config.selectors import Network


def _ports(ports: PortRange) -> tuple[int, int] | None:
    return None if ports == ANY_PORTS else (ports.low, ports.high)


def _guarded(selector: Selector, *, bypass: bool = False) -> guard.Selector:
    return guard.Selector(
        selector.local,
        selector.remote,
        selector.protocol,
        _ports(selector.local_ports),
        _ports(selector.remote_ports),
        bypass=bypass,
    )


def zone_rule(rule: ZoneRule) -> zones.Rule:
    return zones.Rule(rule.from_zone, rule.to_zone, tuple(map(_guarded, rule.selectors)), rule.allow, rule.log)


def routed_prefixes(config: Config) -> dict[Network, list[tuple[str, int]]]:
    """Interface and metric for each prefix that leads into a tunnel."""
    wanted: dict[Network, list[tuple[str, int]]] = {}
    for tunnel in config.tunnels:
        for prefix in tunnel.routes:
            wanted.setdefault(prefix, []).append((tunnel.interface, routes.METRIC))
    for route in config.routes:
        wanted.setdefault(route.prefix, []).append((config.tunnel(route.tunnel).interface, route.metric))
    return wanted


def guard_selectors(config: Config) -> tuple[list[guard.Selector], bool]:
    """What a configuration keeps back, before local and remote are told apart; whether they overlap anywhere."""
    selectors = [_guarded(rule.selector, bypass=rule.action == "bypass") for rule in config.rules]
    if any(each.remote in guard.EVERYTHING for each in selectors):
        selectors = guard.narrow(selectors, [AddressRange.of(prefix) for prefix in routed_prefixes(config)])
    return selectors, any(each.local.overlaps(each.remote) for each in selectors if not each.bypass)
