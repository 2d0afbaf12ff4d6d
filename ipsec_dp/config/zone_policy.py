"""Zones: what may pass between groups of interfaces, decided as the kernel's table (`host.zones`) decides it.

A packet is judged when it comes from or goes to an interface that is in a zone. Within a zone it passes; from one zone to another
the first [[zone_rule]] of the two that holds it decides, and without one it is dropped; so is what passes between an interface in a
zone and one without. The gateway itself is the zone GATEWAY: what a tunnel interface brings it, or takes from it, needs a rule as
between zones; on other interfaces only rules that deny count, so that nobody is locked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ipsec_dp.ipsec.selectors import PORT_OPAQUE

if TYPE_CHECKING:
    from ipsec_dp.config.model import Config, ZoneRule
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Packet:
    """What rules look at. Ports OPAQUE: the protocol has none, or they cannot be seen."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = PORT_OPAQUE
    destination_port: int = PORT_OPAQUE


class Judgement(NamedTuple):
    """`rule` is the number of the [[zone_rule]] that decided, from 1; None: none did. `why` is a sentence for a person."""

    allowed: bool
    rule: int | None
    why: str


def covers(pattern: str, name: str) -> bool:
    """Whether an interface, or all interfaces of another pattern, are among those that `pattern` names."""
    if pattern.endswith("*"):
        return name.removesuffix("*").startswith(pattern[:-1])
    return pattern == name


class ZonePolicy:
    """The zones of one configuration."""

    def __init__(self, config: Config) -> None:
        self._zones = config.zones
        self._rules = config.zone_rules
        self._tunnels = frozenset(tunnel.interface for tunnel in config.tunnels)

    def zone_of(self, interface: str | None) -> str | None:
        """The zone of an interface, or None; that of no interface, and of the loopback, is the gateway."""
        if interface in (None, "lo"):
            return GATEWAY
        return next((zone.name for zone in self._zones if any(covers(each, str(interface)) for each in zone.interfaces)), None)

    def judge(self, packet: Packet, inbound: str | None, outbound: str | None) -> Judgement:
        """Whether the first packet of a flow passes that comes by one interface and goes by another; None: from or to the gateway.

        Replies, and ICMP errors about a flow, pass when the flow does.
        """
        origin, target = self.zone_of(inbound), self.zone_of(outbound)
        if {origin, target} <= {None, GATEWAY}:
            return Judgement(True, None, "neither interface is in a zone")
        if origin is None or target is None:
            name = inbound if origin is None else outbound
            return Judgement(False, None, f'interface {name} is in no zone, and the other is in "{target or origin}"')
        for number, rule in enumerate(self._rules, 1):
            if (rule.from_zone, rule.to_zone) == (origin, target) and any(_holds(each, packet) for each in rule.selectors):
                return Judgement(rule.allow, number, f'zone_rule #{number} {_verb(rule)} it from "{origin}" to "{target}"')
        if origin == target:
            return Judgement(True, None, f'both interfaces are in zone "{origin}"')
        if GATEWAY in (origin, target) and not {inbound, outbound} & self._tunnels:
            return Judgement(True, None, "the gateway's own traffic outside tunnels passes unless a rule denies it")
        return Judgement(False, None, f'no zone_rule allows it from "{origin}" to "{target}"')


def _verb(rule: ZoneRule) -> str:
    return "allows" if rule.allow else "denies"


def _holds(selector: SelectorPair, packet: Packet) -> bool:
    """Whether a rule's selector (local: source, remote: destination) holds a packet."""
    return selector.holds(packet.source, packet.destination, packet.protocol, packet.source_port, packet.destination_port)
