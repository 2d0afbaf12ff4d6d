"""Rules of others before ours: which of them take packets that are to enter a tunnel. The kernel is asked, not imitated.

Reading the rules and the tables they lead to finds packets that may be taken; whether one is, the kernel says. Work is bounded: so
many rules, and of each so many questions, however many tunnels there are.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from ipsec_dp.host import PROTOCOL
from ipsec_dp.host.bulk import UNICAST
from ipsec_dp.host.routes import BLACKHOLE, MAIN, PRIORITY, PROHIBIT, UNREACHABLE, priorities
from ipsec_dp.host.routing_rules import GOTO, LOOKUP, REJECTS, RouteQuestion, table_name
from ipsec_dp.ipsec.addresses import AddressRange

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from ipsec_dp.host.bulk import KernelRoute
    from ipsec_dp.host.decision import Decisions
    from ipsec_dp.host.outer import OwnAddress
    from ipsec_dp.host.routing_rules import RoutingRule
    from ipsec_dp.ipsec.addresses import Address, Network

LAST = PRIORITY + 257  # the last priority of ours
BEHIND = 21000  # where a rule of somebody else's is out of the way, and before main
LOCAL = 255
RULES_MAX = 32  # that are looked at, of each IP version
PACKETS_MAX = 8  # that are asked about, for each of them
REJECTING = (BLACKHOLE, UNREACHABLE, PROHIBIT)


@dataclass(frozen=True, slots=True)
class ProtectedWay:
    """What is to enter a tunnel: packets from `local` to a prefix that is routed into it."""

    local: AddressRange
    prefix: Network


@dataclass(frozen=True, slots=True)
class Suspect:
    """A packet that a rule may take; `refuses`: it would be refused there, by the rule or by a route."""

    packet: RouteQuestion
    refuses: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """A packet that a rule takes away from the tunnels. `interface` None: it is refused."""

    rule: RoutingRule
    packet: RouteQuestion
    interface: str | None

    def text(self, number: int) -> str:
        """What to tell a person; `number` tells several rules apart where they are moved to."""
        rule, asked = self.rule, self.packet
        where = "is refused" if self.interface is None else f"leaves by {self.interface}, where the guard drops it"
        table = f" (table {table_name(rule.target)})" if rule.action == LOOKUP else ""
        moved = (
            f"{rule.command} add priority {BEHIND + number} {rule.words}; {rule.command} del priority {rule.priority} {rule.words}"
        )
        return (
            f"rule {rule.priority} ({rule.words}) of this host comes before the gateway's and takes what is to enter a tunnel: "
            f"{asked.source} to {asked.destination} {where}{table}; to move it behind: {moved}"
        )


def before_ours(rules: Iterable[RoutingRule]) -> list[RoutingRule]:
    """Rules of others that can be for a packet without a mark, and that the kernel comes to before the last of ours."""
    found = []
    for rule in rules:
        if rule.priority > LAST or rule.owner == PROTOCOL or rule.other or rule.oif:
            continue
        if rule.action == LOOKUP and rule.target == LOCAL:
            continue
        if rule.action not in (LOOKUP, GOTO, *REJECTS) or _wants_mark(rule):
            continue
        found.append(rule)
    return found[:RULES_MAX]


def _wants_mark(rule: RoutingRule) -> bool:
    """Whether only a marked packet may be meant."""
    return not rule.invert and rule.mark is not None and bool(rule.mark[0] & rule.mark[1])


class _Spans:
    """Prefixes without those inside others, for `meeting`."""

    def __init__(self, routes: Iterable[KernelRoute]) -> None:
        self.routes: list[KernelRoute] = []
        for route in sorted(routes, key=lambda each: (int(each.prefix.network_address), each.prefix.prefixlen)):
            if not self.routes or int(self.routes[-1].prefix.broadcast_address) < int(route.prefix.network_address):
                self.routes.append(route)
        self._lows = [int(route.prefix.network_address) for route in self.routes]

    def meeting(self, span: AddressRange) -> KernelRoute | None:
        """A route to addresses of a range."""
        at = bisect_right(self._lows, int(span.high)) - 1
        found = self.routes[at] if at >= 0 else None
        return found if found is not None and int(found.prefix.broadcast_address) >= int(span.low) else None


def _met(span: AddressRange, network: Network | None) -> AddressRange | None:
    if network is None:
        return span
    other = AddressRange.of(network)
    if not span.overlaps(other):
        return None
    return AddressRange(max(span.low, other.low), min(span.high, other.high))


def _inside(span: AddressRange, but: Collection[Address] = ()) -> Address:
    """An address that may be a host's, none of `but` where there is another near by."""
    near = [span.low + step for step in range(1, min(int(span.high) - int(span.low), 4))]
    return next((each for each in near if each not in but), span.low)


def packets(
    rule: RoutingRule, ways: Iterable[ProtectedWay], routes: Sequence[KernelRoute], own: Sequence[OwnAddress]
) -> list[Suspect]:
    """Packets that enter a tunnel if nobody takes them, and that the rule may take. `routes`: of the table that it leads to."""
    counting = [each for each in routes if each.kind in (UNICAST, *REJECTING) and each.prefix.prefixlen > _suppressed(rule)]
    default = next((each for each in counting if not each.prefix.prefixlen), None)
    spans, found = _Spans(each for each in counting if each.prefix.prefixlen), list[Suspect]()
    for way in ways:
        if way.prefix.version != rule.version or rule.priority > priorities(way.prefix.prefixlen)[1]:
            continue
        to = _met(AddressRange.of(way.prefix), None if rule.invert else rule.destination)
        start = _met(way.local, None if rule.invert else rule.source)
        if to is None or start is None:
            continue
        route = spans.meeting(to)
        if route is not None and not (rule.target == MAIN and route.prefix.prefixlen > way.prefix.prefixlen):
            to = _met(to, route.prefix) or to
        elif rule.action == LOOKUP and default is None:
            continue
        else:
            route = default
        refuses = rule.action in REJECTS or (route is not None and route.kind in REJECTING)
        for asked in _sources(rule, start, own):
            found.append(Suspect(_as_compared(rule, replace(asked, destination=_inside(to))), refuses))
        if len(found) >= PACKETS_MAX:
            break
    return found[:PACKETS_MAX]


def _suppressed(rule: RoutingRule) -> int:
    return -1 if rule.suppress is None else rule.suppress


def _as_compared(rule: RoutingRule, asked: RouteQuestion) -> RouteQuestion:
    """With the protocol, ports, user and TOS that the rule wants."""
    if rule.invert:
        return asked
    sport, dport = (None if ports is None else ports[0] for ports in (rule.sports, rule.dports))
    uid = None if rule.uids is None else rule.uids[0]
    return replace(asked, protocol=rule.protocol or None, sport=sport, dport=dport, uid=uid, tos=rule.tos)


def _sources(rule: RoutingRule, span: AddressRange, own: Sequence[OwnAddress]) -> Iterator[RouteQuestion]:
    """Packets of this host's own and of others, of those addresses; where they go is not said yet."""
    nowhere = ip_network("0.0.0.0/0" if span.version == 4 else "::/0").network_address
    iif = "" if rule.invert else rule.iif
    ours = [each for each in own if span.contains(each.address) and not each.address.is_link_local]
    if iif in ("", "lo"):
        yield from (RouteQuestion(nowhere, each.address) for each in ours[:1])
    if iif == "lo" or (rule.uids is not None and not rule.invert):
        return
    addresses = {each.address for each in own}
    for each in ours:  # somebody beside one of our addresses
        near = [each.address + step for step in (1, -1)] if 0 < int(each.address) < (1 << each.address.max_prefixlen) - 1 else []
        beside = next((one for one in near if span.contains(one) and one not in addresses), None)
        if beside is not None and iif in ("", each.interface):
            yield RouteQuestion(nowhere, beside, each.interface)
            return
    if iif and (source := _inside(span, addresses)) not in addresses:
        yield RouteQuestion(nowhere, source, iif)


def taken_by(rule: RoutingRule, suspects: Iterable[Suspect], tunnels: Collection[str], kernel: Decisions) -> Taken | None:
    """The first of these packets that the rule takes away from the TUN interfaces `tunnels`. HostError."""
    for each in suspects:
        way = kernel.way(each.packet)
        if way.rule == rule and way.interface is not None and way.interface not in tunnels:
            return Taken(rule, each.packet, way.interface)
        if way.code and each.refuses and way.rule in (None, rule):
            return Taken(rule, each.packet, None)
    return None
