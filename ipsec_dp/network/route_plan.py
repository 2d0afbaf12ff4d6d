"""Which routes lead into the tunnel interfaces: those of a whole configuration, and what a few tunnels that came or went change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ipsec_dp.host import HostError, routes
from ipsec_dp.network.desired import routed_prefixes
from ipsec_dp.network.interface_mtu import interface_mtus, narrowed, route_mtus
from ipsec_dp.network.source_address import Sources, no_source
from ipsec_dp.util.few_changes import few_changes
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.config.model import Route
    from ipsec_dp.host.outer import OwnAddress
    from ipsec_dp.ipsec.addresses import Network


PREFIXES_NAMED = 3

Key = TypeVar("Key")


@dataclass(frozen=True)
class RouteContext:
    """What every route depends on: `devices`, the indices of our interfaces; `own`, the host's addresses; `withdrawn`, interfaces
    that get no routes where others have the prefix too; `written`, every [[route]]; `without_ipv6`, interfaces on which IPv6 is
    disabled."""

    devices: Mapping[str, int]
    own: Sequence[OwnAddress]
    withdrawn: frozenset[str]
    written: tuple[Route, ...]
    without_ipv6: frozenset[str] = frozenset()


class RouteChange(NamedTuple):
    """Routes to prefixes that had none, and all routes of prefixes that have none any more."""

    added: list[routes.Route]
    removed: list[routes.Route]


class RoutePlan:
    """The routes of a configuration, the prefixes that it routes, and what a person should know (`notes`).

    `mtus`, octets by name: the largest packet that each tunnel is to get.

    Raises HostError when one prefix leads into two interfaces with one metric.
    """

    def __init__(self, config: Config, context: RouteContext, mtus: Mapping[str, int]) -> None:
        self._tunnels, self._context = config.tunnels, context
        self._mtus = {tunnel.name: mtus[tunnel.name] for tunnel in config.tunnels}
        self._wide = interface_mtus(config.tunnels, mtus)
        self.mtus = route_mtus(config, mtus)
        by_interface: dict[str, list[Tunnel]] = {name: [] for name in context.devices}
        for tunnel in config.tunnels:
            by_interface.setdefault(tunnel.interface, []).append(tunnel)
        self._sources = {
            name: Sources(name, (selector for tunnel in tunnels for selector in tunnel.selectors), context.own)
            for name, tunnels in by_interface.items()
        }
        self.prefixes: dict[Network, int] = {}  # how many tunnels and [[route]]s have each
        self._wanted: dict[tuple[Network, int], routes.Route] = {}
        self._notes: dict[str, None] = {}
        without: dict[str, list[Network]] = {}  # prefixes that cannot be routed, by interface
        for prefix, ways in routed_prefixes(config).items():
            alive = [way for way in ways if way[0] not in context.withdrawn]
            self.prefixes[prefix] = len(ways)
            for interface, metric in dict.fromkeys(alive or ways):  # tunnels by the thousand may have one remote network
                if prefix.version == 6 and interface in context.without_ipv6:
                    without.setdefault(interface, []).append(prefix)
                else:
                    self._add(prefix, interface, metric)
        self._notes |= {_no_ipv6(interface, prefixes): None for interface, prefixes in without.items()}

    @property
    def wanted(self) -> list[routes.Route]:
        return list(self._wanted.values())

    @property
    def notes(self) -> list[str]:
        return list(self._notes)

    def _add(self, prefix: Network, interface: str, metric: int) -> routes.Route:
        source = self._sources[interface].to(prefix)
        route = routes.Route(prefix, self._context.devices[interface], metric, source.address, self.mtus.get(prefix))
        if self._wanted.setdefault((prefix, metric), route).interface != route.interface:
            raise HostError(f"{prefix} is routed into two interfaces with metric {metric}; give one [[route]] another metric")
        if source.missing:
            self._notes[no_source(prefix, interface, source)] = None
        return route

    def suits(self, config: Config, mtus: Mapping[str, int]) -> bool:
        """Whether these are certainly the routes for such MTUs too; False: they have to be worked out."""
        return self._tunnels is config.tunnels and (mtus == self._mtus or self._as_wide(config, mtus))

    def _as_wide(self, config: Config, mtus: Mapping[str, int], but: Collection[str] = ()) -> bool:
        """`but`: names of tunnels that are not looked at."""
        same = all(mtus.get(name) == mtu for name, mtu in self._mtus.items() if name not in but)
        return same and interface_mtus(config.tunnels, mtus) == self._wide

    def adapt(self, config: Config, context: RouteContext, mtus: Mapping[str, int]) -> RouteChange | None:
        """Becomes the plan of `config`, where few tunnels came or went that change no other's routes: what that changes.
        None: it cannot, and is of no use any more."""
        changes = few_changes(self._tunnels, config.tunnels)
        if changes is None or context != self._context:
            return None
        gone = {tunnel.name for tunnel in changes.removed}
        if not self._as_wide(config, mtus, gone) or any(route.tunnel in gone for route in context.written):
            return None
        removed = self._remove(changes.removed)
        added = None if removed is None else self._extend(changes.added, mtus)
        if removed is None or added is None:
            return None
        self._tunnels = config.tunnels
        same = set(added) & set(removed)
        added, removed = [each for each in added if each not in same], [each for each in removed if each not in same]
        if not {each.prefix for each in added}.isdisjoint(each.prefix for each in removed):
            return None
        return RouteChange(added, removed)

    def _remove(self, tunnels: Sequence[Tunnel]) -> list[routes.Route] | None:
        """Their routes, where nothing else depends on these tunnels."""
        found: list[routes.Route] = []
        for tunnel in tunnels:
            own, sources = dict.fromkeys(tunnel.routes), self._sources[tunnel.interface]
            lent = (prefix for selector in tunnel.selectors for prefix in selector.remote.prefixes if prefix not in own)
            if not self._bare(tunnel) or any(self.prefixes[each] != 1 for each in own) or any(map(self.prefixes.get, lent)):
                return None
            for prefix in own:
                source = sources.to(prefix)
                if source.missing:
                    self._notes.pop(no_source(prefix, tunnel.interface, source), None)
                found.append(self._wanted.pop((prefix, routes.METRIC)))
                del self.prefixes[prefix]
            if not sources.remove(tunnel.selectors):
                return None
        names, prefixes = {tunnel.name for tunnel in tunnels}, {route.prefix for route in found}
        self._mtus = _but(self._mtus, names)
        self.mtus = _but(self.mtus, prefixes)
        return found

    def _extend(self, tunnels: Sequence[Tunnel], mtus: Mapping[str, int]) -> list[routes.Route] | None:
        """Their routes, where these tunnels change no other's."""
        found: list[routes.Route] = []
        for tunnel in tunnels:
            sources = self._sources.get(tunnel.interface)
            if sources is None or not sources.apart(tunnel.selectors) or any(prefix in self.prefixes for prefix in tunnel.routes):
                return None
            if not self._bare(tunnel):
                return None
            sources.add(tunnel.selectors)
            self._mtus = self._mtus | {tunnel.name: mtus[tunnel.name]}
            self.mtus = self.mtus | narrowed(((prefix, tunnel) for prefix in tunnel.routes), self._wide, mtus)
            for prefix in dict.fromkeys(tunnel.routes):
                self.prefixes[prefix] = 1
                found.append(self._add(prefix, tunnel.interface, routes.METRIC))
        return found

    def _bare(self, tunnel: Tunnel) -> bool:
        """Whether no note names several of its prefixes together."""
        return tunnel.interface not in self._context.without_ipv6 or all(prefix.version == 4 for prefix in tunnel.routes)


def _but(mapping: Mapping[Key, int], keys: Collection[Key]) -> dict[Key, int]:
    """Without `keys`. Another mapping, since `suits` may be asked by another thread."""
    made = dict(mapping)
    for key in keys:
        made.pop(key, None)
    return made


def _no_ipv6(interface: str, prefixes: Sequence[Network]) -> str:
    return (
        f"IPv6 is disabled on {interface} by this host's settings: {named(prefixes, PREFIXES_NAMED)} stay unreachable; "
        "to carry IPv6: sysctl -w net.ipv6.conf.all.disable_ipv6=0"
    )
