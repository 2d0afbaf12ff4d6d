"""Routes into the tunnel, the `unreachable` routes behind them, and the rules that lead there. docs/fail-closed.md has the reasons.

Each gateway has routing tables of its own, one for each prefix length it routes, and for each of them two rules:

    20000 + 2 (128 - length)      from all lookup main suppress_prefixlength <length>
    20001 + 2 (128 - length)      not fwmark MARK lookup <table of that length>

The longest match over the host's main table and ours decides, as if all routes stood in one table. Our own outer packets carry
MARK, skip our tables, and so never enter the tunnel, whatever is routed into it. Everything made here carries PROTOCOL.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ipsec_dp.host import MARK, PROTOCOL, routing_rules
from ipsec_dp.host.bulk import FAMILIES, UNICAST, Bulk, KernelRoute
from ipsec_dp.host.held import Held, place
from ipsec_dp.host.routing_rules import RoutingRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ipsec_dp.host.held import Place
    from ipsec_dp.ipsec.addresses import Address, Network

PRIORITY = 20000  # of the first rule; the last is PRIORITY + 257
TABLES = PROTOCOL << 24  # of table numbers: 16 bits of the gateway's name, 8 bits of prefix length follow
GUARD_METRIC = 4_000_000_000  # worse than any route a person makes
METRIC = 50

MAIN = 254
BITS = {4: 32, 6: 128}
# <linux/rtnetlink.h>
RTPROT_KERNEL = 2
BLACKHOLE, UNREACHABLE, PROHIBIT = 6, 7, 8

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Route:
    """A prefix routed into the TUN interface with this index.

    `metric` 0..3999999999, the lower wins among routes to the same prefix; `source` is the address that the gateway's own packets
    take; `mtu` in octets, for a tunnel narrower than its interface.
    """

    prefix: Network
    interface: int
    metric: int = METRIC
    source: Address | None = None
    mtu: int | None = None


@dataclass(frozen=True)
class Conflict:
    """A route of somebody else's that stands in the way of one of ours. Nothing of theirs was touched."""

    prefix: Network
    interface: str  # of the other route; empty when it has none
    metric: int
    kind: str  # "same": it has the same prefix and wins; "reject": it covers ours and refuses the packets

    def __str__(self) -> str:
        if self.kind == "reject":
            return f"{self.prefix}: a blackhole, unreachable or prohibit route of the host covers it and wins"
        where = f"through {self.interface} " if self.interface else ""
        return f"{self.prefix} is routed {where}with metric {self.metric} already, and is not routed into the tunnel"


def table_base(gateway: str) -> int:
    """The number of a gateway's table for prefix length 0; that of length n is n more."""
    return TABLES | int.from_bytes(hashlib.sha256(gateway.encode()).digest()[:2], "big") << 8


async def of_all() -> dict[int, list[KernelRoute]]:
    """The routes of every gateway of this network namespace, whatever its name, by the `table_base` of it. Raises HostError."""
    found: dict[int, list[KernelRoute]] = {}
    with Bulk() as bulk:
        rows = [row for version in FAMILIES for row in await bulk.routes(version, protocol=PROTOCOL)]
    for row in rows:
        if row.table & 0xFF000000 == TABLES:
            found.setdefault(row.table & 0xFFFFFF00, []).append(row)
    return found


def priorities(length: int) -> tuple[int, int]:
    """The priorities of the two rules of a prefix length: of the host's longer routes, and of ours. Longer prefixes come first."""
    first = PRIORITY + 2 * (128 - length)
    return first, first + 1


class RouteTable:
    """Routes, and the rules that lead to them, of one gateway in the network namespace of the calling thread.

    `apply` compares what is wanted with what the kernel has, so a process adopts what a killed one left by its first call. `change`
    compares with what the last call left, which for ten thousand routes is the difference between seconds and nothing.
    `held` is what nobody but us may take away: while something changes, what stays as it is.
    """

    def __init__(self, gateway: str, tunnels: Iterable[int] = ()) -> None:
        """`tunnels` are the indices of our TUN interfaces: routes of others through them are no conflicts."""
        self.tunnels = frozenset(tunnels)
        self._base = table_base(gateway)
        self._left: dict[Place, KernelRoute] | None = None  # by the last call
        self._metrics: dict[Network, int] | None = None  # of what it left, where nothing stood in the way
        self.held = Held()

    def _table(self, prefix: Network) -> int:
        return self._base + prefix.prefixlen

    async def apply(self, protected: Iterable[Network], routes: Iterable[Route]) -> list[Conflict]:
        """Makes the kernel's state what is asked for: each protected or routed prefix is unreachable unless a route leads on.

        New `unreachable` routes come before new routes, both before anything old goes: no packet finds a moment in between. A
        prefix for which the host has a route of its own that wins (lower or same metric; any directly attached network) is left
        alone and reported, but for default routes, which a tunnel for everything is meant to override. HostError when the kernel
        refuses; ValueError for two routes to one prefix with one metric.
        """
        return await self._make(protected, routes, None)

    async def change(self, protected: Iterable[Network], routes: Iterable[Route]) -> list[Conflict]:
        """`apply`, taking for granted that what the last call left is there."""
        return await self._make(protected, routes, self._left)

    async def as_left(self) -> bool:
        """Whether the kernel has just what the last call left, so that `change` may take it for granted. HostError."""
        return self._left is not None and await self.held.unchanged("rules") and await self.held.unchanged("routes")

    async def adapt(self, added: list[Route], removed: list[Route]) -> bool:
        """`change` to what the last call left with routes `added`, to prefixes that it had nothing for, and without `removed`, all
        that lead to their prefixes, which are not protected any more. False, with nothing changed: something stands in the way or
        did, or a prefix length goes, so that all has to be looked at."""
        left, before, self._left, self._metrics = self._left, self._metrics, None, None
        if left is None or before is None:
            self._left = left
            return False
        gone, best = {route.prefix for route in removed}, _best([], added)
        stay = _without(before, gone)
        metrics = stay | best
        with Bulk() as bulk:
            if (
                (gone and not _lengths(gone) <= _lengths(stay))
                or best.keys() & before.keys()
                or await self._conflicts(bulk, metrics)
            ):
                self._left = left
                return False
            new, stale = self._entries(best, added, set()), self._entries(dict.fromkeys(gone, 0), removed, set())
            self.held.routes = kept = _without(left, stale)
            await self._add(bulk, list(new.values()), _lengths(best))
            self.held.rules |= frozenset(self._all_rules(_lengths(best)))
            await self._remove(bulk, [left[at] for at in stale if at in left])
        self._left = self.held.routes = kept | new
        self._metrics = metrics
        await self.held.compared("rules", "routes")
        return True

    async def _remove(self, bulk: Bulk, stale: list[KernelRoute]) -> None:
        await bulk.remove([route for route in stale if route.interface])
        await bulk.remove([route for route in stale if not route.interface])

    async def _add(self, bulk: Bulk, new: list[KernelRoute], lengths: set[tuple[int, int]]) -> None:
        await bulk.replace([route for route in new if not route.interface])
        await bulk.replace([route for route in new if route.interface])
        await routing_rules.add(bulk, self._all_rules(lengths))

    async def _make(
        self, protected: Iterable[Network], routes: Iterable[Route], left: dict[Place, KernelRoute] | None
    ) -> list[Conflict]:
        self._left = self._metrics = None
        with Bulk() as bulk:
            best = await asyncio.to_thread(_best, list(protected), routes := list(routes))
            wanted, conflicts = await self._wanted(bulk, best, routes)
            present = await self._present(bulk) if left is None else left
            new, stale, lengths = await asyncio.to_thread(_compare, present, wanted)
            self.held.routes = {at: route for at, route in self.held.routes.items() if wanted.get(at) == route}
            self.held.rules &= frozenset(self._all_rules(lengths))
            await self._add(bulk, new, lengths)
            self.held.rules = frozenset(self._all_rules(lengths))
            await self._remove(bulk, stale)
            await self._remove_rules(bulk, lengths)
        self._left, self._metrics = wanted, None if conflicts else best
        self.held.routes = wanted
        await self.held.compared("rules", "routes")
        return conflicts

    async def remove(self) -> None:
        """Takes away every route and rule of this gateway, those that keep traffic back too."""
        await self.apply((), ())

    async def routed(self) -> list[Network]:
        """The prefixes that lead into an interface now, in order."""
        return await self._prefixes(lambda route: route.interface != 0)

    async def unreachable(self) -> list[Network]:
        """The prefixes that are held back if no route leads on, in order."""
        return await self._prefixes(lambda route: route.interface == 0)

    async def _prefixes(self, which: Callable[[KernelRoute], bool]) -> list[Network]:
        with Bulk() as bulk:
            return sorted({route.prefix for route in (await self._present(bulk)).values() if which(route)}, key=_order)

    # ---- what is wanted, and what stands in the way ---------------------------------------------------------------------------

    async def _wanted(
        self, bulk: Bulk, best: dict[Network, int], routes: list[Route]
    ) -> tuple[dict[Place, KernelRoute], list[Conflict]]:
        conflicts = await self._conflicts(bulk, best) if best else []
        lost = {conflict.prefix for conflict in conflicts if conflict.kind == "same"}
        return await asyncio.to_thread(self._entries, best, routes, lost), conflicts

    def _entries(self, best: dict[Network, int], routes: list[Route], lost: set[Network]) -> dict[Place, KernelRoute]:
        wanted: dict[Place, KernelRoute] = {}
        for prefix in best.keys() - lost:
            held = KernelRoute(prefix, self._table(prefix), GUARD_METRIC, PROTOCOL, UNREACHABLE)
            wanted[place(held)] = held
        for route in routes:
            if route.prefix in lost:
                continue
            source = b"" if route.source is None else route.source.packed
            table, mtu = self._table(route.prefix), route.mtu or 0
            led = KernelRoute(route.prefix, table, route.metric, PROTOCOL, UNICAST, route.interface, source, mtu)
            if not 0 <= route.metric < GUARD_METRIC or place(led) in wanted:
                raise ValueError(f"route {route.prefix}: metric {route.metric} is given twice or not below {GUARD_METRIC}")
            wanted[place(led)] = led
        return wanted

    async def _conflicts(self, bulk: Bulk, metrics: dict[Network, int]) -> list[Conflict]:
        """Routes of the main table that win against ours, one for each prefix at the most."""
        found: dict[Network, Conflict] = {}
        for version in FAMILIES:
            if not any(prefix.version == version for prefix in metrics):
                continue
            rows = await bulk.routes(version, table=MAIN)
            rejecting = [row.prefix for row in rows if row.kind in (BLACKHOLE, UNREACHABLE, PROHIBIT)]
            for prefix in (each for each in metrics if rejecting and each.version == version):
                if any(each.prefixlen < prefix.prefixlen and prefix.subnet_of(each) for each in rejecting):  # type: ignore[arg-type]
                    found[prefix] = Conflict(prefix, "", 0, "reject")
            for row in rows:
                prefix, metric = row.prefix, 0 if row.protocol == RTPROT_KERNEL else row.metric
                if row.interface in self.tunnels:
                    continue
                if prefix in metrics and prefix.prefixlen and metric <= metrics[prefix]:
                    found[prefix] = Conflict(prefix, interface_name(row.interface), metric, "same")
        return sorted(found.values(), key=lambda each: _order(each.prefix))

    # ---- what the kernel has --------------------------------------------------------------------------------------------------

    async def _present(self, bulk: Bulk) -> dict[Place, KernelRoute]:
        rows = [row for version in FAMILIES for row in await bulk.routes(version, protocol=PROTOCOL)]
        return {place(row): row for row in rows if self._is_mine(row.table)}

    def _is_mine(self, table: int | None) -> bool:
        return table is not None and self._base <= table <= self._base + 128

    def _all_rules(self, lengths: Iterable[tuple[int, int]]) -> list[RoutingRule]:
        return [rule for version, length in sorted(lengths) for rule in self._rule_pair(version, length)]

    async def _remove_rules(self, bulk: Bulk, lengths: set[tuple[int, int]]) -> None:
        """Of all IP versions and prefix lengths but these."""
        for version in FAMILIES:
            rows = await routing_rules.present(bulk, version)
            for table in sorted({rule.target for rule in rows if self._is_mine(rule.target)}):
                length = table - self._base
                if (version, length) in lengths:
                    continue
                *host_routes, ours = self._rule_pair(version, length)
                others = any(
                    rule.priority == ours.priority and rule.target != table and rule.owner == PROTOCOL for rule in rows
                )  # another gateway routes prefixes of this length too and needs the first rule
                await routing_rules.remove(bulk, [ours] if others else [ours, *host_routes])

    def _rule_pair(self, version: int, length: int) -> list[RoutingRule]:
        first, second = priorities(length)
        rule = partial(RoutingRule, version=version, owner=PROTOCOL)
        ours = rule(priority=second, target=self._base + length, mark=(MARK, 0xFFFFFFFF), invert=True)
        if length == BITS[version]:  # nothing is longer than a host route
            return [ours]
        return [rule(priority=first, target=MAIN, suppress=length), ours]


def _best(protected: list[Network], routes: list[Route]) -> dict[Network, int]:
    """The metric of each prefix."""
    best: dict[Network, int] = {}
    for route in routes:
        best[route.prefix] = min(route.metric, best.get(route.prefix, route.metric))
    for prefix in protected:
        best.setdefault(prefix, METRIC)
    return best


def _compare(
    present: dict[Place, KernelRoute], wanted: dict[Place, KernelRoute]
) -> tuple[list[KernelRoute], list[KernelRoute], set[tuple[int, int]]]:
    """Routes to make, routes to take away, and IP version and prefix length of the rules that lead to what is wanted."""
    new = [route for at, route in wanted.items() if present.get(at) != route]
    stale = [route for at, route in present.items() if at not in wanted]
    return new, stale, _lengths(route.prefix for route in wanted.values())


def _without(mapping: Mapping[K, V], keys: Iterable[K]) -> dict[K, V]:
    """A copy, for which only these keys are looked up: ten thousand prefixes take long to hash."""
    made = dict(mapping)
    for key in keys:
        made.pop(key, None)
    return made


def _lengths(prefixes: Iterable[Network]) -> set[tuple[int, int]]:
    """IP version and length of each."""
    return {(prefix.version, prefix.prefixlen) for prefix in prefixes}


def interface_name(index: int) -> str:
    """The name of an interface, or something that stands for it when it has just gone."""
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return f"interface {index}"


def _order(prefix: Network) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
