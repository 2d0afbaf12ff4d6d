"""This machine's kernel as the host of one gateway, in the network namespace of the calling thread."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ipsec_dp.host import HostError
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.network import workers
from ipsec_dp.network.foreign_rules import ForeignRules
from ipsec_dp.network.guard import LinuxGuard
from ipsec_dp.network.interfaces import LinuxInterfaces
from ipsec_dp.network.kernel_watch import KernelWatch
from ipsec_dp.network.outer_sockets import SocketLinks
from ipsec_dp.network.peer_routes import KernelRoutes, PeerRoutes
from ipsec_dp.network.reports import KernelReports
from ipsec_dp.network.routing import LinuxRouting
from ipsec_dp.util.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.util.clock import Clock

log = logging.getLogger("ipsec_dp")


class LinuxHost:
    """`network.host.Host`: its parts, and what takes several of them in order."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._netlink: AsyncIPRoute | None = None
        self._peers: PeerRoutes | None = None
        self._open = AsyncExitStack()
        self.changing = asyncio.Lock()
        self.guard = LinuxGuard(config, lambda: self.peers)
        self.interfaces = LinuxInterfaces(config, self._ipr)
        self.conditions = Conditions(clock)
        self.routing = LinuxRouting(config, self._ipr, self.interfaces, ForeignRules(self.conditions))
        self.reports = KernelReports(clock)
        self._clock = clock
        self._watch: KernelWatch | None = None

    def _ipr(self) -> AsyncIPRoute:
        if self._netlink is None:
            raise HostError("rtnetlink is not open")
        return self._netlink

    @property
    def peers(self) -> PeerRoutes:
        if self._peers is None:
            self._peers = PeerRoutes(KernelRoutes(self._ipr()))
        return self._peers

    async def close_guard(self) -> None:
        self._netlink = await self._open.enter_async_context(open_netlink())
        # A dead gateway's interfaces are gone, and with them its routes into them.
        if routed := await self.routing.routed():
            raise HostError(
                f"gateway {self._config.name} is already running in this network namespace: {routed[0]} leads into its tunnel; "
                "stop it, or give this one another name"
            )
        try:
            await self.guard.narrow()
            await self.guard.apply_zones(self._config)
        except HostError:
            log.warning("without the guard, unreachable routes alone keep protected traffic back; the next `up` adopts them")
            raise
        finally:
            await self.routing.apply_bypass()
            await self.routing.hold()
        self._watch = KernelWatch(*self.guard.tables, self.routing.table.held, self.conditions, self._clock)
        self._watch.open()

    @property
    def restored(self) -> Mapping[str, int]:
        return {} if self._watch is None else self._watch.restored

    async def verify(self) -> None:
        if self._watch is not None:
            await self._watch.verify()

    async def open_guard(self) -> None:
        await self._end_watch()
        await self.routing.remove()
        await self.guard.remove()

    async def _end_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()

    async def close(self) -> None:
        await self._end_watch()
        self._netlink = self._peers = None
        await self._open.aclose()

    def outer_links(self, plane: DataPlane) -> SocketLinks:
        return SocketLinks(plane)

    def start_workers(self, plane: DataPlane) -> None:
        plane.start(workers.pins(self._config.pin, plane.workers))
        workers.prefer_control_plane()

    async def reconfigure(self, config: Config, mtus: Mapping[str, int]) -> None:
        self._config = config
        self.guard.reconfigure(config)
        self.routing.reconfigure(config)
        await self.interfaces.reconfigure(config, mtus)

    def remove_unused_interfaces(self) -> list[str]:
        return self.interfaces.remove_unused()

    async def apply_mtus(self, mtus: Mapping[str, int]) -> None:
        await self.interfaces.apply_mtus(mtus)
        await self.routing.apply_mtus()

    async def renew(self) -> None:
        self.peers.forget()
        if self._watch is not None:
            await self._watch.look()
        await self.guard.renew()
        await self.routing.renew()
