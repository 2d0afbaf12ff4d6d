"""This machine's kernel as the host of one gateway, in the network namespace of the calling thread."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.host import HostError, claim, privilege
from ipsec_dp.host.conntrack import KernelFlows
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.network import remains, workers
from ipsec_dp.network.foreign_rules import ForeignRules
from ipsec_dp.network.guard import LinuxGuard
from ipsec_dp.network.inheritance import InheritedHost
from ipsec_dp.network.interfaces import LinuxInterfaces
from ipsec_dp.network.kernel_watch import KernelWatch
from ipsec_dp.network.outer_sockets import SocketLinks
from ipsec_dp.network.peer_routes import KernelRoutes, PeerRoutes
from ipsec_dp.network.reports import KernelReports
from ipsec_dp.network.routing import LinuxRouting
from ipsec_dp.util import os_errors
from ipsec_dp.util.conditions import Conditions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.network.inheritance import Descriptors, InheritedLink
    from ipsec_dp.util.clock import Clock

NOT_PERMITTED = "run it as root, or by the service unit: guard and routes take CAP_NET_ADMIN"
OWNED = "another program keeps that table for itself (`flags owner` in `nft list ruleset`): stop that program"


class LinuxHost:
    """`network.host.Host`: its parts, and what takes several of them in order."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._netlink: AsyncIPRoute | None = None
        self._peers: PeerRoutes | None = None
        self._open = AsyncExitStack()
        self.changing = asyncio.Lock()
        self.conditions = Conditions(clock)
        self.guard = LinuxGuard(config, lambda: self.peers, self._ipr, lambda: self.interfaces.indices, self.conditions)
        self.interfaces = LinuxInterfaces(config, self._ipr, self.guard.exempt, self.conditions)
        self.routing = LinuxRouting(config, self._ipr, self.interfaces, ForeignRules(self.conditions))
        self.flows = KernelFlows()
        self.reports = KernelReports(clock)
        self._clock = clock
        self._watch: KernelWatch | None = None
        self._claim: claim.Claim | None = None
        self._links: SocketLinks | None = None
        self._inherited_links: list[tuple[InheritedLink, Descriptors]] = []

    def _ipr(self) -> AsyncIPRoute:
        if self._netlink is None:
            raise HostError("rtnetlink is not open")
        return self._netlink

    @property
    def peers(self) -> PeerRoutes:
        if self._peers is None:
            self._peers = PeerRoutes(KernelRoutes(self._ipr()))
        return self._peers

    # ---- from another process, and to one

    def inherited(self, descriptor: Callable[[int], int]) -> InheritedHost:
        """What the process that goes on needs of this one. `descriptor` gives the place of one in what is handed over. HostError:
        something is not as it should be just now."""
        held = None if self._claim is None else self._claim.descriptor
        return InheritedHost(
            claim=-1 if held is None else descriptor(held),
            tuns=self.interfaces.inherited(descriptor),
            links=[] if self._links is None else self._links.inherited(descriptor),
            mtus=self.interfaces.mtus,
            withdrawn=sorted(self.routing.withdrawn),
        )

    async def take(self, host: InheritedHost, descriptors: Descriptors) -> None:
        """Instead of `close_guard`, while the other process still runs: nothing in the kernel changes. `go_on` follows when it has
        gone. HostError."""
        if host.claim >= 0:
            self._claim = claim.Claim.inherited(descriptors.take(host.claim))
            self._open.callback(self._claim.close)
        self._inherited_links = [(each, descriptors) for each in host.links]
        self.interfaces.take(host.tuns, host.mtus, descriptors.take)
        self.routing.take(frozenset(host.withdrawn))
        await self._open_netlink()

    async def go_on(self) -> None:
        """The other process has gone: what it kept in the kernel is compared with what the configuration wants, and is kept from
        now on. Routes follow by `routing.start`. HostError."""
        await self._close(self._begin_watch, held=False)

    async def _open_netlink(self) -> None:
        try:
            self._netlink = await self._open.enter_async_context(open_netlink())
        except OSError as error:
            raise HostError(f"rtnetlink: {os_errors.text_of(error)}") from error

    @property
    def links(self) -> SocketLinks:
        """The outer sockets. HostError: there are none yet."""
        if self._links is None:
            raise HostError("there are no outer sockets yet")
        return self._links

    # ---- life

    async def close_guard(self) -> None:
        self._claim = claim.take(self._config.name)
        self._open.callback(self._claim.close)
        await self._open_netlink()
        # A dead gateway's interfaces are gone, and with them its routes into them.
        if routed := await self.routing.routed():
            raise claim.RunningError(self._config.name, f"{routed[0]} leads into its tunnel")
        await self._close(self._begin_watch)

    async def _begin_watch(self) -> None:
        """Before anything is made, so that no change of it by others goes unheard."""
        held, bypass = self.routing.table.held, self.routing.bypass
        self._watch = KernelWatch(*self.guard.tables, held, bypass, self.conditions, self._clock)
        self._watch.open()

    async def close_for(self, config: Config) -> None:
        self._config = config
        self.guard.reconfigure(config)
        self.routing.reconfigure(config)
        await self._close()

    async def _close(self, *first: Callable[[], Awaitable[None]], held: bool = True) -> None:
        """Each part holds alone, so each is made whatever becomes of the others. `held`: no route leads into a tunnel."""
        refused: dict[str, None] = {}
        denied: list[bool] = []  # each part
        parts: tuple[Callable[[], Awaitable[None]], ...] = (
            *first,
            self.guard.narrow,
            partial(self.guard.apply_zones, self._config),
            self.routing.apply_bypass,
            *((self.routing.hold,) if held else ()),
        )
        for part in parts:
            try:
                await part()
                denied.append(False)
            except HostError as error:
                refused[str(error)] = None
                denied.append(os.strerror(errno.EPERM) in str(error))
        if refused:  # nobody owns routes: whoever may change those is denied by an owner
            unprivileged = denied[-1] or not privilege.has(privilege.NET_ADMIN)
            remedy = [] if not any(denied) else [NOT_PERMITTED] if unprivileged else [OWNED]
            raise HostError("; ".join([*refused, *remedy]))

    async def remains(self) -> remains.Remains:
        return await remains.find(self._config.name)

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
        self._links = links = SocketLinks(plane, self._config.socket_buffer)
        for each, descriptors in self._inherited_links:
            links.take([each], descriptors.take)
        self._inherited_links.clear()
        return links

    def start_workers(self, plane: DataPlane) -> None:
        self.start_loops(plane)
        plane.start_ike()  # like the control plane before the loops: late, its queue overflows, and messages of peers are lost

    def start_loops(self, plane: DataPlane) -> None:
        """`start_workers`, without IKE: what comes to port 500 waits in its sockets."""
        before = workers.threads()
        plane.start(workers.pins(self._config.pin, plane.workers))
        workers.prefer_control_plane(workers.threads() - before)

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
