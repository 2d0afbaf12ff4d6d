"""The source address of the gateway's own packets into a tunnel: one of this host's that lies inside the selectors.

Left to itself, the kernel would take that of the outer interface. The packet would lie outside every proxy ID, and what a person
sees is a tunnel that is up while the gateway itself cannot reach the other side.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.host.outer import OwnAddress
    from ipsec_dp.ipsec.addresses import Address, Network
    from ipsec_dp.ipsec.selectors import SelectorPair

RANGES_NAMED = 3


@dataclass(frozen=True, slots=True)
class Source:
    """`address` None: whatever the kernel chooses is as good (`missing` empty), or none of ours is in the ranges of `missing`."""

    address: Address | None
    missing: tuple[AddressRange, ...] = ()


class Sources:
    """For one tunnel interface with these selectors, on a host with these addresses."""

    def __init__(self, interface: str, selectors: Iterable[SelectorPair], own: Sequence[OwnAddress]) -> None:
        self._own = sorted(own, key=lambda each: each.interface != interface)  # the interface's own address comes first
        self._by_remote: dict[AddressRange, Counter[AddressRange]] = {}  # how many selectors have a remote with each local
        self._exact = True  # every answer until now depends only on selectors with just that remote
        self._known: dict[tuple[AddressRange, ...], Source] = {}
        self.add(selectors)

    def add(self, selectors: Iterable[SelectorPair]) -> None:
        """Adds selectors of this interface."""
        for each in selectors:
            self._by_remote.setdefault(each.remote, Counter())[each.local] += 1

    def apart(self, selectors: Iterable[SelectorPair]) -> bool:
        """Whether every answer given until now holds when these are added."""
        return self._exact and not any(each.remote in self._by_remote for each in selectors)

    def remove(self, selectors: Sequence[SelectorPair]) -> bool:
        """Takes selectors away that were added. False, and of no use any more, where answers to other prefixes than those that are
        their remote may depend on them."""
        remotes = {each.remote for each in selectors}
        for each in selectors:
            self._by_remote[each.remote][each.local] -= 1
        alone = self._exact and not any(any(self._by_remote[remote].values()) for remote in remotes)
        for remote in remotes:
            del self._by_remote[remote]
        return alone

    def to(self, prefix: Network) -> Source:
        """The source for packets of ours to a routed prefix: by the selectors that have it as remote, else by those it meets."""
        to = AddressRange.of(prefix)
        exact = self._by_remote.get(to)
        self._exact = self._exact and exact is not None
        met = [exact] if exact else [locals_ for remote, locals_ in self._by_remote.items() if remote.overlaps(to)]
        return self._within(tuple(dict.fromkeys(local for locals_ in met for local in locals_)))

    def any_address(self) -> Address | None:
        """An address of ours inside any of the selectors."""
        return self._within(tuple(dict.fromkeys(local for locals_ in self._by_remote.values() for local in locals_))).address

    def _within(self, locals_: tuple[AddressRange, ...]) -> Source:
        if not locals_ or any(each.everything for each in locals_):
            return Source(None)
        if locals_ not in self._known:
            fitting = (each.address for each in self._own if any(local.contains(each.address) for local in locals_))
            address = next(fitting, None)
            self._known[locals_] = Source(address, () if address is not None else locals_)
        return self._known[locals_]


def no_source(prefix: Network, interface: str, source: Source) -> str:
    """The note for a person when there is none."""
    ranges = named([each.prefix_text for each in source.missing], RANGES_NAMED)
    return (
        f"{interface}: this host has no address in {ranges}, so its own packets to {prefix} match no proxy ID; "
        "where they should, add one to the tunnel's address"
    )
