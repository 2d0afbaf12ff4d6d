"""The security policy database (RFC 4301 §4.4.1): what the configuration protects, as ordered rules of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.selectors import ANY_PORTS, PortRange, Selector
from ipsec_dp.dataplane import Action, Policy, PolicyRule
from ipsec_dp.selectors import ANY_PORT, ANY_PROTOCOL, Range, SelectorPair

if TYPE_CHECKING:
    from ipsec_dp.config.model import Config

ACTIONS = {"protect": Action.PROTECT, "bypass": Action.BYPASS, "discard": Action.DISCARD}


def pair_of(selector: Selector) -> SelectorPair:
    """A configured selector as a pair of ranges. "any" holds OPAQUE too."""
    protocol = ANY_PROTOCOL if selector.protocol is None else Range(selector.protocol, selector.protocol)
    return SelectorPair(
        selector.local,
        selector.remote,
        protocol,
        _ports(selector.local_ports),
        _ports(selector.remote_ports),
    )


def _ports(ports: PortRange) -> Range:
    return ANY_PORT if ports == ANY_PORTS else Range(ports.low, ports.high)


class Spd:
    """Rules in the order of decision, and the numbers by which the data plane knows tunnels and interfaces."""

    def __init__(self, config: Config) -> None:
        self.tunnel_numbers = {tunnel.name: number for number, tunnel in enumerate(config.tunnels)}
        self.interface_numbers: dict[str, int] = {}
        for tunnel in config.tunnels:
            self.interface_numbers.setdefault(tunnel.interface, len(self.interface_numbers))
        self.tunnel_names = tuple(self.tunnel_numbers)
        self.interface_names = tuple(self.interface_numbers)
        self.rules = tuple(self._rules(config))

    def _rules(self, config: Config) -> list[PolicyRule]:
        rules: list[PolicyRule] = []
        for rule in config.rules:
            interfaces = self.interface_names if rule.interface is None else (rule.interface,)
            tunnel = 0 if rule.tunnel is None else self.tunnel_numbers[rule.tunnel]
            pair = pair_of(rule.selector)
            rules.extend(PolicyRule(pair, ACTIONS[rule.action], self.interface_numbers[name], tunnel) for name in interfaces)
        return rules

    def snapshot(self) -> Policy:
        """The rules compiled for the data plane."""
        return Policy(self.rules)
