"""The plan of the guard when a few rules were added and none was removed: only those are looked at, where they affect no other.

`guard.plan` is what a plan is; here is nothing but a shorter way to the same, and None where there is none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipsec_dp.host.guard import Plan, plan
from ipsec_dp.ipsec.addresses import merge
from ipsec_dp.ipsec.selectors import ANY_PROTOCOL
from ipsec_dp.util.additions import additions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.host.guard import Device, GuardRule
    from ipsec_dp.ipsec.addresses import AddressRange

Pairs = frozenset[tuple["AddressRange", "AddressRange"]]


class Planner:
    """`plan` for one gateway; remembers what it was asked last."""

    def __init__(self) -> None:
        self._last: tuple[tuple[GuardRule, ...], Plan] | None = None

    def plan(self, rules: Sequence[GuardRule], tunnels: Iterable[Device]) -> Plan:
        """As `guard.plan`."""
        devices = frozenset(tunnels)
        found = None
        if self._last is not None:
            before, known = self._last
            added = additions(before, rules)
            if added is not None and devices == known.tunnels:
                found = grown(known, added)
        found = plan(rules, devices) if found is None else found
        self._last = tuple(rules), found
        return found


def grown(known: Plan, added: Iterable[GuardRule]) -> Plan | None:
    """The plan of what `known` is the plan of and these rules, anywhere among the others; None: plan it anew.

    Where all is in pairs the order of policy does not matter, and a rule of whole protocols joins them unless its local
    addresses overlap others.
    """
    if known.rules or known.further:
        return None
    pairs = dict(known.pairs)
    for each in added:
        version = each.local.version
        if each.bypass or each.selector.protocol != ANY_PROTOCOL or (joined := _joined(pairs[version], each)) is None:
            return None
        pairs[version] = joined
    return replace(known, pairs=pairs)


def _joined(pairs: Pairs, rule: GuardRule) -> Pairs | None:
    near = []  # what the new remote addresses make one range with
    for local, remote in pairs:
        if local != rule.local:
            if local.overlaps(rule.local):
                return None
        elif len(merge((remote, rule.remote))) == 1:
            near.append((local, remote))
    (whole,) = merge((rule.remote, *(remote for _, remote in near)))
    return (pairs - set(near)) | {(rule.local, whole)}
