"""The host's part of `policy explain`: what its routing decides, as the kernel says, and which chains of its filter may drop it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.gateway.explanation import RouteText
from ipsec_dp.host import PROTOCOL, HostError
from ipsec_dp.host.filter_remedies import Wanted, dropped, outer, remedy
from ipsec_dp.host.filters import PROTOCOLS, FilterPacket
from ipsec_dp.host.netlink import open_netlink
from ipsec_dp.host.outer import own_sources
from ipsec_dp.host.routing_rules import RouteQuestion, table_name
from ipsec_dp.ipsec.selectors import PORT_OPAQUE, PORT_PROTOCOLS, PROTOCOL_OPAQUE
from ipsec_dp.network.foreign_rules import taken_rules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.gateway.explanation import Explanation
    from ipsec_dp.gateway.question import PacketQuestion
    from ipsec_dp.host.decision import Way
    from ipsec_dp.host.filters import Filter
    from ipsec_dp.host.foreign_rules import Taken
    from ipsec_dp.ipsec.addresses import Address

OUTER_KINDS = {"esp": ("esp",), "udp": ("udp",), "auto": ("udp", "esp")}  # by `encapsulation`


@dataclass(frozen=True, slots=True)
class HostView:
    """What only the host on which a gateway runs knows.

    `way`: what its routing decides about a packet; `own`: its addresses; `filter`: its packet filter, HostError when that cannot
    be listed.
    """

    way: Callable[[RouteQuestion], Awaitable[Way]]
    own: Callable[[], Awaitable[set[Address]]]
    filter: Callable[[], Awaitable[Filter]]

    async def interface_to(self, address: Address) -> str | None:
        """The interface by which it sends a packet to an address; None when it refuses."""
        return (await self.way(RouteQuestion(address))).interface


async def comes_by(question: PacketQuestion, host: HostView, tunnels: set[str]) -> str:
    """The interface by which an outbound packet comes to this host; "": it is the host's own, or that is not known."""
    if question.iif:
        return question.iif
    if question.local in await host.own():
        return ""
    found = await host.interface_to(question.local)
    return "" if found is None or found == "lo" or found in tunnels else found


def as_asked(question: PacketQuestion, iif: str) -> RouteQuestion:
    """The packet in the terms of the kernel's routing."""
    source, destination, sport, dport = _ends(question)
    protocol = None if question.protocol == PROTOCOL_OPAQUE else question.protocol
    ports = (sport, dport) if protocol in PORT_PROTOCOLS else (None, None)
    return RouteQuestion(destination, source, iif, protocol=protocol, sport=ports[0], dport=ports[1])


def _ends(question: PacketQuestion) -> tuple[Address, Address, int | None, int | None]:
    ports = [None if port == PORT_OPAQUE else port for port in (question.local_port, question.remote_port)]
    if question.inbound:
        return question.remote, question.local, ports[1], ports[0]
    return question.local, question.remote, ports[0], ports[1]


def decided(way: Way) -> str:
    """By which rule, where that is none of a gateway's and not one that every host has."""
    if way.rule is None or way.rule.owner == PROTOCOL or (way.rule.priority, way.rule.words) in USUAL:
        return ""
    return f": rule {way.rule.priority} ({way.rule.words}) decides that"


USUAL = {(0, "from all lookup local"), (32766, "from all lookup main"), (32767, "from all lookup default")}


def route_text(way: Way, iif: str, prefix: str | None) -> RouteText:
    """For the answer."""
    rule = None if way.rule is None else f"{way.rule.priority}: {way.rule.words}"
    return RouteText(interface=way.interface, prefix=prefix, table=way.table or None, rule=rule, iif=iif or None)


def elsewhere(way: Way, destination: Address) -> tuple[str, str]:
    """Verdict and reason of the step about a packet that enters no tunnel interface."""
    if way.interface is None:
        return "none", f"the host's routing refuses it ({way.why or 'no route'}){decided(way)}"
    table = f" (table {table_name(way.table)})" if decided(way) else ""
    return (
        way.interface,
        f"the host's routing sends {destination} by {way.interface}{table}, which is no tunnel interface{decided(way)}",
    )


async def rules_in_the_way(config: Config, tunnels: Collection[str]) -> list[tuple[int, Taken]]:
    """Rules of others that take what a configuration leads into the TUN interfaces `tunnels`, numbered, whether it runs or not.

    HostError when the kernel cannot be asked.
    """
    async with open_netlink() as ipr:
        own = await own_sources(ipr)
    return await taken_rules(config, own, tunnels)


async def tell_filters(made: Explanation, host: HostView, tunnel: Tunnel, iif: str) -> None:
    """Names the chains that may drop the packet beside the tunnel, or the outer packets of its tunnel. `iif`: it comes by it."""
    question = made.question
    try:
        found = await host.filter()
        oif = await host.interface_to(question.local) if question.inbound else tunnel.interface
    except HostError as error:
        made.add("filter", "unknown", f"the host's own packet filter cannot be told: {error}")
        return
    wanted = [_inner(question, tunnel.interface, iif, oif), *_outer(question, tunnel)]
    for chain, several in dropped(found, wanted).items():
        what = ", ".join(dict.fromkeys(each.what for each in several))
        remedies = "; ".join(dict.fromkeys(remedy(chain, each) for each in several))
        made.add("filter", "may drop", f"chain {chain} of the host's own filter may drop {what}; to let it pass: {remedies}")


def _inner(question: PacketQuestion, interface: str, iif: str, oif: str | None) -> Wanted:
    source, destination, sport, dport = _ends(question)
    here = oif == "lo" if question.inbound else not iif
    hook = ("input" if question.inbound else "output") if here else "forward"
    packet = FilterPacket(
        hook,
        question.local.version,
        iif=interface if question.inbound else iif or None,
        oif=None if hook == "input" else oif,
        protocol=PROTOCOLS.get(question.protocol),
        sport=sport,
        dport=dport,
        source=str(source),
        destination=str(destination),
    )
    return Wanted("this packet", packet, "iif" if question.inbound else "oif", interface)


def _outer(question: PacketQuestion, tunnel: Tunnel) -> list[Wanted]:
    """What carries it outside."""
    ends = [tunnel.local, *tunnel.remotes]
    versions = {each.version for each in ends if each is not None and not isinstance(each, str)} or {4, 6}
    return outer("input" if question.inbound else "output", sorted(versions), OUTER_KINDS[tunnel.encapsulation])
