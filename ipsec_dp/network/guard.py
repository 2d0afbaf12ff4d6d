"""What the kernel keeps closed for a configuration: the guard around what is protected, and the rules between zones.

It outlives this process, and so has no exit stack: what it holds is narrowed, widened and taken away by name alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ipsec_dp.host import filter_listing, guard, guard_table, nft, zones
from ipsec_dp.host.guard_growth import Planner
from ipsec_dp.host.outer import inside_networks
from ipsec_dp.host.routes import interface_name
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network.desired import GuardSelectors, zone_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config
    from ipsec_dp.host.filters import Filter
    from ipsec_dp.host.outer import InsideNetwork
    from ipsec_dp.network.peer_routes import PeerRoutes
    from ipsec_dp.util.conditions import Conditions


NARROWED = "narrowed guard"  # of conditions, their source
WHY_INSIDE = "a route of somebody else's, which a DHCP server can hand out, or an address that has an end"


class LinuxGuard:
    """`network.host.HostGuard` by nftables.

    `peers`: the way to the peers, where selectors overlap their own local side. `devices`: the interfaces of ours that there are,
    index by name; nothing else is exempt, whatever its name.
    """

    def __init__(
        self,
        config: Config,
        peers: Callable[[], PeerRoutes],
        netlink: Callable[[], AsyncIPRoute],
        devices: Callable[[], Mapping[str, int]],
        conditions: Conditions,
    ) -> None:
        self._config, self._peers, self._netlink, self._devices, self._conditions = config, peers, netlink, devices, conditions
        self._guard = guard_table.Guard(config.name, Planner().plan)
        self._zones = zones.Zones(config.name)
        self._selectors = GuardSelectors()
        self._closed: list[guard.GuardRule] | None = None  # None: more than this configuration wants
        self._wanted: list[guard.GuardRule] = []  # of the configuration that the guard was widened for
        self._next = config  # that configuration

    @property
    def tables(self) -> tuple[guard_table.Guard, zones.Zones]:
        """What the kernel has of it, guard and zones."""
        return self._guard, self._zones

    def reconfigure(self, config: Config) -> None:
        """What `narrow`, `renew` and `zone_counts` take for the present configuration; the kernel's tables stay."""
        self._config = config

    def _exempt(self, *configs: Config) -> set[guard.Device]:
        """Our interfaces that there are now, of those that these configurations have."""
        wanted = {tunnel.interface for config in configs for tunnel in config.tunnels}
        return {(index, name) for name, index in self._devices().items() if name in wanted}

    async def _guarded_by(self, config: Config) -> list[guard.GuardRule]:
        """What a configuration keeps from leaving or coming in clear."""
        selectors, overlapping = await asyncio.to_thread(self._selectors.of, config)
        if not overlapping:
            self._conditions.become(NARROWED, {})
            return selectors
        outer = await self._peers().outer_interfaces(config)
        found = await inside_networks(self._netlink(), outer | set(self._devices().values()))
        self._tell(config, selectors, [each for each in found if not each.fixed])
        inside = [AddressRange.of(each.prefix) for each in found if each.fixed or not config.strict]
        return await asyncio.to_thread(guard.separate, selectors, inside)

    def _tell(self, config: Config, selectors: Sequence[guard.GuardRule], foreign: Iterable[InsideNetwork]) -> None:
        """Networks that somebody else's route takes out of what is protected, or would without `strict`."""
        texts = {}
        for each in foreign:
            prefix = AddressRange.of(each.prefix)
            if not guard.narrows(selectors, prefix):
                continue
            to = f"{each.prefix} is reached through {interface_name(each.interface)} by {WHY_INSIDE}"
            bypass = f'a [[policy]] with action = "bypass" and remote = "{each.prefix}"'
            if config.strict:
                texts[str(prefix)] = f"{to}; it stays protected (strict), and what goes there is dropped; {bypass} lets it pass"
            else:
                texts[str(prefix)] = (
                    f"{to}, so the guard takes it for this side, and what goes there leaves in clear although selectors hold it; "
                    f"strict = true in [gateway] closes it; if it is meant, {bypass} says so"
                )
        self._conditions.become(NARROWED, texts)

    async def widen(self, config: Config) -> None:
        self._closed, self._next = None, config
        self._wanted = await self._guarded_by(config)
        await self._guard.widen(self._wanted, self._exempt(self._config, config))

    async def narrow(self) -> None:
        await self._close(await self._guarded_by(self._config))

    async def renew(self) -> None:
        """Keeps closed what the present configuration does as the host is now, unless the guard is widened."""
        wanted = await self._guarded_by(self._config)
        if self._closed is not None and wanted != self._closed:
            await self._close(wanted)

    async def _close(self, wanted: list[guard.GuardRule]) -> None:
        await self._guard.apply(wanted, self._exempt(self._config))
        self._closed = wanted

    async def settle(self) -> None:
        await self._guard.settle(self._exempt(self._next))
        self._closed = self._wanted

    async def exempt(self) -> None:
        """Interfaces of ours were made, or are about to go: those that there are now may carry what is protected, and no other."""
        await self._guard.exempt({(index, name) for name, index in self._devices().items()})

    async def apply_zones(self, config: Config) -> None:
        wanted = [zones.Zone(zone.name, zone.interfaces) for zone in config.zones]
        interfaces = {tunnel.interface for tunnel in config.tunnels}
        await self._zones.apply(wanted, [zone_rule(rule) for rule in config.zone_rules], interfaces)

    async def remove(self) -> None:
        """Takes the zones' table and then the guard away."""
        await self._zones.remove()
        await self._guard.remove()

    async def counts(self) -> dict[str, int]:
        return {name: count.packets for name, count in (await self._guard.counts()).items()}

    async def host_filter(self) -> Filter:
        return await filter_listing.host_filter()

    async def zone_counts(self) -> dict[str, Any] | None:
        if not self._config.zones:
            return None
        counts, rows = await self._zones.counts(), []
        for number, rule in enumerate(self._config.zone_rules, 1):
            count = counts.get(zones.counter_name(number, zone_rule(rule)), nft.Count())
            action = "allow" if rule.allow else "deny"
            rows.append(
                {"from": rule.from_zone, "to": rule.to_zone, "action": action, "packets": count.packets, "octets": count.octets}
            )
        return {"denied": counts.get(zones.DENIED, nft.Count()).packets, "rules": rows}
