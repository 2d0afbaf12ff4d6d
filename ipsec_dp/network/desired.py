"""What a configuration wants of the host, in the words of `host`: rules of the guard, rules between zones, routed prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsec_dp.host import guard, routes, zones
from ipsec_dp.ipsec.addresses import AddressRange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.config import Config, Tunnel, ZoneRule
    from ipsec_dp.ipsec.addresses import Network


def zone_rule(rule: ZoneRule) -> zones.ZoneRule:
    return zones.ZoneRule(rule.from_zone, rule.to_zone, rule.selectors, rule.allow, rule.log)


def routed_prefixes(config: Config) -> dict[Network, list[tuple[str, int]]]:
    """Interface and metric for each prefix that leads into a tunnel."""
    wanted: dict[Network, list[tuple[str, int]]] = {}
    for tunnel in config.tunnels:
        for prefix in tunnel.routes:
            wanted.setdefault(prefix, []).append((tunnel.interface, routes.METRIC))
    for route in config.routes:
        wanted.setdefault(route.prefix, []).append((config.tunnel(route.tunnel).interface, route.metric))
    return wanted


def guard_selectors(config: Config) -> tuple[list[guard.GuardRule], bool]:
    """What a configuration keeps back, before local and remote are told apart; whether they overlap anywhere."""
    selectors = [guard.GuardRule(rule.selector, bypass=rule.action == "bypass") for rule in config.rules]
    if _everywhere(selectors):
        selectors = guard.narrow(selectors, [AddressRange.of(prefix) for prefix in routed_prefixes(config)])
    return selectors, _overlapping(selectors)


def _overlapping(selectors: Iterable[guard.GuardRule]) -> bool:
    return any(each.local.overlaps(each.remote) for each in selectors if not each.bypass)


def _everywhere(selectors: Iterable[guard.GuardRule]) -> bool:
    return any(each.remote in guard.EVERYTHING for each in selectors)


class _Part(NamedTuple):
    """What `guard_selectors` makes of one tunnel."""

    tunnel: Tunnel
    selectors: tuple[guard.GuardRule, ...]
    everywhere: bool
    overlapping: bool


def _part(tunnel: Tunnel) -> _Part:
    selectors = tuple(map(guard.GuardRule, tunnel.selectors))
    return _Part(tunnel, selectors, _everywhere(selectors), _overlapping(selectors))


class GuardSelectors:
    """`guard_selectors` of one gateway's configurations: a tunnel that is the same object has the same selectors, as objects too.

    Where one of them protects every remote address, all depend on all routes, and are made anew.
    """

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    def of(self, config: Config) -> tuple[list[guard.GuardRule], bool]:
        """As `guard_selectors`."""
        known = self._parts
        parts = [
            part if (part := known.get(tunnel.name)) is not None and part.tunnel is tunnel else _part(tunnel)
            for tunnel in config.tunnels
        ]
        self._parts = {part.tunnel.name: part for part in parts}
        if config.policies or any(part.everywhere for part in parts):
            return guard_selectors(config)
        return [each for part in parts for each in part.selectors], any(part.overlapping for part in parts)
