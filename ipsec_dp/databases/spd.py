"""The security policy database (RFC 4301 §4.4.1): what the configuration protects, as ordered rules of the data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.model import rules_of
from ipsec_dp.databases.indices import Indices
from ipsec_dp.dataplane import Action, Policy, PolicyRule
from ipsec_dp.dataplane.policy import pack_rule, unpack_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ipsec_dp.config.model import Config, Tunnel
    from ipsec_dp.ipsec.rules import Rule

TUNNELS_LEAST = 1 << 16  # for which the data plane has room, so that reloads may add; only what is used becomes resident
INTERFACES_MOST = 4096  # of the data plane

ACTIONS = {"protect": Action.PROTECT, "bypass": Action.BYPASS, "discard": Action.DISCARD}


class Spd:
    """Rules in the order of decision, and the numbers by which the data plane knows tunnels and interfaces.

    Numbers stay when the configuration changes (`reconfigure`), so that SAs and packets of other tunnels need not know. Rules are
    kept compiled for each tunnel: a snapshot for ten thousand tunnels, one of them new, is made without touching the others.
    """

    def __init__(self, config: Config) -> None:
        self.tunnels = Indices(max(TUNNELS_LEAST, 4 * len(config.tunnels)), "tunnel")
        self.interfaces = Indices(INTERFACES_MOST, "interface")
        self.interface_of: dict[str, int] = {}  # by tunnel
        self._compiled: dict[str, tuple[Tunnel, bytes]] = {}
        self._before = b""  # the rules of [[policy]], which come first
        self._order: tuple[str, ...] = ()
        self.reconfigure(config)

    @property
    def tunnel_numbers(self) -> dict[str, int]:
        return self.tunnels.of

    @property
    def interface_numbers(self) -> dict[str, int]:
        return self.interfaces.of

    @property
    def tunnel_names(self) -> dict[int, str]:
        return self.tunnels.names

    @property
    def interface_names(self) -> dict[int, str]:
        return self.interfaces.names

    def number_as(self, numbers: Mapping[str, int], config: Config) -> None:
        """Tunnels have these numbers, as they had in another process: before anybody has asked for one. They say which worker has a
        tunnel, where queues and SPIs are steered to, and where flows are found."""
        self.tunnels.begin_with({name: number for name, number in numbers.items() if config.has_tunnel(name)})
        self._compiled.clear()
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """The rules of another configuration; what is gone keeps its number until `forget`. Raises IndicesUsedUpError, with no more
        changed than that what is new may have numbers."""
        compiled = self._compiled
        new = [tunnel for tunnel in config.tunnels if (known := compiled.get(tunnel.name)) is None or known[0] is not tunnel]
        for tunnel in new:
            self.tunnels.take(tunnel.name)
            self.interfaces.take(tunnel.interface)
        wanted = dict.fromkeys(tunnel.interface for tunnel in config.tunnels)
        everywhere = [self.interfaces.of[name] for name in wanted]
        named = {policy.tunnel for policy in config.policies if policy.tunnel is not None}
        first = rules_of(config.policies, tuple(config.tunnel(name) for name in named))
        self._before = b"".join(self._compile(rule, everywhere) for rule in first if rule.policy is not None)
        for tunnel in new:
            self.interface_of[tunnel.name] = self.interfaces.of[tunnel.interface]
            compiled[tunnel.name] = tunnel, b"".join(self._compile(rule, ()) for rule in rules_of((), (tunnel,)))
        self._order = tuple(tunnel.name for tunnel in config.tunnels)

    def forget(self, tunnels: Iterable[str], interfaces: Iterable[str]) -> list[int]:
        """Nothing has these names any more; the numbers that the tunnels had."""
        gone = list(tunnels)
        for name in gone:
            self.interface_of.pop(name, None)
            self._compiled.pop(name, None)
        self.interfaces.release(interfaces)
        return self.tunnels.release(gone)

    def _compile(self, rule: Rule, everywhere: Sequence[int]) -> bytes:
        interfaces = everywhere if rule.interface is None else (self.interfaces.of[rule.interface],)
        tunnel = 0 if rule.tunnel is None else self.tunnels.of[rule.tunnel]
        action = ACTIONS[rule.action]
        return b"".join(pack_rule(PolicyRule(rule.selector, action, number, tunnel)) for number in interfaces)

    @property
    def packed(self) -> bytes:
        """All rules, as `Policy.of_packed` takes them."""
        return self._before + b"".join(self._compiled[name][1] for name in self._order)

    @property
    def rules(self) -> tuple[PolicyRule, ...]:
        """All rules in the order of decision."""
        return unpack_rules(self.packed)

    def snapshot(self) -> Policy:
        """The rules compiled for the data plane."""
        return Policy.of_packed(self.packed)
