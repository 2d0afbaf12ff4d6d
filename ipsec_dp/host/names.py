"""A peer's addresses: what its DNS name means now, and to which of them there is a route."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.host import HostError

if TYPE_CHECKING:
    from ipsec_dp.host.outer import OuterRoute
    from ipsec_dp.ipsec.addresses import Address


class RouteSource(Protocol):
    """Who knows the routes of our outer packets."""

    async def get(self, remote: Address, local: Address | None = None) -> OuterRoute:
        """The route to `remote` from `local` (None: the kernel chooses). Raises HostError when there is none."""


async def addresses_of(remote: Address | str) -> list[Address]:
    """Every address of a remote, each once: those of the IP version that the resolver prefers first (RFC 6724), each version's in
    order of number, since servers hand them out in another order each time. Raises HostError."""
    if not isinstance(remote, str):
        return [remote]
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(remote, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise HostError(f"{remote} has no address: {error.strerror}; check the name and this host's resolver") from error
    found = [ip_address(answer[4][0]) for answer in answers]
    versions = [address.version for address in found]
    return sorted(set(found), key=lambda address: (versions.index(address.version), int(address)))


async def routes_to(remote: Address | str, local: Address | None, routes: RouteSource) -> list[tuple[Address, OuterRoute]]:
    """Its addresses to which there is a route from `local`, with that; only those of its IP version. HostError without any."""
    addresses = [address for address in await addresses_of(remote) if local is None or address.version == local.version]
    if not addresses and local is not None:
        raise HostError(f"{remote} has no IPv{local.version} address, and local is one; give it one, or leave local out")
    found, refused = [], []
    for address in addresses:
        try:
            found.append((address, await routes.get(address, local)))
        except HostError as error:
            refused.append(str(error))
    if not found:
        raise HostError("; ".join(refused))
    return found
