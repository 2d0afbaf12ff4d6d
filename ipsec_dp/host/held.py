"""The routes and rules that a gateway has made and nobody else may take away: compared with the kernel, and made again."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Literal

from ipsec_dp.host import PROTOCOL, HostError, routing_rules
from ipsec_dp.host.bulk import (
    AT_ONCE,
    FAMILIES,
    Bulk,
    KernelRoute,
    digest,
    table_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.host.routing_rules import RoutingRule
    from ipsec_dp.ipsec.addresses import Network

Place = tuple[int, "Network", int]
Kind = Literal["rules", "routes"]


def place(route: KernelRoute) -> Place:
    """What the kernel allows one route for."""
    return route.table, route.prefix, route.metric


class Held:
    """Of one gateway in the network namespace of the calling thread. What makes and removes them keeps `routes` and `rules`."""

    def __init__(self) -> None:
        self.routes: dict[Place, KernelRoute] = {}
        self.rules: frozenset[RoutingRule] = frozenset()
        self.foreign: tuple[KernelRoute, ...] = ()  # somebody else's in our tables, when those were read last
        self._digests: dict[Kind, bytes | None] = {}  # of what the kernel showed when it was compared last

    async def present_rules(self) -> list[RoutingRule]:
        """All rules that the kernel has, anybody's, in its order. HostError."""
        with Bulk() as bulk:
            return [rule for version in FAMILIES for rule in await routing_rules.present(bulk, version)]

    async def restore_rules(self) -> int:
        """Makes all that are held, where they are not there; how many were not. HostError."""
        missing = sorted(self.rules.difference(await self.present_rules()), key=lambda rule: (rule.version, rule.priority))
        made = 0
        with Bulk() as bulk:
            for start in range(0, len(missing), AT_ONCE):
                several = [rule for rule in missing[start : start + AT_ONCE] if rule in self.rules]
                await routing_rules.add(bulk, several)
                made += len(several)
        return made

    async def missing_routes(self) -> list[KernelRoute]:
        """Of those that are held, what the kernel does not have as it should be; `foreign` is known then. HostError."""
        held = self.routes
        with Bulk() as bulk:
            found = {place(row): row for version, table in self._tables() for row in await bulk.routes(version, table=table)}
        missing, foreign = await asyncio.to_thread(_compare, held, found)
        self.foreign = tuple(foreign)
        return missing

    async def remove_foreign(self) -> int:
        """Takes somebody else's routes out of our tables; how many those were. HostError."""
        foreign, self.foreign = self.foreign, ()
        if foreign:
            with Bulk() as bulk:
                await bulk.remove(foreign)
        return len(foreign)

    async def restore_routes(self, routes: Iterable[KernelRoute]) -> int:
        """Makes those of them that are held, `unreachable` ones first; how many it made.

        One into an interface that is down or gone is left to whoever brings that up. What is held no more when its turn comes is
        not made. HostError for the others.
        """
        mine = [self.routes[at] for at in dict.fromkeys(map(place, routes)) if at in self.routes]
        closing = [route for route in mine if not route.interface]
        made = 0
        with Bulk() as bulk:
            for start in range(0, len(closing), AT_ONCE):
                several = [route for route in closing[start : start + AT_ONCE] if self._holds(route)]
                await bulk.replace(several)
                made += len(several)
            for route in (each for each in mine if each.interface and self._holds(each)):
                with contextlib.suppress(HostError):
                    await bulk.replace([route])
                    made += 1
        return made

    def _holds(self, route: KernelRoute) -> bool:
        return self.routes.get(place(route)) == route

    async def unchanged(self, kind: Kind) -> bool:
        """Whether the kernel has just what it had at the last call of `compared`; cheap, and False without one. HostError."""
        known = self._digests.get(kind)
        return known is not None and await digest(self._requests(kind)) == known

    async def compared(self, *kinds: Kind) -> None:
        """What is held is known to be there: `unchanged` takes the kernel's tables as they are from now on. HostError."""
        for kind in kinds:
            self._digests[kind] = await digest(self._requests(kind))

    def _requests(self, kind: Kind) -> list[Callable[[int], bytes]]:
        if kind == "rules":
            return [partial(routing_rules.dump_request, version) for version in FAMILIES]
        return [partial(table_request, version, table) for version, table in self._tables()]

    def _tables(self) -> list[tuple[int, int]]:
        """IP version and table of the routes."""
        return sorted({(rule.version, rule.target) for rule in self.rules if rule.suppress is None})


def _compare(held: dict[Place, KernelRoute], found: dict[Place, KernelRoute]) -> tuple[list[KernelRoute], list[KernelRoute]]:
    """What is held and not there as it should be, and what is there and nobody's of ours."""
    missing = [route for at, route in held.items() if found.get(at) != route]
    return missing, [route for at, route in found.items() if at not in held and route.protocol != PROTOCOL]
