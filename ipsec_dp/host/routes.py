"""Routes into the tunnel, the `unreachable` routes behind them, and the rules that lead there. docs/fail-closed.md has the reasons.

Each gateway has routing tables of its own, one for each prefix length it routes, and for each of them two rules:

    20000 + 2 (128 - length)      from all lookup main suppress_prefixlength <length>
    20001 + 2 (128 - length)      not fwmark MARK lookup <table of that length>

The longest match over the host's main table and ours decides, as if all routes stood in one table. Our own outer packets carry
MARK, skip our tables, and so never enter the tunnel, whatever is routed into it. Everything made here carries PROTOCOL.
"""

from __future__ import annotations

import errno
import hashlib
import socket
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from ipsec_dp.host import MARK, PROTOCOL
from ipsec_dp.host.netlink import ask, dump

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.addresses import Address, Network

PRIORITY = 20000  # of the first rule; the last is PRIORITY + 257
TABLES = PROTOCOL << 24  # of table numbers: 16 bits of the gateway's name, 8 bits of prefix length follow
GUARD_METRIC = 4_000_000_000  # worse than any route a person makes
METRIC = 50

MAIN = 254
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
BITS = {4: 32, 6: 128}
ANYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - a destination, nothing is bound
# <linux/rtnetlink.h>, <linux/fib_rules.h>
RTPROT_KERNEL = 2
UNICAST, BLACKHOLE, UNREACHABLE, PROHIBIT = 1, 6, 7, 8
INVERT = 2


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


@dataclass(frozen=True)
class _Entry:
    """A route of ours as the kernel has it or should have it. No interface: `unreachable`."""

    table: int
    prefix: Network
    metric: int
    interface: int = 0
    source: str | None = None
    mtu: int | None = None

    @property
    def place(self) -> tuple[int, Network, int]:
        """What the kernel allows one route for."""
        return self.table, self.prefix, self.metric

    def request(self) -> dict[str, Any]:
        family = FAMILIES[self.prefix.version]
        request = {"family": family, "dst": str(self.prefix), "table": self.table, "proto": PROTOCOL, "priority": self.metric}
        if not self.interface:
            return {**request, "type": "unreachable"}
        extra = {"prefsrc": self.source, "metrics": {"mtu": self.mtu} if self.mtu else None}
        return {**request, "oif": self.interface, **{key: value for key, value in extra.items() if value is not None}}


def prefix_of(row: Any) -> Network:
    """The destination of a route as netlink tells it."""
    version = 4 if row["family"] == socket.AF_INET else 6
    return ip_network(f"{row.get('RTA_DST') or ANYWHERE[version]}/{row['dst_len']}")


def _entry(row: Any) -> _Entry:
    metrics = row.get("RTA_METRICS")
    interface = (row.get("RTA_OIF") or 0) if row["type"] == UNICAST else 0
    return _Entry(
        row.get("RTA_TABLE"),
        prefix_of(row),
        row.get("RTA_PRIORITY") or 0,
        interface,
        row.get("RTA_PREFSRC"),
        metrics.get("RTAX_MTU") if metrics else None,
    )


def table_base(gateway: str) -> int:
    """The number of a gateway's table for prefix length 0; that of length n is n more."""
    return TABLES | int.from_bytes(hashlib.sha256(gateway.encode()).digest()[:2], "big") << 8


def priorities(length: int) -> tuple[int, int]:
    """The priorities of the two rules of a prefix length: of the host's longer routes, and of ours. Longer prefixes come first."""
    first = PRIORITY + 2 * (128 - length)
    return first, first + 1


class RouteTable:
    """The routes, `unreachable` routes and rules of one gateway.

    It keeps no state of its own: each call compares what is wanted with what the kernel has, so a process adopts what a killed one
    left by its first `apply`.
    """

    def __init__(self, ipr: AsyncIPRoute, gateway: str) -> None:
        self._ipr = ipr
        self._base = table_base(gateway)

    def _table(self, prefix: Network) -> int:
        return self._base + prefix.prefixlen

    async def apply(self, protected: Iterable[Network], routes: Iterable[Route]) -> list[Conflict]:
        """Makes the kernel's state what is asked for: each protected or routed prefix is unreachable unless a route leads on.

        New `unreachable` routes come before new routes, both before anything old goes: no packet finds a moment in between. A
        prefix for which the host has a route of its own that wins (lower or same metric; any directly attached network) is left
        alone and reported, but for default routes, which a tunnel for everything is meant to override. HostError when the kernel
        refuses; ValueError for two routes to one prefix with one metric.
        """
        wanted, conflicts = await self._wanted(list(protected), list(routes))
        present = await self._entries()
        rules: set[tuple[int, int]] = {(entry.prefix.version, entry.prefix.prefixlen) for entry in wanted.values()}
        for entry in sorted(wanted.values(), key=lambda each: each.interface):  # `unreachable` first
            if present.get(entry.place) != entry:
                await ask(f"route {entry.prefix}", self._ipr.route("replace", **entry.request()))
        for version, length in sorted(rules):
            await self._add_rules(version, length)
        stale = [entry for place, entry in present.items() if place not in wanted]
        for entry in sorted(stale, key=lambda each: -each.interface):
            gone = (errno.ESRCH, errno.ENODEV)  # with its interface
            await ask(f"route {entry.prefix}", self._ipr.route("del", **entry.request()), done=gone)
        for version, length in await self._rules() - rules:
            await self._remove_rules(version, length)
        return conflicts

    async def remove(self) -> None:
        """Takes away every route and rule of this gateway, those that keep traffic back too."""
        await self.apply((), ())

    async def routed(self) -> list[Network]:
        """The prefixes that lead into an interface now, in order."""
        return sorted({entry.prefix for entry in (await self._entries()).values() if entry.interface}, key=_order)

    async def unreachable(self) -> list[Network]:
        """The prefixes that are held back if no route leads on, in order."""
        return sorted({entry.prefix for entry in (await self._entries()).values() if not entry.interface}, key=_order)

    # ---- what is wanted, and what stands in the way ---------------------------------------------------------------------------

    async def _wanted(
        self, protected: list[Network], routes: list[Route]
    ) -> tuple[dict[tuple[int, Network, int], _Entry], list[Conflict]]:
        best: dict[Network, int] = {}
        for route in routes:
            best[route.prefix] = min(route.metric, best.get(route.prefix, route.metric))
        for prefix in protected:
            best.setdefault(prefix, METRIC)
        conflicts = await self._conflicts(best) if best else []
        lost = {conflict.prefix for conflict in conflicts if conflict.kind == "same"}
        wanted: dict[tuple[int, Network, int], _Entry] = {}
        for prefix in best.keys() - lost:
            entry = _Entry(self._table(prefix), prefix, GUARD_METRIC)
            wanted[entry.place] = entry
        for route in routes:
            if route.prefix in lost:
                continue
            source = None if route.source is None else str(route.source)
            entry = _Entry(self._table(route.prefix), route.prefix, route.metric, route.interface, source, route.mtu)
            if not 0 <= route.metric < GUARD_METRIC or entry.place in wanted:
                raise ValueError(f"route {route.prefix}: metric {route.metric} is given twice or not below {GUARD_METRIC}")
            wanted[entry.place] = entry
        return wanted, conflicts

    async def _conflicts(self, metrics: dict[Network, int]) -> list[Conflict]:
        """Routes of the main table that win against ours, one for each prefix at the most."""
        found: dict[Network, Conflict] = {}
        for version, family in FAMILIES.items():
            ours = [prefix for prefix in metrics if prefix.version == version]
            rows = await dump(self._ipr.get_routes, family=family, table=MAIN) if ours else []
            rejecting = [prefix_of(row) for row in rows if row["type"] in (BLACKHOLE, UNREACHABLE, PROHIBIT)]
            for prefix in ours:
                if any(each.prefixlen < prefix.prefixlen and prefix.subnet_of(each) for each in rejecting):  # type: ignore[arg-type]
                    found[prefix] = Conflict(prefix, "", 0, "reject")
            for row in rows:
                prefix = prefix_of(row)
                metric = 0 if row["proto"] == RTPROT_KERNEL else row.get("RTA_PRIORITY") or 0
                if prefix in metrics and prefix.prefixlen and metric <= metrics[prefix]:
                    found[prefix] = Conflict(prefix, _interface_name(row.get("RTA_OIF")), metric, "same")
        return sorted(found.values(), key=lambda each: _order(each.prefix))

    # ---- what the kernel has --------------------------------------------------------------------------------------------------

    async def _entries(self) -> dict[tuple[int, Network, int], _Entry]:
        rows = []
        for family in FAMILIES.values():
            rows += await dump(self._ipr.get_routes, family=family, proto=PROTOCOL)
        mine = (_entry(row) for row in rows if self._is_mine(row.get("RTA_TABLE")))
        return {entry.place: entry for entry in mine}

    def _is_mine(self, table: int | None) -> bool:
        return table is not None and self._base <= table <= self._base + 128

    async def _rules(self) -> set[tuple[int, int]]:
        """IP version and prefix length of the rules that lead into our tables."""
        found: set[tuple[int, int]] = set()
        for version, family in FAMILIES.items():
            rows = await dump(self._ipr.rule, "dump", family=family)
            found |= {(version, row.get("FRA_TABLE") - self._base) for row in rows if self._is_mine(row.get("FRA_TABLE"))}
        return found

    async def _add_rules(self, version: int, length: int) -> None:
        for rule in self._rule_pair(version, length):
            await ask(f"rule {rule['priority']}", self._ipr.rule("add", **rule), done=(errno.EEXIST,))

    async def _remove_rules(self, version: int, length: int) -> None:
        *host_routes, ours = self._rule_pair(version, length)
        await ask(f"rule {ours['priority']}", self._ipr.rule("del", **ours), done=(errno.ENOENT,))
        rows = await dump(self._ipr.rule, "dump", family=FAMILIES[version])
        if any(row.get("FRA_PRIORITY") == ours["priority"] and row.get("FRA_PROTOCOL") == PROTOCOL for row in rows):
            return  # another gateway routes prefixes of this length too and needs the first rule
        for rule in host_routes:
            await ask(f"rule {rule['priority']}", self._ipr.rule("del", **rule), done=(errno.ENOENT,))

    def _rule_pair(self, version: int, length: int) -> list[dict[str, Any]]:
        first, second = priorities(length)
        common = {"family": FAMILIES[version], "protocol": PROTOCOL}
        ours = {"priority": second, "table": self._base + length, "fwmark": MARK, "fwmask": 0xFFFFFFFF, "flags": INVERT}
        if length == BITS[version]:  # nothing is longer than a host route
            return [{**common, **ours}]
        return [{**common, "priority": first, "table": MAIN, "FRA_SUPPRESS_PREFIXLEN": length}, {**common, **ours}]


def _interface_name(index: int | None) -> str:
    try:
        return socket.if_indextoname(index) if index else ""
    except OSError:
        return f"interface {index}"


def _order(prefix: Network) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
