"""Where peers are and how this host reaches them, as its routing and DNS are now: addresses, sources, first hops."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.dataplane import Encapsulation, Endpoint, OuterPath
from ipsec_dp.host import HostError, sockets
from ipsec_dp.host.decision import Decisions
from ipsec_dp.host.names import RouteSource, routes_to
from ipsec_dp.host.outer import OuterRoutes, link_mtus, own_addresses
from ipsec_dp.network.outer_header import with_outer_header
from ipsec_dp.network.peer_names import PeerNames
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.host.decision import Way
    from ipsec_dp.host.outer import OuterRoute
    from ipsec_dp.host.routing_rules import RouteQuestion
    from ipsec_dp.ipsec.addresses import Address

log = logging.getLogger(__name__)

OUTER_MTU = 1500  # where no route says otherwise yet


class RouteLookup(RouteSource, Protocol):
    """What the host's routing says now."""

    def forget(self) -> None:
        """Routes are others now: they are asked for anew."""

    async def own_addresses(self) -> set[Address]:
        """The addresses of this host that others can call."""

    async def way(self, asked: RouteQuestion) -> Way:
        """What the host's routing decides about a packet that is not our own. Raises HostError."""

    def link_mtus(self) -> dict[str, int]:
        """The MTU of each interface of the host, in octets."""


class LinkSource(Protocol):
    """Who has the outer sockets."""

    def link(self, local: Endpoint, encapsulation: Encapsulation) -> int:
        """The data plane's link for a local address."""


class KernelRoutes(OuterRoutes):
    """`RouteLookup` in the network namespace that `ipr` was opened in."""

    def __init__(self, ipr: AsyncIPRoute) -> None:
        super().__init__(ipr)
        self._netlink = ipr

    async def own_addresses(self) -> set[Address]:
        return set(await own_addresses(self._netlink))

    async def way(self, asked: RouteQuestion) -> Way:
        with Decisions() as kernel:
            return kernel.way(asked)

    def link_mtus(self) -> dict[str, int]:
        return link_mtus()


class PeerRoutes:
    """The way to the peers of one gateway's tunnels. What is wrong is in the log once."""

    def __init__(self, routes: RouteLookup) -> None:
        self._routes = routes
        self.names = PeerNames()
        self._logged: set[str] = set()

    def forget(self) -> None:
        """Routes are others now: they are asked for anew."""
        self._routes.forget()

    async def locate(self, tunnel: Tunnel, remote: Address | str, turn: int = 0) -> tuple[Address, Address]:
        """The address of a remote and ours towards it, as routing and DNS are now. Raises HostError.

        Of several addresses with a route, each `turn` takes the next one. A name is asked for.
        """
        found = await routes_to(remote, await self.names.addresses_to_call(remote), tunnel.local, self._routes)
        address, route = found[turn % len(found)]
        return address, tunnel.local or route.source

    async def way(self, asked: RouteQuestion) -> Way:
        """What the host's routing decides about a packet that is not our own. Raises HostError."""
        return await self._routes.way(asked)

    async def _routes_known(self, tunnel: Tunnel, remote: Address | str) -> list[tuple[Address, OuterRoute]]:
        """By what a name is known to mean, without asking again."""
        ((_, addresses),) = await self.names.addresses([remote])
        if not addresses:
            raise HostError(f"{remote} has no address that is known")
        return await routes_to(remote, addresses, tunnel.local, self._routes)

    async def own_addresses(self) -> set[Address]:
        """The addresses of this host that others can call."""
        return await self._routes.own_addresses()

    async def listen_at(self, tunnels: Iterable[Tunnel]) -> set[Address]:
        """Our addresses at which peers may call these tunnels, of those that this host has now.

        Who has a name may call from anywhere. A remote without a route gives none yet; nor does a `local` that is not ours.
        """
        found: set[Address] = set()
        own = await self.own_addresses()
        for tunnel in tunnels:
            if tunnel.auth is None:
                continue
            if tunnel.local is not None:
                if tunnel.local in own or tunnel.local.is_link_local:
                    found.add(tunnel.local)
                else:
                    self._log_once(f'tunnel "{tunnel.name}": local {tunnel.local} is not an address of this host; waiting for it')
            elif tunnel.anywhere:
                found |= own
            else:
                found |= await self._starts(tunnel)
        return found

    async def _starts(self, tunnel: Tunnel) -> set[Address]:
        found: set[Address] = set()
        for remote in tunnel.remotes:
            try:
                found |= {route.source for _, route in await self._routes_known(tunnel, remote)}
            except HostError as error:
                self._log_once(f'tunnel "{tunnel.name}": {error}')
        return found

    async def first_ends(self, tunnel: Tunnel) -> tuple[Address, Address] | None:
        """The peer that is called first and our address towards it; None when any peer may call, or its name means nothing now."""
        try:
            to = next(iter(tunnel.remotes), None)
            if to is None:
                return None
            address, route = (await self._routes_known(tunnel, to))[0]
            return address, tunnel.local or route.source
        except HostError as error:
            log.warning(
                'tunnel "%s": %s; taking an MTU of %d octets',
                tunnel.name,
                error,
                OUTER_MTU,
                extra=told("first_hop_unknown", tunnel=tunnel.name),
            )
            return None

    async def mtu(self, remote: Address, local: Address | None = None) -> int:
        """The MTU of the first hop from `local` to a peer, in octets; OUTER_MTU without a route."""
        try:
            return (await self._routes.get(remote, local)).mtu
        except HostError as error:
            log.debug("%s; taking an MTU of %d octets", error, OUTER_MTU, extra=told("first_hop_unknown"))
            return OUTER_MTU

    def link_mtus(self) -> dict[str, int]:
        """The MTU of each interface of the host, in octets."""
        return self._routes.link_mtus()

    async def path(self, tunnel: Tunnel, links: LinkSource) -> OuterPath:
        """The path of a manual tunnel. Raises HostError, naming the tunnel."""
        if not tunnel.remotes:
            raise HostError(f'tunnel "{tunnel.name}": remote = "any" needs IKE; name the peer\'s address')
        try:
            remote, local = await self.locate(tunnel, tunnel.remotes[0])
        except HostError as error:
            raise HostError(f'tunnel "{tunnel.name}": {error}') from error
        udp = tunnel.encapsulation == "udp"
        port = sockets.NAT_PORT if udp else 0
        ends = Endpoint(local, port), Endpoint(remote, port)
        encapsulation = Encapsulation.UDP if udp else Encapsulation.ESP
        return with_outer_header(OuterPath(*ends, encapsulation, links.link(ends[0], encapsulation)), tunnel.packets)

    async def outer_interfaces(self, config: Config) -> set[int]:
        """Indices of the interfaces by which peers are reached now; a peer without a route has none."""
        found: set[int] = set()
        await self.names.addresses(remote for tunnel in config.tunnels for remote in tunnel.remotes)
        for tunnel in config.tunnels:
            for remote in tunnel.remotes:
                try:
                    found.update(route.interface for _, route in await self._routes_known(tunnel, remote))
                except HostError as error:
                    self._log_once(f'tunnel "{tunnel.name}": {error}')
        return found

    def _log_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            log.warning("%s", text, extra=told("way_to_peer"))
