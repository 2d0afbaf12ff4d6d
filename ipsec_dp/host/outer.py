"""What the host's own routing says about the world outside the tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from ipsec_dp.host import MARK, HostError
from ipsec_dp.host.bulk import FAMILIES, UNICAST, Bulk
from ipsec_dp.host.netlink import ask, dump
from ipsec_dp.host.routes import MAIN, interface_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.ipsec.addresses import Address, Network


PERMANENT = 0x80  # IFA_F_PERMANENT
UNUSABLE = 0x08 | 0x40  # IFA_F_DADFAILED, IFA_F_TENTATIVE
RTM_F_FIB_MATCH = 0x2000  # <linux/rtnetlink.h>
SIOCGIFMTU, IFREQ = 0x8921, struct.Struct("16si20x")  # <linux/sockios.h>, <linux/if.h>
ROUTE_GOOD_S = 1.0
ROUTE_GOOD_EACH_S = 0.02  # longer for each that is kept: asking for all again takes a few percent of this thread at the most
ROUTES_KEPT = 1024
SOURCES_TRIED = 16  # addresses of ours from which a peer without a route may have one
ASKED_AT_ONCE = 16  # more answers than that may not fit into the netlink socket's buffer


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address of this host that a packet may have as source, and the name of its interface."""

    address: Address
    interface: str


@dataclass(frozen=True)
class OuterRoute:
    """How our outer packets get to a peer: from which address, by which interface, and in how many octets at the most."""

    source: Address
    interface: int
    mtu: int
    gateway: Address | None


async def outer_route(
    ipr: AsyncIPRoute, remote: Address, links: dict[int, int] | None = None, local: Address | None = None
) -> OuterRoute:
    """The route of our marked packets from `local` to `remote`, as the kernel would take it now. HostError when there is none.

    `local` None: from the address that the kernel chooses; then it is asked again with that one, because rules may choose by source
    and our sockets are bound to it. `links`: MTUs of interfaces that need not be asked for, in octets by index; those that are go
    there too.
    """
    links = {} if links is None else links
    source = local
    if source is None:
        source = _source_of(await _unbound(ipr, remote), remote)
    what = f"no route to {remote} from {source}"
    try:
        row = await _ask(what, ipr, remote, source)
    except HostError as error:
        if local is None or local.is_link_local or local in await own_addresses(ipr):
            raise
        raise HostError(f"{what}, which is not an address of this host") from error
    interface, gateway = row.get("RTA_OIF"), row.get("RTA_GATEWAY")
    if not interface:
        raise HostError(f"{what}: the route has no interface")
    metrics = row.get("RTA_METRICS")
    if row.get("RTA_CACHEINFO") and row.get("RTA_CACHEINFO").get("rta_expires"):
        # What expires may be an MTU that the kernel believes any ICMP message about: the metrics as somebody set them count.
        metrics = (await _ask(what, ipr, remote, source, RTM_F_FIB_MATCH)).get("RTA_METRICS")
    if interface not in links:
        links[interface] = await _interface_mtu(ipr, interface)
    mtu = metrics.get("RTAX_MTU") if metrics else None
    # Our sockets are bounded by the interface, whatever a route says.
    return OuterRoute(
        source, interface, min(mtu or links[interface], links[interface]), None if gateway is None else ip_address(gateway)
    )


async def _ask(what: str, ipr: AsyncIPRoute, remote: Address, source: Address | None, flags: int = 0) -> Any:
    request: dict[str, Any] = {"family": FAMILIES[remote.version], "dst": _plain(remote), "mark": MARK, "flags": flags}
    if source is not None:
        request["src"] = _plain(source)
    (row, *_) = await ask(what, ipr.route("get", **request))
    return row


async def _unbound(ipr: AsyncIPRoute, remote: Address) -> Any:
    """The route of a packet without a source. HostError, naming an address of ours from which there is one."""
    try:
        return await _ask(f"no route to {remote}", ipr, remote, None)
    except HostError as error:
        source = await _source_with_route(ipr, remote)
        if source is None:
            raise
        told = f'{error}; from {source} there is one, since rules of this host choose by source: set local = "{source}"'
        raise HostError(told) from error


async def _source_with_route(ipr: AsyncIPRoute, remote: Address) -> Address | None:
    for source in [each for each in await own_addresses(ipr) if each.version == remote.version][:SOURCES_TRIED]:
        with contextlib.suppress(HostError):
            await _ask("", ipr, remote, source)
            return source
    return None


def _source_of(row: Any, remote: Address) -> Address:
    source = row.get("RTA_PREFSRC")
    if source is None:
        raise HostError(f"no route to {remote}: the host has no address to send from")
    return ip_address(source)


def _plain(address: Address) -> str:
    return str(address).partition("%")[0]


class OuterRoutes:
    """`outer_route` for many tunnels: asked once in a while for each pair of addresses, however many tunnels lead there."""

    def __init__(self, ipr: AsyncIPRoute) -> None:
        self._ipr = ipr
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._known: dict[tuple[Address, Address | None], tuple[float, asyncio.Task[OuterRoute]]] = {}
        self._links: dict[int, int] = {}
        self._links_at = -ROUTE_GOOD_S

    def forget(self) -> None:
        """Routes changed: each is asked for anew."""
        self._known.clear()
        self._links.clear()

    async def get(self, remote: Address, local: Address | None = None) -> OuterRoute:
        """The route from `local` to `remote`. HostError when there is none."""
        loop, ends = asyncio.get_running_loop(), (remote, local)
        at, task = self._known.get(ends, (-ROUTE_GOOD_S, None))
        if task is None or loop.time() - at >= max(ROUTE_GOOD_S, ROUTE_GOOD_EACH_S * len(self._known)):
            if len(self._known) >= ROUTES_KEPT:
                self._known.clear()
            task = loop.create_task(self._ask(remote, local))
            self._known[ends] = loop.time(), task
        return await asyncio.shield(task)

    async def _ask(self, remote: Address, local: Address | None) -> OuterRoute:
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._links_at >= ROUTE_GOOD_S:
                self._links, self._links_at = {}, now
            return await outer_route(self._ipr, remote, self._links, local)


async def _interface_mtu(ipr: AsyncIPRoute, index: int) -> int:
    (link, *_) = await ask(f"interface {index}", ipr.link("get", index=index))
    return int(link.get("IFLA_MTU"))


def link_mtus() -> dict[str, int]:
    """The MTU of each interface in the network namespace of the calling thread, in octets."""
    found: dict[str, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = IFREQ.pack(name.encode(), 0)
            with contextlib.suppress(OSError):  # it has just gone
                found[name] = IFREQ.unpack(fcntl.ioctl(asking.fileno(), SIOCGIFMTU, request))[1]
    return found


@dataclass(frozen=True, slots=True)
class InsideNetwork:
    """A network that is reached by another interface (an index) than our peers are.

    `fixed`: it is that of an address of this host which has no end. What a DHCP server or a router's advertisement gave has one.
    """

    prefix: Network
    interface: int
    fixed: bool


async def inside_networks(ipr: AsyncIPRoute, outer: Collection[int]) -> list[InsideNetwork]:
    """The networks of the main table that are reached by other interfaces than those with the indices `outer`.

    With a tunnel for everything, these are what is on this side of it (`guard.separate`). Default routes and link-local networks do
    not count; nor do networks of the interface through which the peer is reached, attached though they are.
    """
    networks: dict[Network, InsideNetwork] = {}
    with Bulk() as bulk:
        rows = [row for version in FAMILIES for row in await bulk.routes(version, table=MAIN)]
    fixed = await _fixed_networks(ipr)
    for row in rows:
        inside = row.kind == UNICAST and row.interface and row.interface not in outer
        if inside and row.prefix.prefixlen and not row.prefix.is_link_local:
            found = InsideNetwork(row.prefix, row.interface, (row.interface, row.prefix) in fixed)
            if found.fixed or row.prefix not in networks:
                networks[row.prefix] = found
    return [networks[each] for each in sorted(networks, key=lambda one: (one.version, int(one.network_address), one.prefixlen))]


async def _fixed_networks(ipr: AsyncIPRoute) -> set[tuple[int, Network]]:
    """Interface and network of each address of this host that stays until somebody takes it away."""
    rows: list[Any] = await dump(ipr.get_addr, family=socket.AF_UNSPEC)
    return {
        (row["index"], ip_network(f"{row.get('IFA_ADDRESS') or row.get('IFA_LOCAL')}/{row['prefixlen']}", strict=False))
        for row in rows
        if (row.get("IFA_FLAGS") or row["flags"]) & PERMANENT
    }


async def own_sources(ipr: AsyncIPRoute) -> list[OwnAddress]:
    """The addresses of this host that a packet may have as source, in the kernel's order, without those whose uniqueness it still
    checks."""
    rows: list[Any] = await dump(ipr.get_addr, family=socket.AF_UNSPEC)
    usable = [row for row in rows if not (row.get("IFA_FLAGS") or row["flags"]) & UNUSABLE]
    return [OwnAddress(_address_of(row), interface_name(row["index"])) for row in usable if not _address_of(row).is_loopback]


async def own_addresses(ipr: AsyncIPRoute) -> list[Address]:
    """The addresses of this host that others can call: neither loopback nor link-local."""
    found = {each.address for each in await own_sources(ipr)}
    return sorted((each for each in found if not each.is_link_local), key=lambda each: (each.version, each))


def _address_of(row: Any) -> Address:
    return ip_address(row.get("IFA_LOCAL") or row.get("IFA_ADDRESS"))
