"""A peer's addresses: what its DNS name means now, and to which of them there is a route.

A resolver that does not answer takes half a minute for each name, and would take the threads that read files with it: names are
asked for in threads of their own, which nobody waits for at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipsec_dp.host import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.host.outer import OuterRoute
    from ipsec_dp.ipsec.addresses import Address


ADDRESSES_MAX: Final = 16  # of a name: whoever answers for it may name thousands
_BROADCAST: Final = IPv4Address(0xFFFFFFFF)


class RouteSource(Protocol):
    """Who knows the routes of our outer packets."""

    async def get(self, remote: Address, local: Address | None = None) -> OuterRoute:
        """The route to `remote` from `local` (None: the kernel chooses). Raises HostError when there is none."""


async def addresses_of(remote: Address | str) -> list[Address]:
    """Every address of a remote, each once: those of the IP version that the resolver prefers first (RFC 6724), each version's in
    order of number, since servers hand them out in another order each time; ADDRESSES_MAX at the most. Raises HostError."""
    if not isinstance(remote, str):
        return [remote]
    try:
        answers = await _answers(remote)
    except OSError as error:
        raise HostError(f"{remote} has no address: {error.strerror}; check the name and this host's resolver") from error
    except UnicodeError as error:
        raise HostError(f"{remote} has no address: it is no name that DNS can hold; check the name") from error
    found = [address for answer in answers if _of_one_host(address := ip_address(answer[4][0]))]
    if not found:
        raise HostError(f"{remote} has no address of one host; check the name and what its server answers")
    versions = [address.version for address in found]
    return sorted(set(found), key=lambda address: (versions.index(address.version), int(address)))[:ADDRESSES_MAX]


def _of_one_host(address: Address) -> bool:
    return not (address.is_unspecified or address.is_multicast or address == _BROADCAST)


async def _answers(name: str) -> list[Any]:
    """What getaddrinfo gives, asked in a thread that the end of the program does not wait for."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[list[Any]] = loop.create_future()

    def settle(answers: list[Any] | None, error: Exception | None) -> None:
        if answered.done():  # nobody waits any more
            return
        if error is None:
            answered.set_result(answers or [])
        else:
            answered.set_exception(error)

    def ask() -> None:
        answers, wrong = None, None
        try:
            answers = socket.getaddrinfo(name, None, 0, socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            wrong = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, answers, wrong)

    threading.Thread(target=ask, name=f"resolver {name}", daemon=True).start()
    return await answered


async def routes_to(
    remote: Address | str, among: Iterable[Address], local: Address | None, routes: RouteSource
) -> list[tuple[Address, OuterRoute]]:
    """Those `among` its addresses to which there is a route from `local`, with that; only those of its IP version. HostError
    without any."""
    addresses = [address for address in among if local is None or address.version == local.version]
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
