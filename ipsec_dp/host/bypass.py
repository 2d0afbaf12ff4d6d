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
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ipsec_dp.host import PROTOCOL, routing_rules
from ipsec_dp.host.bulk import FAMILIES, U32, Bulk, digest
from ipsec_dp.host.routes import PRIORITY, table_base
from ipsec_dp.host.routing_rules import FRA_TABLE, GOTO, NOP, RoutingRule, dump_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ipsec.addresses import Network
    from ipsec_dp.ipsec.bypass import KernelMatch

FIRST = PRIORITY - 2000
BEGIN = PRIORITY - 1
END = PRIORITY + 258
OWNER = 200  # beyond a gateway's first table, behind those of its prefix lengths


def _owned(rule: RoutingRule, table: int) -> bool:
    """Whether the number of a table, which neither action heeds, says that it is of this gateway."""
    return (FRA_TABLE, U32.pack(table)) in rule.rest if rule.action == GOTO else rule.action == NOP and rule.target == table


def _narrower(network: Network) -> Network | None:
    """None: anything."""
    return network if network.prefixlen else None


def _goto(number: int, match: KernelMatch, table: int) -> RoutingRule:
    return RoutingRule(
        version=match.source.version,
        priority=FIRST + number,
        action=GOTO,
        target=END if match.past else BEGIN,
        source=_narrower(match.source),
        destination=_narrower(match.destination),
        protocol=match.protocol or 0,
        sports=match.source_ports,
        dports=match.destination_ports,
        rest=((FRA_TABLE, U32.pack(table)),),
        owner=PROTOCOL,
    )


def _all(matches: Sequence[KernelMatch], table: int) -> set[RoutingRule]:
    gotos = {_goto(number, match, table) for number, match in enumerate(matches)}
    nop = partial(RoutingRule, action=NOP, target=table, owner=PROTOCOL)
    return {nop(version=version, priority=place) for version in {rule.version for rule in gotos} for place in (BEGIN, END)} | gotos


class BypassRules:
    """The rules of one gateway. It keeps no state: each call compares what is wanted with what the kernel has."""

    def __init__(self, gateway: str) -> None:
        self._table = table_base(gateway) + OWNER

    async def apply(self, matches: Sequence[KernelMatch]) -> int:
        """Makes the kernel try these, in this order, and no others of this gateway's; how many of them were not there.

        What may bypass no more is closed first; what still may is never closed in between. HostError when the kernel refuses.
        """
        with Bulk() as bulk:
            wanted, present = _all(matches, self._table), await self._present(bulk)
            still = {replace(rule, priority=0) for rule in wanted}
            closing = {rule for rule in present - wanted if rule.target == END and replace(rule, priority=0) not in still}
            await _remove(bulk, closing)
            await routing_rules.add(
                bulk, sorted(wanted - present, key=lambda each: (each.action == GOTO, each.target == END, each.priority))
            )
            await _remove(bulk, present - wanted - closing)
        return len(wanted - present)

    async def are(self, matches: Sequence[KernelMatch]) -> bool:
        """Whether the kernel has these and no others of this gateway's. HostError."""
        with Bulk() as bulk:
            return await self._present(bulk) == _all(matches, self._table)

    async def remove(self) -> None:
        """Takes all of them away."""
        await self.apply(())

    async def _present(self, bulk: Bulk) -> set[RoutingRule]:
        rules = [rule for version in FAMILIES for rule in await routing_rules.present(bulk, version)]
        return {rule for rule in rules if _owned(rule, self._table)}


async def _remove(bulk: Bulk, rules: Iterable[RoutingRule]) -> None:
    await routing_rules.remove(bulk, sorted(rules, key=lambda each: (each.action == NOP, each.target != END)))


class HeldBypass:
    """The rules of one gateway as they were last asked for, which nobody else may take away."""

    def __init__(self, gateway: str) -> None:
        self._rules, self._table = BypassRules(gateway), table_base(gateway) + OWNER
        self._turn = asyncio.Lock()  # held by whoever writes them
        self._asked: tuple[KernelMatch, ...] | None = None  # whether the kernel made them or not
        self._seen: bytes | None = None  # a digest of all rules when these were compared last

    def owns(self, rule: RoutingRule) -> bool:
        """Whether it is one of them, wanted or not."""
        return _owned(rule, self._table)

    async def apply(self, matches: Sequence[KernelMatch]) -> None:
        """As `BypassRules.apply`."""
        async with self._turn:
            self._asked, self._seen = tuple(matches), None
            await self._rules.apply(self._asked)

    async def remove(self) -> None:
        """Takes all of them away."""
        async with self._turn:
            self._asked = self._seen = None
            await self._rules.remove()

    async def are_whole(self, *, cheaply: bool) -> bool:
        """Whether the kernel has them as they should be, or we are writing them; `cheaply`: by a digest. HostError."""
        if self._asked is None or self._turn.locked():
            return True
        async with self._turn:
            now = await digest(partial(dump_request, version) for version in FAMILIES)
            if cheaply and now is not None and now == self._seen:
                return True
            whole = await self._rules.are(self._asked)
            self._seen = now if whole else None
        return whole

    async def restore(self) -> int:
        """Makes again what is not there; how many that were. HostError."""
        async with self._turn:
            self._seen = None
            return 0 if self._asked is None else await self._rules.apply(self._asked)
