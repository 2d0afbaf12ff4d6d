"""What the host's own routing says about the world outside the tunnel."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from pyroute2.netlink.exceptions import NetlinkError

from ipsec_dp.host import MARK, HostError
from ipsec_dp.host.bulk import FAMILIES, UNICAST, Bulk
from ipsec_dp.host.netlink import ask, dump
from ipsec_dp.host.routes import MAIN

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.addresses import Address, AddressRange, Network


ROUTE_GOOD_S = 1.0
ROUTES_KEPT = 1024
ASKED_AT_ONCE = 16  # more answers than that may not fit into the netlink socket's buffer


@dataclass(frozen=True)
class OuterRoute:
    """How our outer packets get to a peer: from which address, by which interface, and in how many octets at the most."""

    source: Address
    interface: int
    mtu: int
    gateway: Address | None


async def outer_route(ipr: AsyncIPRoute, remote: Address) -> OuterRoute:
    """The route of our marked packets to `remote`, as the kernel would take it now. HostError when there is none."""
    what = f"no route to {remote}"
    (row, *_) = await ask(what, ipr.route("get", family=FAMILIES[remote.version], dst=str(remote), mark=MARK))
    source, interface, gateway = row.get("RTA_PREFSRC"), row.get("RTA_OIF"), row.get("RTA_GATEWAY")
    if source is None or not interface:
        raise HostError(f"{what}: the host has no address to send from")
    metrics = row.get("RTA_METRICS")
    mtu = (metrics.get("RTAX_MTU") if metrics else None) or await _interface_mtu(ipr, interface)
    return OuterRoute(ip_address(source), interface, mtu, None if gateway is None else ip_address(gateway))


async def way(ipr: AsyncIPRoute, destination: Address) -> str | None:
    """The interface by which the host's routing sends a packet without our mark; None when it refuses."""
    try:
        (row, *_) = await ipr.route("get", family=FAMILIES[destination.version], dst=str(destination))
        return socket.if_indextoname(row.get("RTA_OIF"))
    except (NetlinkError, OSError, TypeError):  # unreachable; an interface that has just gone; a route without one
        return None


class OuterRoutes:
    """`outer_route` for many tunnels: asked once in ROUTE_GOOD_S for each peer's address, however many tunnels lead there."""

    def __init__(self, ipr: AsyncIPRoute) -> None:
        self._ipr = ipr
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._known: dict[Address, tuple[float, asyncio.Task[OuterRoute]]] = {}

    async def get(self, remote: Address) -> OuterRoute:
        """The route to `remote`. HostError when there is none."""
        loop = asyncio.get_running_loop()
        at, task = self._known.get(remote, (-ROUTE_GOOD_S, None))
        if task is None or loop.time() - at >= ROUTE_GOOD_S:
            if len(self._known) >= ROUTES_KEPT:
                self._known.clear()
            task = loop.create_task(self._ask(remote))
            self._known[remote] = loop.time(), task
        return await asyncio.shield(task)

    async def _ask(self, remote: Address) -> OuterRoute:
        async with self._asking:
            return await outer_route(self._ipr, remote)


async def _interface_mtu(ipr: AsyncIPRoute, index: int) -> int:
    (link, *_) = await ask(f"interface {index}", ipr.link("get", index=index))
    return int(link.get("IFLA_MTU"))


async def inside_networks(outer: Collection[int]) -> list[Network]:
    """The networks of the main table that are reached by other interfaces than those with the indices `outer`.

    With a tunnel for everything, these are what is on this side of it (`guard.separate`). Default routes and link-local networks do
    not count; nor do networks of the interface through which the peer is reached, attached though they are.
    """
    networks: set[Network] = set()
    with Bulk() as bulk:
        rows = [row for version in FAMILIES for row in await bulk.routes(version, table=MAIN)]
    for row in rows:
        inside = row.kind == UNICAST and row.interface and row.interface not in outer
        if inside and row.prefix.prefixlen and not row.prefix.is_link_local:
            networks.add(row.prefix)
    return sorted(networks, key=lambda each: (each.version, int(each.network_address), each.prefixlen))


async def own_address_in(ipr: AsyncIPRoute, ranges: Collection[AddressRange]) -> Address | None:
    """An address of this host in one of the ranges: what the gateway's own packets must come from to match a proxy ID."""
    rows: list[Any] = await dump(ipr.get_addr, family=socket.AF_UNSPEC)
    for row in rows:
        text = row.get("IFA_LOCAL") or row.get("IFA_ADDRESS")
        address = ip_address(text)
        if any(each.version == address.version and int(each.low) <= int(address) <= int(each.high) for each in ranges):
            return address
    return None


async def own_addresses(ipr: AsyncIPRoute) -> list[Address]:
    """The addresses of this host that others can call: neither loopback nor link-local."""
    rows: list[Any] = await dump(ipr.get_addr, family=socket.AF_UNSPEC)
    found = {ip_address(row.get("IFA_LOCAL") or row.get("IFA_ADDRESS")) for row in rows}
    return sorted(
        (each for each in found if not each.is_loopback and not each.is_link_local), key=lambda each: (each.version, each)
    )
