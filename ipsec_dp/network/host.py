"""The gateway's dealings with its host: guard, TUN interfaces, outer sockets, MTU, routes.

What `make_interfaces` and `add_routes` make is undone by the exit stack they are given; the guard alone outlives it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from ipsec_dp.config.bypass import plan as bypass_plan
from ipsec_dp.dataplane import owner_of
from ipsec_dp.host import HostError, bypass, guard, nft, routes, tun, zones
from ipsec_dp.host.guard_growth import Planner
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.outer import inside_networks, own_sources
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network.carrier import followed
from ipsec_dp.network.desired import GuardSelectors, routed_prefixes, zone_rule
from ipsec_dp.network.interface_mtu import interface_mtu, route_mtus
from ipsec_dp.network.peer_routes import Ways
from ipsec_dp.network.route_plan import Around, Lead
from ipsec_dp.network.source_address import Sources
from ipsec_dp.network.workers import attach_interface, detach_interface

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ipsec.addresses import Address, Interface, Network

log = logging.getLogger("ipsec_dp")


class HostSide:
    """One gateway's host, in the network namespace of the calling thread."""

    def __init__(self, config: Config, spd: Spd) -> None:
        self._config = config
        self._spd = spd
        self._guard = guard.Guard(config.name, Planner().plan)
        self._zones = zones.Zones(config.name)
        self._netlink: AsyncIPRoute | None = None
        self._ways: Ways | None = None
        self._open = AsyncExitStack()
        self._tuns: dict[str, tun.Tun] = {}
        self._plane: DataPlane | None = None
        self._routes: routes.RouteTable | None = None
        self._addresses: dict[str, set[Interface]] = {}  # by interface
        self._routing = asyncio.Lock()  # a reload and a monitor may ask at once
        self._withdrawn: frozenset[str] = frozenset()  # interfaces that get no routes if others have them, see `withdraw`
        self.notes: list[str] = []  # what a person should know about routes now
        self._leading = False
        self._lead: Lead | None = None  # whose routes `_table` left
        self._guard_selectors = GuardSelectors()
        self._guarded_now: list[guard.GuardRule] | None = None  # None: more than this configuration wants
        self._guarded_then: list[guard.GuardRule] = []  # of the configuration that the guard was widened for
        self.changing = asyncio.Lock()  # held by whoever makes the host follow something
        self._mtus: dict[str, int] = {}  # the largest packet that each tunnel is to get from the kernel
        self._interface_mtus: dict[str, int] = {}
        self._route_mtus: dict[Network, int] | None = None  # None: our routes lead nowhere

    @property
    def _ipr(self) -> AsyncIPRoute:
        if self._netlink is None:
            raise HostError("rtnetlink is not open")
        return self._netlink

    @property
    def ways(self) -> Ways:
        """To the peers; from `close_guard` to `close`."""
        if self._ways is None:
            self._ways = Ways(self._ipr)
        return self._ways

    @property
    def _table(self) -> routes.RouteTable:
        """Kept, so that `change` knows what it left."""
        if self._routes is None:
            self._routes = routes.RouteTable(self._ipr, self._config.name)
        self._routes.tunnels = frozenset(device.index for device in self._tuns.values())
        return self._routes

    @property
    def _bypass(self) -> bypass.BypassRules:
        return bypass.BypassRules(self._ipr, self._config.name)

    @property
    def unguard_hint(self) -> str:
        """How a person takes the guard away by hand."""
        return f"and nothing but `nft delete table inet {self._guard.table}` opens it"

    async def close(self) -> None:
        self._netlink = self._ways = None
        await self._open.aclose()

    # ---- guard

    @property
    def _routed(self) -> dict[Network, list[tuple[str, int]]]:
        return routed_prefixes(self._config)

    async def close_guard(self) -> None:
        """Lets nothing protected past the tunnels from now on; adopts what a killed process left.

        Raises HostError, with nothing touched, when a gateway of this name still runs here: a dead one's interfaces are gone, and
        with them its routes into them.
        """
        self._netlink = await self._open.enter_async_context(open_netlink())
        if routed := await self._table.routed():
            raise HostError(
                f"gateway {self._config.name} is already running in this network namespace: {routed[0]} leads into its tunnel; "
                "stop it, or give this one another name"
            )
        try:
            await self.narrow_guard()
            await self.apply_zones(self._config)
        except HostError:
            log.warning("without the guard, unreachable routes alone keep protected traffic back; the next `up` adopts them")
            raise
        finally:
            await self._apply_bypass()
            await self._table.apply(self._routed, ())

    async def _apply_bypass(self) -> None:
        await self._bypass.apply(bypass_plan(self._config.policies).matches)

    async def _guarded_by(self, config: Config) -> list[guard.GuardRule]:
        """What a configuration keeps from leaving or coming in clear."""
        selectors, overlapping = await asyncio.to_thread(self._guard_selectors.of, config)
        if not overlapping:
            return selectors
        inside = [AddressRange.of(network) for network in await inside_networks(await self.ways.outer_interfaces(config))]
        return await asyncio.to_thread(guard.separate, selectors, inside)

    async def widen_guard(self, config: Config) -> None:
        """Keeps closed what the present configuration keeps closed, and what `config` does, whose interfaces may be used too."""
        self._guarded_now = None
        self._guarded_then = await self._guarded_by(config)
        await self._guard.widen(self._guarded_then, {tunnel.interface for tunnel in config.tunnels})

    async def narrow_guard(self) -> None:
        """Keeps closed what the present configuration does, and nothing else."""
        await self._close(await self._guarded_by(self._config))

    async def _close(self, wanted: list[guard.GuardRule]) -> None:
        await self._guard.apply(wanted, {tunnel.interface for tunnel in self._config.tunnels})
        self._guarded_now = wanted

    async def settle_guard(self) -> None:
        """Keeps closed what the configuration says that the guard was widened for, and nothing else."""
        await self._guard.settle()
        self._guarded_now = self._guarded_then

    async def apply_zones(self, config: Config) -> None:
        """Makes the kernel judge what passes between zones as `config` says, and nothing else."""
        wanted = [zones.Zone(zone.name, zone.interfaces) for zone in config.zones]
        interfaces = {tunnel.interface for tunnel in config.tunnels}
        await self._zones.apply(wanted, [zone_rule(rule) for rule in config.zone_rules], interfaces)

    async def open_guard(self) -> None:
        """Takes the guard and every route of ours away."""
        await self._table.remove()
        await self._bypass.remove()
        await self._zones.remove()
        await self._guard.remove()

    async def guard_counts(self) -> dict[str, int]:
        """Packets that the guard dropped."""
        return {name: count.packets for name, count in (await self._guard.counts()).items()}

    async def zone_counts(self) -> dict[str, Any] | None:
        """Of `status`: packets dropped because no rule let them, and what each rule held; None without zones."""
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

    # ---- interfaces

    async def make_interfaces(self, stack: AsyncExitStack, plane: DataPlane) -> None:
        """Makes every TUN interface and gives it to the data plane; down until `set_mtus`."""
        self._plane = plane
        stack.callback(self._remove_interfaces, self._tuns)
        for name in dict.fromkeys(tunnel.interface for tunnel in self._config.tunnels):
            self._make_interface(name)

    def _make_interface(self, name: str) -> None:
        numbers, plane = self._spd.tunnel_numbers, self._attached_to
        owners = [(tunnel, owner_of(numbers[tunnel.name], plane.workers)) for tunnel in self._tunnels_of(name)]
        remotes = [(prefix, owner) for tunnel, owner in owners for s in tunnel.selectors for prefix in s.remote.prefixes]
        self._tuns[name] = attach_interface(plane, name, self._spd.interface_numbers[name], remotes)
        if name in followed(self._config.tunnels).values():  # before anybody sees it up
            self.set_carrier(name, False)

    def _remove_interfaces(self, names: Iterable[str]) -> None:
        for name in list(names):
            detach_interface(self._attached_to, self._spd.interface_numbers[name])
            self._tuns.pop(name).close()
            self._addresses.pop(name, None)

    @property
    def _attached_to(self) -> DataPlane:
        if self._plane is None:
            raise HostError("there is no data plane yet")
        return self._plane

    async def follow(self, config: Config, mtus: Mapping[str, int]) -> None:
        """Interfaces and their addresses as another configuration wants them; none goes before `finish`. `mtus` are those of new
        tunnels."""
        present, new = set(self._tuns), {tunnel.interface for tunnel in config.tunnels}
        self._config = config
        self._mtus.update(mtus)
        made: list[str] = []
        try:
            for name in sorted(new - present):
                self._make_interface(name)
                made.append(name)
                await self._configure(name)
        except HostError:
            self._remove_interfaces(made)
            raise
        concerned = {config.tunnel(name).interface for name in mtus}
        for name in sorted(concerned - set(made)):
            await self._configure(name)

    def finish(self) -> list[str]:
        """Takes away the interfaces that no tunnel has any more; their names."""
        stale = sorted(set(self._tuns) - {tunnel.interface for tunnel in self._config.tunnels})
        self._remove_interfaces(stale)
        gone = [name for name in self._mtus if not self._config.has_tunnel(name)]
        for name in gone:
            del self._mtus[name]
        return stale

    async def set_mtus(self, mtus: Mapping[str, int]) -> None:
        """Addresses every interface, gives it the largest MTU of its tunnels (by name, octets) and brings it up."""
        self._mtus = dict(mtus)
        for name in self._tuns:
            await self._configure(name)

    async def _configure(self, name: str) -> None:
        device = self._tuns[name]
        addresses = [address for tunnel in self._tunnels_of(name) for address in tunnel.addresses]
        self._interface_mtus[name] = await asyncio.to_thread(self._interface_mtu, name)
        await tun.configure(self._ipr, device, addresses, self._interface_mtus[name])
        await tun.remove_addresses(self._ipr, device, self._addresses.get(name, set()) - set(addresses))
        self._addresses[name] = set(addresses)
        for refused in device.unset:
            log.warning("interface %s: a setting stays as it was: %s", name, refused)

    def set_carrier(self, interface: str, on: bool) -> None:
        """Whether an interface shows a carrier. One that cannot (before Linux 5.0) keeps it: what finds no SA is dropped."""
        try:
            self._tuns[interface].set_carrier(on)
        except HostError as error:
            log.warning("%s", error)

    async def apply_mtus(self, mtus: Mapping[str, int]) -> None:
        """Interfaces and routes follow their tunnels' MTUs (by name, octets). HostError."""
        self._mtus = dict(mtus)
        for name in dict.fromkeys(tunnel.interface for tunnel in self._config.tunnels):  # a reload takes others away afterwards
            device, mtu = self._tuns[name], await asyncio.to_thread(self._interface_mtu, name)
            if self._interface_mtus[name] != mtu:
                self._interface_mtus[name] = mtu
                await tun.set_mtu(self._ipr, device, mtu)
        if self._lead is not None and await asyncio.to_thread(self._lead.suits, self._config, self._mtus):
            return
        if self._route_mtus is not None and self._route_mtus != await asyncio.to_thread(route_mtus, self._config, mtus):
            await self.follow_routes()

    def mtu_of(self, tunnel: str) -> int:
        """The largest packet that a tunnel gets from the kernel, in octets."""
        return self._mtus[tunnel]

    def _tunnels_of(self, interface: str) -> list[Tunnel]:
        return [tunnel for tunnel in self._config.tunnels if tunnel.interface == interface]

    def _interface_mtu(self, interface: str) -> int:
        return interface_mtu(self._tunnels_of(interface), self._mtus)

    # ---- routes

    async def add_routes(self, stack: AsyncExitStack) -> None:
        """Leads every routed prefix into its interface; back to unreachable when the stack is left."""
        stack.push_async_callback(self._hold_routes)
        await self.follow_routes()

    async def _hold_routes(self) -> None:
        self._leading = False
        self._route_mtus = self._lead = None
        await self._table.apply(self._routed, ())

    async def withdraw(self, interfaces: frozenset[str]) -> None:
        """Takes our routes into these interfaces away, and brings back those into others; what is protected stays unreachable.

        A route without another of ours to take over stays: with it would go the way of the answers that say the tunnel is back.
        Raises HostError.
        """
        self._withdrawn = interfaces
        await self.follow_routes()

    async def follow_routes(self, *, known: bool = False) -> None:
        """Leads what the configuration routes into its interfaces, but for what bypasses it, as the host is now.

        What stands in the way is in `notes`, and in the log when it is new. HostError when the kernel refuses.
        """
        self._leading = True
        async with self._routing:
            await self._apply_bypass()
            await self._apply_routes(known=known)

    async def _apply_routes(self, *, known: bool) -> None:
        own = await own_sources(self._ipr)
        config, devices = self._config, {name: device.index for name, device in self._tuns.items()}
        mtus, around = dict(self._mtus), Around(devices, own, self._withdrawn, config.routes)
        lead, self._lead = self._lead, None
        table, conflicts = self._table, []
        if not (known and lead is not None and await self._extend(lead, config, around, mtus)):
            lead = await asyncio.to_thread(Lead, config, around, mtus)
            conflicts = await (table.change if known else table.apply)(lead.prefixes, lead.wanted)
        self._lead, self._route_mtus = lead, lead.mtus
        self._tell([*(f"route {conflict}" for conflict in conflicts), *lead.notes])

    async def _extend(self, lead: Lead, config: Config, around: Around, mtus: Mapping[str, int]) -> bool:
        """Adds the routes of tunnels that came; False: all has to be looked at."""
        added = await asyncio.to_thread(lead.grow, config, around, mtus)
        return added is not None and await self._table.extend(added)

    async def probe_source(self, tunnel: Tunnel, target: Address) -> Address | None:
        """Our address that a tunnel carries echo requests to `target` from: its interface's own, else another of this host."""
        carriers = [selector for selector in tunnel.selectors if selector.version == target.version]
        for address in tunnel.addresses:
            if any(selector.local.contains(address.ip) for selector in carriers):
                return address.ip
        fitting = Sources(tunnel.interface, [each for each in carriers if not each.local.everything], await own_sources(self._ipr))
        return fitting.any_address()

    def _tell(self, notes: list[str]) -> None:
        for note in notes:
            if note not in self.notes:
                log.warning("%s", note)
        self.notes = notes

    async def follow_host(self) -> None:
        """The host's addresses and routes are others now: guard and routes become what they then should be. Raises HostError."""
        self.ways.forget()
        wanted = await self._guarded_by(self._config)
        if self._guarded_now is not None and wanted != self._guarded_now:
            await self._close(wanted)
        if self._leading:
            await self.follow_routes()
