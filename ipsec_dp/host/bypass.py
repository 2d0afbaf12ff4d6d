"""The rules by which the kernel routes BYPASS traffic past the tunnels. docs/fail-closed.md has the reasons.

    18000 + n    from … to … ipproto … sport … dport … goto 20258     may bypass
    18000 + n    from … to … ipproto … sport … dport … goto 19999     what an earlier policy takes out of it
    19999        nop                                                  here the rules of `routes` begin
    20258        nop                                                  and here they end

A rule whose target is not there matches nothing, so while they are made and taken away the traffic is led to the tunnels, where it
is dropped. They carry PROTOCOL, and in their table's number (which `goto` ignores) whose they are.
"""

from __future__ import annotations

import asyncio
import errno
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ipsec_dp.host import PROTOCOL
from ipsec_dp.host.bulk import FAMILIES, U32, digest
from ipsec_dp.host.netlink import ask, dump
from ipsec_dp.host.routes import PRIORITY, table_base
from ipsec_dp.host.routing_rules import FRA_TABLE, GOTO, NOP, dump_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyroute2 import AsyncIPRoute

    from ipsec_dp.host.routing_rules import RoutingRule
    from ipsec_dp.ipsec.bypass import KernelMatch
    from ipsec_dp.ipsec.selectors import Range

FIRST = PRIORITY - 2000
BEGIN = PRIORITY - 1
END = PRIORITY + 258
OWNER = 200  # beyond a gateway's first table, behind those of its prefix lengths


class _Rule(NamedTuple):
    """A rule as the kernel has it or should have it."""

    version: int
    priority: int
    action: int
    target: int | None = None
    source: tuple[str, int] | None = None
    destination: tuple[str, int] | None = None
    protocol: int | None = None
    source_ports: str | None = None
    destination_ports: str | None = None

    @property
    def what(self) -> _Rule:
        """The same at no place in the order."""
        return self._replace(priority=0)

    def request(self, table: int) -> dict[str, Any]:
        optional = {
            "FRA_GOTO": self.target,
            "FRA_IP_PROTO": self.protocol,
            "FRA_SPORT_RANGE": self.source_ports,
            "FRA_DPORT_RANGE": self.destination_ports,
        }
        for name, prefix in (("src", self.source), ("dst", self.destination)):
            if prefix is not None:
                optional |= {name: prefix[0], f"{name}_len": prefix[1]}
        request = {"family": FAMILIES[self.version], "priority": self.priority, "action": self.action, "table": table}
        return request | {"protocol": PROTOCOL} | {key: value for key, value in optional.items() if value is not None}


def _ports(ports: Range | None) -> str | None:
    return None if ports is None else f"{ports.low}:{ports.high}"


def _wanted(matches: Sequence[KernelMatch]) -> list[_Rule]:
    rules = []
    for number, match in enumerate(matches):
        ends = [
            (str(each.network_address), each.prefixlen) if each.prefixlen else None for each in (match.source, match.destination)
        ]
        target = END if match.past else BEGIN
        ports = _ports(match.source_ports), _ports(match.destination_ports)
        rules.append(_Rule(match.source.version, FIRST + number, GOTO, target, ends[0], ends[1], match.protocol, *ports))
    return rules


def _present(version: int, row: Any) -> _Rule:
    ends = [(row.get(f"FRA_{name.upper()}"), row[f"{name}_len"]) if row[f"{name}_len"] else None for name in ("src", "dst")]
    upper = row.get("FRA_IP_PROTO") or None, row.get("FRA_SPORT_RANGE"), row.get("FRA_DPORT_RANGE")
    return _Rule(version, row.get("FRA_PRIORITY"), row["action"], row.get("FRA_GOTO"), ends[0], ends[1], *upper)


def _all(matches: Sequence[KernelMatch]) -> set[_Rule]:
    gotos = _wanted(matches)
    versions = {rule.version for rule in gotos}
    return {_Rule(version, place, NOP) for version in versions for place in (BEGIN, END)} | set(gotos)


class BypassRules:
    """The rules of one gateway. It keeps no state: each call compares what is wanted with what the kernel has."""

    def __init__(self, ipr: AsyncIPRoute, gateway: str) -> None:
        self._ipr = ipr
        self._table = table_base(gateway) + OWNER

    async def apply(self, matches: Sequence[KernelMatch]) -> int:
        """Makes the kernel try these, in this order, and no others of this gateway's; how many of them were not there.

        What may bypass no more is closed first; what still may is never closed in between. HostError when the kernel refuses.
        """
        wanted, present = _all(matches), await self._present()
        still = {rule.what for rule in wanted}
        closing = {rule for rule in present - wanted if rule.target == END and rule.what not in still}
        await self._remove(closing)
        for rule in sorted(wanted - present, key=lambda each: (each.action == GOTO, each.target == END, each.priority)):
            await ask(f"rule {rule.priority}", self._ipr.rule("add", **rule.request(self._table)), done=(errno.EEXIST,))
        await self._remove(present - wanted - closing)
        return len(wanted - present)

    async def are(self, matches: Sequence[KernelMatch]) -> bool:
        """Whether the kernel has these and no others of this gateway's. HostError."""
        return await self._present() == _all(matches)

    async def remove(self) -> None:
        """Takes all of them away."""
        await self.apply(())

    async def _present(self) -> set[_Rule]:
        return {rule for version in FAMILIES for rule in await self._rules(version)}

    async def _rules(self, version: int) -> list[_Rule]:
        rows = await dump(self._ipr.rule, "dump", family=FAMILIES[version])
        return [_present(version, row) for row in rows if row.get("FRA_TABLE") == self._table]

    async def _remove(self, rules: set[_Rule]) -> None:
        for rule in sorted(rules, key=lambda each: (each.action == NOP, each.target != END)):
            await ask(f"rule {rule.priority}", self._ipr.rule("del", **rule.request(self._table)), done=(errno.ENOENT,))


class HeldBypass:
    """The rules of one gateway as they were last asked for, which nobody else may take away."""

    def __init__(self, netlink: Callable[[], AsyncIPRoute], gateway: str) -> None:
        self._netlink, self._gateway = netlink, gateway
        self._table = table_base(gateway) + OWNER
        self._turn = asyncio.Lock()  # held by whoever writes them
        self._asked: tuple[KernelMatch, ...] | None = None  # whether the kernel made them or not
        self._seen: bytes | None = None  # a digest of all rules when these were compared last

    def _rules(self) -> BypassRules:
        return BypassRules(self._netlink(), self._gateway)

    def owns(self, rule: RoutingRule) -> bool:
        """Whether it is one of them, wanted or not."""
        return (FRA_TABLE, U32.pack(self._table)) in rule.rest if rule.action == GOTO else rule.target == self._table

    async def apply(self, matches: Sequence[KernelMatch]) -> None:
        """As `BypassRules.apply`."""
        async with self._turn:
            self._asked, self._seen = tuple(matches), None
            await self._rules().apply(self._asked)

    async def remove(self) -> None:
        """Takes all of them away."""
        async with self._turn:
            self._asked = self._seen = None
            await self._rules().remove()

    async def are_whole(self, *, cheaply: bool) -> bool:
        """Whether the kernel has them as they should be, or we are writing them; `cheaply`: by a digest. HostError."""
        if self._asked is None or self._turn.locked():
            return True
        async with self._turn:
            now = await digest(partial(dump_request, version) for version in FAMILIES)
            if cheaply and now is not None and now == self._seen:
                return True
            whole = await self._rules().are(self._asked)
            self._seen = now if whole else None
        return whole

    async def restore(self) -> int:
        """Makes again what is not there; how many that were. HostError."""
        async with self._turn:
            self._seen = None
            return 0 if self._asked is None else await self._rules().apply(self._asked)
