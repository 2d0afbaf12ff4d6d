"""What a gateway's host side hands to the process that goes on with it: descriptors, and what was made of them.

Nothing here is a key. `descriptors` are places in a list that goes beside; what is in the kernel (guard, routes, rules, zones,
addresses) is not here, since it stays.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

from ipsec_dp.dataplane import Encapsulation, Offload
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.leaves import Here

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ipsec.addresses import Address


class InheritedTun(Struct, frozen=True, forbid_unknown_fields=True):
    """`on`: its offloads, of each worker; `reader`: the worker that reads it for all, where it has one queue; `mtu` in octets;
    `addresses` as it was given them. The rest is `host.tun.Tun`."""

    name: Here[str]
    index: Here[int]
    vnet_header: Here[bool]
    descriptors: Here[list[int]]
    on: Here[list[int]]
    mtu: Here[int]
    addresses: Here[list[str]]
    reader: Here[int] = 0
    alias: Here[str] = ""
    carrier: Here[bool] = True
    unset: Here[list[str]] = []
    written: Here[list[tuple[str, str]]] = []


class InheritedLink(Struct, frozen=True, forbid_unknown_fields=True):
    """Outer sockets of one local address: `receivers`, and the one that only sends. `encapsulation` None: port 500."""

    local: Here[str]
    port: Here[int]
    encapsulation: Here[int | None]
    receivers: Here[list[int]]
    other: Here[int] = -1
    on: Here[list[int]] = []

    @property
    def address(self) -> Address:
        return ip_address(self.local)

    @property
    def offloads(self) -> list[Offload]:
        return [Offload(each) for each in self.on]

    @property
    def key(self) -> tuple[Address, Encapsulation | None]:
        return self.address, None if self.encapsulation is None else Encapsulation(self.encapsulation)


class InheritedHost(Struct, frozen=True, forbid_unknown_fields=True):
    """`claim`: what holds the gateway's name, -1: nothing does. `withdrawn`: interfaces that have no routes now; `mtus`: the
    largest packet of each tunnel, in octets."""

    claim: Here[int]
    tuns: Here[list[InheritedTun]]
    links: Here[list[InheritedLink]]
    mtus: Here[dict[str, int]]
    withdrawn: Here[list[str]] = []


class Descriptors:
    """Those that came, each taken once; what nobody took is closed by whoever had them."""

    def __init__(self, descriptors: list[int], close: Callable[[int], object]) -> None:
        self._left: list[int | None] = [*descriptors]
        self._close = close

    def take(self, place: int) -> int:
        """Whoever takes it closes it. Raises IpsecDpError."""
        found = self._left[place] if 0 <= place < len(self._left) else None
        if found is None:
            raise IpsecDpError("a descriptor was named that did not come, or twice")
        self._left[place] = None
        return found

    def close(self) -> None:
        for each in self._left:
            if each is not None:
                self._close(each)
        self._left.clear()
