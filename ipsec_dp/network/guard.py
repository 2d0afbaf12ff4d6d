"""What the kernel keeps closed for a configuration: the guard around what is protected, and the rules between zones.

It outlives this process, and so has no exit stack: what it holds is narrowed, widened and taken away by name alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ipsec_dp.host import filter_listing, guard, guard_table, nft, zones
from ipsec_dp.host.guard_growth import Planner
from ipsec_dp.host.outer import inside_networks
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network.desired import GuardSelectors, zone_rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.config import Config
    from ipsec_dp.host.filters import Filter
    from ipsec_dp.network.peer_routes import PeerRoutes


class LinuxGuard:
    """`network.host.HostGuard` by nftables. `peers`: the way to the peers, where selectors overlap their own local side."""

    def __init__(self, config: Config, peers: Callable[[], PeerRoutes]) -> None:
        self._config, self._peers = config, peers
        self._guard = guard_table.Guard(config.name, Planner().plan)
        self._zones = zones.Zones(config.name)
        self._selectors = GuardSelectors()
        self._closed: list[guard.GuardRule] | None = None  # None: more than this configuration wants
        self._wanted: list[guard.GuardRule] = []  # of the configuration that the guard was widened for

    @property
    def tables(self) -> tuple[guard_table.Guard, zones.Zones]:
        """What the kernel has of it, guard and zones."""
        return self._guard, self._zones

    def reconfigure(self, config: Config) -> None:
        """What `narrow`, `renew` and `zone_counts` take for the present configuration; the kernel's tables stay."""
        self._config = config

    async def _guarded_by(self, config: Config) -> list[guard.GuardRule]:
        """What a configuration keeps from leaving or coming in clear."""
        selectors, overlapping = await asyncio.to_thread(self._selectors.of, config)
        if not overlapping:
            return selectors
        outer = await self._peers().outer_interfaces(config)
        inside = [AddressRange.of(network) for network in await inside_networks(outer)]
        return await asyncio.to_thread(guard.separate, selectors, inside)

    async def widen(self, config: Config) -> None:
        self._closed = None
        self._wanted = await self._guarded_by(config)
        await self._guard.widen(self._wanted, {tunnel.interface for tunnel in config.tunnels})

    async def narrow(self) -> None:
        await self._close(await self._guarded_by(self._config))

    async def renew(self) -> None:
        """Keeps closed what the present configuration does as the host is now, unless the guard is widened."""
        wanted = await self._guarded_by(self._config)
        if self._closed is not None and wanted != self._closed:
            await self._close(wanted)

    async def _close(self, wanted: list[guard.GuardRule]) -> None:
        await self._guard.apply(wanted, {tunnel.interface for tunnel in self._config.tunnels})
        self._closed = wanted

    async def settle(self) -> None:
        await self._guard.settle()
        self._closed = self._wanted

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
