"""The plan of the guard when a few rules came or went: only those are looked at, where they affect no other.

`guard.plan` is what a plan is; here is nothing but a shorter way to the same, and None where there is none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ipsec_dp.host.guard import Plan, plan
from ipsec_dp.ipsec.addresses import merge, subtract
from ipsec_dp.ipsec.selectors import ANY_PROTOCOL
from ipsec_dp.util.few_changes import FewChanges, few_changes

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
            changes = few_changes(before, rules)
            if changes is not None and devices == known.tunnels:
                found = adapted(known, rules, changes)
        found = plan(rules, devices) if found is None else found
        self._last = tuple(rules), found
        return found


def adapted(known: Plan, rules: Sequence[GuardRule], changes: FewChanges[GuardRule]) -> Plan | None:
    """The plan of `rules`, which are those that `known` is the plan of but for `changes`, in any order; None: plan it anew.

    Where all is in pairs the order of policy does not matter, and a rule of whole protocols joins them unless its local
    addresses overlap others.
    """
    if known.rules or known.further:
        return None
    added = [each for each in changes.added if each not in changes.removed]
    removed = [each for each in changes.removed if each not in changes.added]
    pairs = dict(known.pairs)
    if removed:
        new = set(map(id, changes.added))
        stay = [each for each in rules if id(each) not in new or each in changes.removed]
        for version in {each.local.version for each in removed}:
            pairs[version] = _without(pairs[version], [each for each in removed if each.local.version == version], stay)
    for each in added:
        version = each.local.version
        if each.bypass or each.selector.protocol != ANY_PROTOCOL or (joined := _joined(pairs[version], each)) is None:
            return None
        pairs[version] = joined
    return replace(known, pairs=pairs)


def _without(pairs: Pairs, removed: Sequence[GuardRule], stay: Iterable[GuardRule]) -> Pairs:
    """A range of remote addresses is the union of what rules have: what of it none that goes has stays, and what others have."""
    holes: dict[AddressRange, list[AddressRange]] = {}
    for each in removed:
        holes.setdefault(each.local, []).append(each.remote)
    low, high = min(int(each.remote.low) for each in removed), max(int(each.remote.high) for each in removed)

    def opens(local: AddressRange, remote: AddressRange) -> bool:
        if int(remote.low) > high or int(remote.high) < low:  # nearly all; to hash addresses takes much longer
            return False
        return any(remote.overlaps(hole) for hole in holes.get(local, ()))

    left: dict[AddressRange, list[AddressRange]] = {local: [] for local in holes}
    for each in stay:
        if opens(each.local, each.remote):
            left[each.local].append(each.remote)
    opened = {pair for pair in pairs if opens(*pair)}
    for local, remote in opened:
        left[local] += subtract(remote, holes[local])
    return (pairs - opened) | {(local, remote) for local, parts in left.items() for remote in merge(parts)}


def _joined(pairs: Pairs, rule: GuardRule) -> Pairs | None:
    near = []  # what the new remote addresses make one range with
    low, high = int(rule.remote.low) - 1, int(rule.remote.high) + 1
    last, same = rule.local, True  # most pairs have one object for their local addresses
    for local, remote in pairs:
        if local is not last:
            last, same = local, local == rule.local
        if not same:
            if local.overlaps(rule.local):
                return None
        elif int(remote.low) <= high and int(remote.high) >= low:
            near.append((local, remote))
    (whole,) = merge((rule.remote, *(remote for _, remote in near)))
    return (pairs - set(near)) | {(rule.local, whole)}
