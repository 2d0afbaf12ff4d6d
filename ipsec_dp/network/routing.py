"""The routes of a gateway: into its interfaces while it runs, unreachable before and after, and past both what may bypass.

Several ask at once (a reload, a monitor, a change of the host), so each takes its turn and finds what the one before it left.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.config.bypass import plan as bypass_plan
from ipsec_dp.host import bypass, routes, tun
from ipsec_dp.host.outer import own_sources
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.network.desired import routed_prefixes
from ipsec_dp.network.interface_mtu import route_mtus
from ipsec_dp.network.route_plan import RouteContext, RoutePlan
from ipsec_dp.network.source_address import Sources
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AsyncExitStack

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.ipsec.addresses import Address, Network
    from ipsec_dp.network.foreign_rules import ForeignRules
    from ipsec_dp.network.interfaces import LinuxInterfaces

log = logging.getLogger(__name__)


class LinuxRouting:
    """`network.host.HostRouting` by rtnetlink. It asks `interfaces` where routes lead, and how wide they are."""

    def __init__(
        self,
        config: Config,
        netlink: Callable[[], AsyncIPRoute],
        interfaces: LinuxInterfaces,
        foreign: ForeignRules | None = None,
    ) -> None:
        """`foreign`: what looks at the rules of others whenever routes are made."""
        self._config, self._netlink, self._interfaces, self._foreign = config, netlink, interfaces, foreign
        self.notes: list[str] = []
        self.table = routes.RouteTable(config.name)  # one, so that `change` knows what it left
        self.bypass = bypass.HeldBypass(config.name)
        self._turn = asyncio.Lock()
        self._withdrawn: frozenset[str] = frozenset()  # interfaces that get no routes if others have them, see `withdraw`
        self._open = False  # routes lead into the interfaces
        self._plan: RoutePlan | None = None  # whose routes the table has
        self._route_mtus: Mapping[Network, int] | None = None  # None: our routes lead nowhere

    @property
    def _table(self) -> routes.RouteTable:
        self.table.tunnels = frozenset(self._interfaces.indices.values())
        return self.table

    def reconfigure(self, config: Config) -> None:
        """What `apply` makes from its next call on."""
        self._config = config

    async def routed(self) -> list[Network]:
        """The prefixes that the kernel has routes of this gateway for, into an interface."""
        return await self._table.routed()

    async def apply_bypass(self) -> None:
        """Has the kernel route past the tunnels what the configuration lets bypass them."""
        await self.bypass.apply(bypass_plan(self._config.policies).matches)

    async def hold(self) -> None:
        """Makes every routed prefix unreachable."""
        self._open = False
        self._route_mtus = self._plan = None
        await self._table.apply(routed_prefixes(self._config), ())

    async def remove(self) -> None:
        """Takes every route and rule of this gateway away."""
        await self._table.remove()
        await self.bypass.remove()

    async def start(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.hold)
        await self.apply(known=await self._table.as_left())  # by `hold`, when the guard was closed

    @property
    def withdrawn(self) -> frozenset[str]:
        """The interfaces that have no routes now."""
        return self._withdrawn

    def take(self, withdrawn: frozenset[str]) -> None:
        """Before `start`: the kernel has routes of ours, and none into these interfaces."""
        self._withdrawn = withdrawn

    async def withdraw(self, interfaces: frozenset[str]) -> None:
        self._withdrawn = interfaces
        await self.apply()

    async def apply(self, *, known: bool = False) -> None:
        self._open = True
        async with self._turn:
            await self.apply_bypass()
            await self._apply(known=known)

    async def renew(self) -> None:
        """`apply`, where routes lead into the interfaces at all."""
        if self._open:
            await self.apply()

    async def apply_mtus(self) -> None:
        """`apply`, where the tunnels' MTUs mean other routes."""
        mtus = self._interfaces.mtus
        if self._plan is not None and await asyncio.to_thread(self._plan.suits, self._config, mtus):
            return
        if self._route_mtus is not None and self._route_mtus != await asyncio.to_thread(route_mtus, self._config, mtus):
            await self.apply()

    async def _apply(self, *, known: bool) -> None:
        own = await own_sources(self._netlink())
        config, mtus = self._config, self._interfaces.mtus
        devices = self._interfaces.indices
        without_ipv6 = frozenset(name for name in devices if not tun.has_ipv6(name))
        context = RouteContext(devices, own, self._withdrawn, config.routes, without_ipv6)
        plan, self._plan = self._plan, None
        table, conflicts = self._table, []
        if not (known and plan is not None and await self._adapt(plan, config, context, mtus)):
            plan = await asyncio.to_thread(RoutePlan, config, context, mtus)
            conflicts = await (table.change if known else table.apply)(plan.prefixes, plan.wanted)
        self._plan, self._route_mtus = plan, plan.mtus
        self._note([*(f"route {conflict}" for conflict in conflicts), *plan.notes])
        if self._foreign is not None:
            await self._foreign.look(config, own, self._interfaces.indices)

    async def _adapt(self, plan: RoutePlan, config: Config, context: RouteContext, mtus: Mapping[str, int]) -> bool:
        """Changes the routes of a few tunnels that came or went; False: all has to be looked at."""
        change = await asyncio.to_thread(plan.adapt, config, context, mtus)
        return change is not None and await self._table.adapt(*change)

    def _note(self, notes: list[str]) -> None:
        for note in notes:
            if note not in self.notes:
                log.warning("%s", note, extra=told("route_note"))
        self.notes = notes

    async def probe_source(self, tunnel: Tunnel, target: Address) -> Address | None:
        fitting = [selector for selector in tunnel.selectors if selector.version == target.version]
        for address in tunnel.addresses:
            own = AddressRange(address.ip, address.ip)
            if any(selector.local.covers(own) for selector in fitting):
                return address.ip
        named = [selector for selector in fitting if not selector.local.everything]
        return Sources(tunnel.interface, named, await own_sources(self._netlink())).any_address()
