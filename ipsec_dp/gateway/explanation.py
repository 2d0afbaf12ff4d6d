"""The answer of `policy explain`: the verdict on a packet, and the steps that led to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ipsec_dp.ipsec.selectors import PORT_OPAQUE, PROTOCOL_OPAQUE

if TYPE_CHECKING:
    from ipsec_dp.gateway.question import PacketQuestion

SCHEMA: Final = 1

Outcome = Literal["protect", "bypass", "discard", "drop", "clear", "accept"]


class ExplainStep(msgspec.Struct, frozen=True):
    """`what` was asked: packet, bypass, route, rule, sa, guard, zone, filter. `verdict`: a word. `why`: a sentence."""

    what: str
    verdict: str
    why: str


class PacketText(msgspec.Struct, frozen=True, kw_only=True):
    """The packet as it travels. None: not given."""

    source: str = "?"
    destination: str = "?"
    protocol: int | None = None
    sport: int | None = None
    dport: int | None = None


class RouteText(msgspec.Struct, frozen=True, kw_only=True):
    """`interface` None: the host refuses; `prefix` None: no route of the configuration. The rest is what the kernel says: its
    routing table, the rule that leads there, the interface by which a forwarded packet comes; None: not asked, or none."""

    interface: str | None
    prefix: str | None
    table: int | None = None
    rule: str | None = None
    iif: str | None = None


class RuleText(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that decides, by the name that a person finds it under."""

    name: str
    action: str
    tunnel: str | None
    selector: str


class SaText(msgspec.Struct, frozen=True, kw_only=True):
    """The SA that carries the packet, in the direction that was asked about."""

    tunnel: str
    spi_in: str | msgspec.UnsetType = msgspec.UNSET
    spi_out: str | msgspec.UnsetType = msgspec.UNSET
    selectors: str


class ExplainAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every field has a default, so that an answer of another version can be shown too."""

    schema: int = SCHEMA
    direction: str = "?"
    packet: PacketText = PacketText()
    verdict: str = "?"
    text: str = ""
    route: RouteText | None = None
    rule: RuleText | None = None
    sa: SaText | None = None
    steps: tuple[ExplainStep, ...] = ()


@dataclass(slots=True)
class Explanation:
    """The answer while it is found, step by step."""

    question: PacketQuestion
    outcome: Outcome = "clear"
    text: str = ""
    route: RouteText | None = None
    rule: RuleText | None = None
    sa: SaText | None = None
    steps: list[ExplainStep] = field(default_factory=list)

    def add(self, what: str, verdict: str, why: str) -> None:
        self.steps.append(ExplainStep(what, verdict, why))

    def end(self, outcome: Outcome, text: str) -> Explanation:
        self.outcome, self.text = outcome, text
        return self

    @property
    def answer(self) -> ExplainAnswer:
        """As it is sent."""
        asked = self.question
        ends = [str(asked.local), str(asked.remote)]
        ports = [None if port == PORT_OPAQUE else port for port in (asked.local_port, asked.remote_port)]
        if asked.inbound:
            ends, ports = ends[::-1], ports[::-1]
        protocol = None if asked.protocol == PROTOCOL_OPAQUE else asked.protocol
        return ExplainAnswer(
            direction="inbound" if asked.inbound else "outbound",
            packet=PacketText(source=ends[0], destination=ends[1], protocol=protocol, sport=ports[0], dport=ports[1]),
            verdict=self.outcome,
            text=self.text,
            route=self.route,
            rule=self.rule,
            sa=self.sa,
            steps=tuple(self.steps),
        )
