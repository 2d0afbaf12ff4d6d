"""`policy explain`: which route, rule and SA decide about a packet, and why, as a list of steps.

The steps follow the packet: the kernel's rules for bypass, routes, policy, SA, guard, zones, the host's filter. Each says what was
asked, the verdict, and why; the last that ends the packet's way gives the answer. `GatewayView` is what only a running gateway
knows; without one, from the configuration alone, those steps say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.config.bypass import held_by, plan
from ipsec_dp.config.model import ROUTE_METRIC, each_rule
from ipsec_dp.config.zone_policy import Packet, ZonePolicy
from ipsec_dp.gateway.explanation import Explanation, RouteText, RuleText, SaText
from ipsec_dp.gateway.host_steps import as_asked, comes_by, decided, elsewhere, route_text, tell_filters
from ipsec_dp.ipsec.selectors import PORT_OPAQUE, PORT_PROTOCOLS, PROTOCOL_OPAQUE
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.util.slices import in_slices, turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.config import Config
    from ipsec_dp.gateway.host_steps import HostView
    from ipsec_dp.gateway.question import PacketQuestion
    from ipsec_dp.ipsec.addresses import Address, Network
    from ipsec_dp.ipsec.rules import Rule
    from ipsec_dp.ipsec.selectors import SelectorPair


@dataclass(frozen=True, slots=True)
class HoldingChild:
    """A CHILD_SA of a running gateway that holds the packet; SPIs None: it has no such SA now."""

    spi_in: int | None
    spi_out: int | None
    text: str


@dataclass(frozen=True, slots=True)
class GatewayView:
    """What only a running gateway knows. `children`: the CHILD_SAs of a tunnel whose selectors hold the packet."""

    host: HostView
    children: Callable[[str, PacketQuestion], list[HoldingChild]]


def holds(selector: SelectorPair, question: PacketQuestion) -> bool:
    """Whether a selector holds the packet, be it configured or negotiated."""
    return selector.holds(question.local, question.remote, question.protocol, question.local_port, question.remote_port)


async def first_rule(config: Config, question: PacketQuestion, interface: str | None = None) -> Rule | None:
    """The first rule that holds the packet, of those that count on an interface; None: of all."""
    await turn()
    async for rule in in_slices(each_rule(config.policies, config.tunnels)):
        if (interface is None or rule.interface in (None, interface)) and holds(rule.selector, question):
            return rule
    return None


def name_of(rule: Rule) -> str:
    """How a person finds a rule in the file."""
    if rule.policy is not None:
        return f"policy #{rule.policy + 1}"
    return f'tunnel "{rule.tunnel}"' + (f" proxy_id #{rule.proxy_id + 1}" if rule.proxy_id is not None else " (no proxy IDs)")


async def explain(config: Config, question: PacketQuestion, view: GatewayView | None) -> Explanation:
    """What becomes of the packet."""
    made = Explanation(question)
    if question.protocol == PROTOCOL_OPAQUE:
        made.add("packet", "incomplete", "no protocol given: only rules for any protocol can hold it")
    elif question.local_port == PORT_OPAQUE and question.protocol in PORT_PROTOCOLS:
        made.add("packet", "incomplete", "no ports given, as in a later fragment: only rules for any ports or opaque ones hold it")
    return await (_inbound if question.inbound else _outbound)(config, question, view, made)


# ---- outbound ------------------------------------------------------------------------------------------------------------------


async def _outbound(config: Config, question: PacketQuestion, view: GatewayView | None, made: Explanation) -> Explanation:
    ends = (question.local, question.remote, question.protocol, (question.local_port, question.remote_port))
    match = held_by(plan(config.policies).matches, *ends)
    if match is not None and match.past:
        rule = await first_rule(config, question)
        _tell_rule(made, rule, "bypass")
        made.add("bypass", "bypass", "a rule of the kernel's routing leads it past the tunnel interfaces, and the guard accepts it")
        return made.end("bypass", "leaves in clear by the host's own routes")
    made.add("bypass", "no", "no bypass policy decides it, so the tunnels' routes are asked")
    iif = "" if view is None else await comes_by(question, view.host, {tunnel.interface for tunnel in config.tunnels})
    interface = await _tell_route(config, question, view, iif, made)
    if interface is None:
        return await _outside(config, question, made)
    await _decided(config, question, view, interface, made)
    await _tell_filters(config, view, iif, made)
    return made


async def _tell_filters(config: Config, view: GatewayView | None, iif: str, made: Explanation) -> None:
    """Of a packet that a tunnel carries."""
    name = made.rule.tunnel if made.sa is None and made.rule is not None else None if made.sa is None else made.sa.tunnel
    if view is not None and made.outcome == "protect" and name is not None:
        await tell_filters(made, view.host, config.tunnel(name), iif)


async def _tell_route(
    config: Config, question: PacketQuestion, view: GatewayView | None, iif: str, made: Explanation
) -> str | None:
    """The TUN interface that the packet is routed into, or None. `iif`: it comes from another host by that."""
    found = await _best_route(config, question.remote)
    if view is not None:
        way = await view.host.way(as_asked(question, iif))
        made.route = route_text(way, iif, None if found is None else str(found[0]))
        if way.interface not in {tunnel.interface for tunnel in config.tunnels}:
            made.add("route", *elsewhere(way, question.remote))
            return None
        ours = found is not None and found[1] == way.interface and not decided(way)
        where = (
            f"{found[0]} leads there ({found[2]})"
            if ours and found is not None
            else f"a route of the host leads there{decided(way)}"
        )
        made.add("route", str(way.interface), f"the host's routing sends {question.remote} into {way.interface}: {where}")
        return way.interface
    if found is None:
        made.add("route", "none", f"no route of this configuration leads {question.remote} into a tunnel interface")
        return None
    made.route = RouteText(interface=found[1], prefix=str(found[0]))
    made.add("route", found[1], f"{found[0]} leads into {found[1]} ({found[2]}), unless the host has a longer route of its own")
    return found[1]


async def _best_route(config: Config, destination: Address) -> tuple[Network, str, str] | None:
    """Prefix, interface and origin of the longest configured route, the least metric first."""
    await turn()
    held = [
        (prefix, ROUTE_METRIC, tunnel.interface, f'routes of tunnel "{tunnel.name}"')
        async for tunnel in in_slices(config.tunnels)
        for prefix in tunnel.routes
        if destination in prefix
    ]
    held += [
        (route.prefix, route.metric, config.tunnel(route.tunnel).interface, f"route #{number}")
        async for number, route in in_slices(enumerate(config.routes, 1))
        if destination in route.prefix
    ]
    if not held:
        return None
    prefix, _, interface, origin = min(held, key=lambda way: (-way[0].prefixlen, way[1]))
    return prefix, interface, origin


def _tell_rule(made: Explanation, rule: Rule | None, verdict: str) -> None:
    if rule is None:
        made.add("rule", verdict, "no policy and no proxy ID holds it")
        return
    made.rule = RuleText(name=name_of(rule), action=rule.action, tunnel=rule.tunnel, selector=str(rule.selector))
    made.add("rule", verdict, f"{name_of(rule)} is the first that holds it: {rule.action} {rule.selector}")


async def _decided(
    config: Config, question: PacketQuestion, view: GatewayView | None, interface: str, made: Explanation
) -> Explanation:
    rule = await first_rule(config, question, interface)
    if rule is None:
        _tell_rule(made, None, "drop")
        return made.end("drop", f"dropped in {interface} as policy_none")
    _tell_rule(made, rule, rule.action)
    if rule.action == "discard":
        return made.end("discard", f"dropped in {interface} as policy_discard")
    if rule.action == "bypass":
        return made.end("drop", f"dropped in {interface} as policy_bypass: a route led it there all the same")
    if view is not None and not await _zone_passes(config, question, view, interface, made):
        return made.end("drop", "dropped between zones")
    return _tell_sa(config, question, view, str(rule.tunnel), made)


def _tell_sa(config: Config, question: PacketQuestion, view: GatewayView | None, tunnel: str, made: Explanation) -> Explanation:
    sealed = f'sealed in tunnel "{tunnel}"'
    if view is None:
        made.add("sa", "unknown", "SAs are known to a running gateway only")
        return made.end("protect", sealed)
    child = next((each for each in view.children(tunnel, question) if each.spi_out is not None), None)
    if child is not None:
        made.sa = SaText(tunnel=tunnel, spi_out=spi_text(child.spi_out), selectors=child.text)
        made.add("sa", spi_text(child.spi_out), f"the first CHILD_SA of the tunnel that holds it: {child.text}")
        return made.end("protect", f"{sealed}, SPI {spi_text(child.spi_out)}")
    asks = config.tunnel(tunnel).auth is not None
    made.add(
        "sa", "none", "no CHILD_SA of the tunnel holds it" + ("; IKE asks for one, and the packet waits a moment" if asks else "")
    )
    return made.end("protect" if asks else "drop", f"{sealed} as soon as there is an SA; until then dropped as no_sa")


async def _zone_passes(config: Config, question: PacketQuestion, view: GatewayView, interface: str, made: Explanation) -> bool:
    if not config.zones:
        return True
    origin = question.iif or await view.host.interface_to(question.local)
    judgement = ZonePolicy(config).judge(_packet(question), origin, interface)
    made.add("zone", "pass" if judgement.allowed else "drop", judgement.why)
    return judgement.allowed


def _packet(question: PacketQuestion) -> Packet:
    ends = [(question.local, question.local_port), (question.remote, question.remote_port)]
    (source, sport), (destination, dport) = ends[::-1] if question.inbound else ends
    return Packet(source, destination, question.protocol, sport, dport)


async def _guarded(config: Config, question: PacketQuestion) -> Rule | None:
    """The rule by which the guard decides. Selectors to everywhere count for what is routed only (see `host.guard.narrow`)."""
    rule = await first_rule(config, question)
    if rule is None or rule.action == "bypass" or not rule.selector.remote.everything:
        return rule
    return rule if await _best_route(config, question.remote) is not None else None


async def _outside(config: Config, question: PacketQuestion, made: Explanation) -> Explanation:
    """A packet that enters no tunnel interface."""
    rule = await _guarded(config, question)
    if rule is None or rule.action == "bypass":
        _tell_rule(made, rule, "clear" if rule is None else "bypass")
        return made.end("clear", "leaves in clear, if the host routes it: nothing here is about it")
    _tell_rule(made, rule, rule.action)
    made.add("guard", "drop", "it would leave by an interface that is no tunnel's")
    return made.end("discard" if rule.action == "discard" else "drop", "dropped by the guard wherever it leaves")


# ---- inbound -------------------------------------------------------------------------------------------------------------------


async def _inbound(config: Config, question: PacketQuestion, view: GatewayView | None, made: Explanation) -> Explanation:
    carriers = await _tell_carriers(config, question, view, made)
    rule = await _guarded(config, question)
    _tell_rule(made, rule, "clear" if rule is None else rule.action)
    if rule is not None and rule.action == "discard":
        made.add("guard", "drop", "in clear the guard drops it; out of a tunnel it is dropped as policy_inbound")
        return made.end("discard", "dropped, whether it comes sealed or in clear")
    if rule is None or rule.action == "bypass":
        made.add("guard", "accept", "in clear it may come: nothing says that it must be protected")
        return made.end("bypass" if rule is not None else "accept", "accepted in clear" + (", and sealed" if carriers else ""))
    made.add("guard", "drop", "in clear it is dropped: it claims to come from where all must come sealed (RFC 4301 §5.2)")
    if not carriers:
        return made.end("drop", "dropped: it must come sealed, and no tunnel may carry it")
    if view is not None and config.zones:
        judgement = ZonePolicy(config).judge(
            _packet(question), config.tunnel(carriers[0]).interface, await view.host.interface_to(question.local)
        )
        made.add("zone", "pass" if judgement.allowed else "drop", judgement.why)
        if not judgement.allowed:
            return made.end("drop", "dropped between zones")
    made.end("protect", f'accepted when it comes sealed in tunnel "{carriers[0]}", and dropped in clear')
    await _tell_delivery(config, question, view, carriers[0], made)
    return made


async def _tell_delivery(config: Config, question: PacketQuestion, view: GatewayView | None, name: str, made: Explanation) -> None:
    """Where the host sends what comes out of a tunnel interface."""
    if view is None:
        return
    tunnel = config.tunnel(name)
    way = await view.host.way(as_asked(question, tunnel.interface))
    here = (
        f"out of {tunnel.interface} the host's routing sends it by {way.interface}"
        if way.interface != "lo"
        else "it is for this host"
    )
    refused = f"out of {tunnel.interface} the host's routing refuses it ({way.why or 'no route'})"
    made.add("route", way.interface or "none", (refused if way.interface is None else here) + decided(way))
    await _tell_filters(config, view, tunnel.interface, made)


async def _tell_carriers(config: Config, question: PacketQuestion, view: GatewayView | None, made: Explanation) -> list[str]:
    """The tunnels that may bring the packet."""
    await turn()
    carriers = []
    async for tunnel in in_slices(config.tunnels):
        if not any(holds(selector, question) for selector in tunnel.selectors):
            continue
        child = (
            None if view is None else next((each for each in view.children(tunnel.name, question) if each.spi_in is not None), None)
        )
        if view is not None and child is None:
            made.add("sa", "none", f'tunnel "{tunnel.name}" may carry it by its selectors, but has no SA now that does')
            continue
        if child is not None:
            made.sa = made.sa or SaText(tunnel=tunnel.name, spi_in=spi_text(child.spi_in), selectors=child.text)
        what = "its selectors hold it" if child is None else f"SA {spi_text(child.spi_in)} holds it: {child.text}"
        made.add("sa", tunnel.name, f'tunnel "{tunnel.name}" may bring it: {what}')
        carriers.append(tunnel.name)
    if not carriers:
        made.add("sa", "none", "no tunnel can bring it now: what an SA does not hold is dropped as selectors")
    return carriers
