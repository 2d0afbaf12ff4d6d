"""Rules of others that take what is to enter a tunnel: a warning while they last."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ipsec_dp.host import HostError, foreign_rules
from ipsec_dp.host.bulk import FAMILIES, Bulk
from ipsec_dp.host.decision import Decisions
from ipsec_dp.host.foreign_rules import ProtectedWay
from ipsec_dp.host.routing_rules import LOOKUP
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ipsec_dp.config import Config
    from ipsec_dp.host.bulk import KernelRoute
    from ipsec_dp.host.foreign_rules import Taken
    from ipsec_dp.host.outer import OwnAddress
    from ipsec_dp.host.routing_rules import RoutingRule
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

SOURCE = "rules before ours"
LOCALS_MAX = 4  # ranges of one tunnel from which a prefix is asked about


def protected_ways(config: Config) -> list[ProtectedWay]:
    """What a configuration routes into tunnels, with where it may come from."""
    further = [(config.tunnel(route.tunnel), route.prefix) for route in config.routes]
    routed = [*((tunnel, prefix) for tunnel in config.tunnels for prefix in tunnel.routes), *further]
    found: dict[ProtectedWay, None] = {}
    for tunnel, prefix in routed:
        to = AddressRange.of(prefix)
        fitting = dict.fromkeys(selector.local for selector in tunnel.selectors if selector.remote.overlaps(to))
        for local in list(fitting)[:LOCALS_MAX]:
            found[ProtectedWay(local, prefix)] = None
    return list(found)


class ForeignRules:
    """Looked at whenever rules, routes or configuration may be others. The network namespace is that of the calling thread."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    async def look(self, config: Config, own: Sequence[OwnAddress], tunnels: Collection[str]) -> None:
        """Tells of each rule that takes a packet away from the TUN interfaces `tunnels`. `own`: addresses of this host."""
        try:
            found = await taken_rules(config, own, tunnels)
            texts = {f"{each.rule.version} {each.rule.priority} {each.rule.words}": each.text(number) for number, each in found}
            self._conditions.become(SOURCE, texts)
        except HostError as error:  # nothing is known then, and what was known may still hold
            log.warning("rules of others: %s", error, extra=told("rules_unseen"))


async def taken_rules(config: Config, own: Sequence[OwnAddress], tunnels: Collection[str]) -> list[tuple[int, Taken]]:
    """Each rule of others that takes a packet away from the TUN interfaces `tunnels`, with its number among them. HostError."""
    found: list[tuple[int, Taken]] = []
    with Decisions() as kernel:
        rules = [rule for version in FAMILIES for rule in foreign_rules.before_ours(kernel.rules(version))]
        ways = await asyncio.to_thread(protected_ways, config) if rules else []
        for number, rule in enumerate(rules):
            asked = await asyncio.to_thread(foreign_rules.packets, rule, ways, await _routes(rule), own)
            taken = foreign_rules.taken_by(rule, asked, tunnels, kernel)
            if taken is not None:
                found.append((number, taken))
    return found


async def _routes(rule: RoutingRule) -> list[KernelRoute]:
    """Of the table that a rule leads to."""
    if rule.action != LOOKUP:
        return []
    with Bulk() as bulk:
        return await bulk.routes(rule.version, table=rule.target)
