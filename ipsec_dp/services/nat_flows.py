"""Connections that a NAT rule caught before they were routed into a tunnel, and which it goes on holding.

The kernel decides a translation once, by a connection's first packet. A flow that left by the outer interface while there was no
route into the tunnel keeps the source that it got there; routed into the tunnel it lies outside every selector and is dropped, for
as long as it goes on. `[gateway] nat_flows` says what is done: `tell` names them with the command that deletes each, `delete`
deletes them, `ignore` does not look.

What was there before the routes led in is looked up then (`before_routes`): the guard is closed by that time, so nothing protected
comes in addition. Only of these any is deleted. What a rule translates although the route leads in would be translated again.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.host.conntrack import exemption
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.rest import Rest
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.text import named
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from ipsec_dp.config import Config
    from ipsec_dp.host.conntrack import FlowTuple, NatFlow
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.rules import Rule
    from ipsec_dp.network.host import Host
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)

DELETED_MOST = 1000  # at one transition
TOLD_MOST = 5  # by name
AGAIN_S = 30.0  # while there is something to tell
REST = 50.0  # pause, in times of what the last look took: the table of a busy host is long
UDP, ESP = 17, 50
OUR_PORTS: Final = frozenset({500, 4500})


class Caught(NamedTuple):
    """A flow that is dropped for its translated source, and the TUN interface that it is routed into."""

    flow: NatFlow
    interface: str


class RemoteGroup(NamedTuple):
    """Rules whose remote addresses overlap, from the lowest of them to the highest, with their place in the order of decision."""

    low: int
    high: int
    rules: list[tuple[int, Rule]]


class CaughtFlows:
    """Which flows a configuration's tunnels would carry if NAT had left them their source.

    With both ends as they are without the translation, the first rule on a tunnel's interface that holds such a flow is a protect
    rule with a named remote, never 0.0.0.0/0 or ::/0; as it is, none there holds it. Our own datagrams (UDP 500 and 4500, ESP) are
    none of them, whatever the rules say. Only the configuration counts: what was negotiated has no say.
    """

    def __init__(self, config: Config) -> None:
        self._others: dict[str | None, list[tuple[int, Rule]]] = defaultdict(list)  # that name no remote, by interface; None: all
        named: dict[int, list[tuple[int, Rule]]] = defaultdict(list)
        for place in enumerate(config.rules):
            rule = place[1]
            if rule.action == "protect" and not rule.selector.remote.everything:
                named[rule.selector.version].append(place)
            else:
                self._others[rule.interface].append(place)
        self._groups = {version: _grouped(places) for version, places in named.items()}
        self._lows = {version: [group.low for group in groups] for version, groups in self._groups.items()}

    def judge(self, flow: NatFlow) -> Caught | None:
        """None: it is no such flow."""
        if not flow.source_translated or _is_ours(flow):
            return None
        rules = self._towards(flow.leaving.destination)
        first = next(((place, rule) for place, rule in rules if _holds(rule, flow, flow.leaving)), None)
        if first is None or first[1].interface is None:
            return None
        place, interface = first[0], first[1].interface
        others = [*self._others[None], *self._others[interface]]
        if any(before < place and _holds(rule, flow, flow.leaving) for before, rule in others):
            return None
        carried = [rule for _, rule in (*rules, *others) if rule.action == "protect" and rule.interface == interface]
        return None if any(_holds(rule, flow, flow.translated) for rule in carried) else Caught(flow, interface)

    def _towards(self, address: Address) -> list[tuple[int, Rule]]:
        """The rules with named remotes among which those are that hold an address."""
        at = bisect_right(self._lows.get(address.version, ()), int(address)) - 1
        if at < 0:
            return []
        group = self._groups[address.version][at]
        return group.rules if int(address) <= group.high else []


def _grouped(places: list[tuple[int, Rule]]) -> list[RemoteGroup]:
    """By remote addresses, in their order; each group's rules in the order of decision."""
    groups: list[RemoteGroup] = []
    for place in sorted(places, key=lambda each: int(each[1].selector.remote.low)):
        remote = place[1].selector.remote
        low, high = int(remote.low), int(remote.high)
        if groups and low <= groups[-1].high:
            groups[-1].rules.append(place)
            groups[-1] = groups[-1]._replace(high=max(groups[-1].high, high))
        else:
            groups.append(RemoteGroup(low, high, [place]))
    return [RemoteGroup(group.low, group.high, sorted(group.rules, key=lambda each: each[0])) for group in groups]


def _is_ours(flow: NatFlow) -> bool:
    ports = {way_port for way in (flow.original, flow.reply) for way_port in (way.source_port, way.destination_port)}
    return flow.protocol == ESP or (flow.protocol == UDP and not ports.isdisjoint(OUR_PORTS))


def _holds(rule: Rule, flow: NatFlow, way: FlowTuple) -> bool:
    return rule.selector.holds(way.source, way.destination, flow.protocol, way.source_port, way.destination_port)


class NatFlows:
    """A service; `before_routes` comes before each `apply` that has routes lead in."""

    name = "NAT flows"

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host, self._clock = host, clock
        self._rounds = Rounds(self.name, host.conditions, clock)
        self._rest = Rest(clock, REST, AGAIN_S)
        self._config: Config | None = None
        self._earlier: frozenset[NatFlow] = frozenset()  # from before their route led in
        self._judges: tuple[Config, CaughtFlows] | None = None  # the last configuration's
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def before_routes(self, config: Config) -> None:
        """Routes of this configuration are about to lead in; those of the one before already do."""
        if config.nat_flows == "ignore":
            self._earlier = frozenset()
            return
        there = await self._host.flows.translated()
        led_in = set() if self._config is None else {each.flow for each in await self._caught(there, self._config)}
        self._earlier = frozenset(there) - led_in | self._earlier & led_in

    async def apply(self, config: Config) -> None:
        """Acts on what routes now lead into the tunnels. Does not raise."""
        self._config = config
        await self._look(delete=config.nat_flows == "delete")
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._rounds.run(self._watch))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._tell([])

    def ask(self) -> None:
        """Packets are dropped that no selector holds: they may be of such flows."""
        self._asked.set()

    async def _watch(self) -> None:
        """Looks again when asked to, and while there is something to tell."""
        await self._asked.wait()
        self._asked.clear()
        with self._rounds.told(), self._rest.work():
            await self._look(delete=False)
        await self._clock.sleep(self._rest.seconds)

    async def _look(self, *, delete: bool) -> None:
        config = self._config
        if config is None or config.nat_flows == "ignore":
            self._tell([])
            return
        flows = await self._host.flows.translated()
        found = await self._caught(flows, config)
        self._earlier &= {each.flow for each in found}
        if delete:
            gone = await self._delete([each.flow for each in found if each.flow in self._earlier][:DELETED_MOST])
            found = [each for each in found if each.flow not in gone]
        self._tell(found)
        if found:
            self._asked.set()

    async def _caught(self, flows: list[NatFlow], config: Config) -> list[Caught]:
        if not flows:
            return []
        if self._judges is None or self._judges[0] is not config:
            self._judges = config, await asyncio.to_thread(CaughtFlows, config)
        judge = self._judges[1].judge
        return [found async for flow in in_slices(flows) if (found := judge(flow)) is not None]

    async def _delete(self, flows: list[NatFlow]) -> frozenset[NatFlow]:
        gone = await self._host.flows.delete(flows) if flows else []
        if gone:
            log.warning(
                "nat_flows = delete: deleted %d tracked connections that kept a source from NAT, from before they were routed "
                "into a tunnel: %s",
                len(gone),
                named(gone, TOLD_MOST, text=lambda flow: flow.text),
                extra=told("flows_deleted", count=len(gone)),
            )
        return frozenset(gone)

    def _tell(self, found: list[Caught]) -> None:
        texts = {each.flow.text: self._text(each) for each in found[:TOLD_MOST]}
        if len(found) > TOLD_MOST:
            texts["more"] = (
                f"{len(found) - TOLD_MOST} more connections keep a translated source and are dropped; "
                'nat_flows = "delete" deletes those that were there before the tunnel\'s routes'
            )
        self._host.conditions.become(self.name, texts)

    def _text(self, each: Caught) -> str:
        flow, source = each.flow, each.flow.translated.source
        if flow in self._earlier:
            return (
                f"{flow.text}: NAT gave this connection the source {source} before it was routed into {each.interface}, and keeps "
                f"it, so it is dropped; to free it: {flow.deletion}"
            )
        return (
            f"{flow.text}: NAT gives this connection the source {source}, so {each.interface} drops it; if the rule covers the "
            f"interface, exempt it: {exemption(each.interface, source.version)}; then: {flow.deletion}"
        )
