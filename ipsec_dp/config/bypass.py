"""What BYPASS policies mean to the kernel's routing: an ordered list of rules that lead past the tunnels, or to them.

A packet that may bypass must never enter a TUN interface, so it is the kernel that has to tell it apart: by addresses, protocol and
ports, which is all that its rules can match (<linux/fib_rules.h>). What they cannot express is refused, not widened or narrowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.bypass import KernelMatch
from ipsec_dp.ipsec.selectors import ANY_PORT, ICMP_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.config.model import Policy
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

PREFIX_PAIRS_MAX = 16  # of one selector: each is a rule, and the kernel tries them one after the other for each packet
RULES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A BYPASS policy (its index) that routing cannot express: by itself, or because of what policy `cut_by` takes out of it."""

    policy: int
    cut_by: int | None
    wrong: str
    right: str


@dataclass(frozen=True, slots=True)
class Plan:
    matches: tuple[KernelMatch, ...]  # in the order in which the kernel tries them
    refusals: tuple[Refusal, ...]


def plan(policies: Sequence[Policy]) -> Plan:
    """The rules that BYPASS policies need: their own, and one for each earlier policy that takes something out of them."""
    matches: list[KernelMatch] = []
    refusals: list[Refusal] = []
    waiting = [
        (index, _bounds(each)) for index, policy in enumerate(policies) if policy.action == "bypass" for each in policy.selectors
    ]
    for index, policy in enumerate(policies):
        past = policy.action == "bypass"
        if past:
            waiting = [(number, each) for number, each in waiting if number > index]
        elif not waiting:
            break
        for selector in policy.selectors:
            cut = index if past else _first_met(waiting, _bounds(selector))
            if cut is None:
                continue
            try:
                matches += express(selector, past=past)
            except BadValueError as error:
                refusals.append(Refusal(cut, None if past else index, error.wrong, error.right))
            if len(matches) > RULES_MAX:
                wrong = f"more than {RULES_MAX} rules, for this and the policies before it"
                return Plan(tuple(matches), (*refusals, Refusal(cut, None if past else index, wrong, "write fewer, wider ones")))
    return Plan(tuple(matches), tuple(refusals))


def _bounds(selector: SelectorPair) -> tuple[int, ...]:
    """Of each dimension the first and the last number; of the version too, which is one."""
    addresses = (int(selector.remote.low), int(selector.remote.high), int(selector.local.low), int(selector.local.high))
    return (selector.version, selector.version, *addresses, *selector.protocol, *selector.local_ports, *selector.remote_ports)


def _first_met(waiting: Sequence[tuple[int, tuple[int, ...]]], mine: tuple[int, ...]) -> int | None:
    """The first bypass policy (its index) that could hold a packet of this one: thousands are compared with thousands."""
    version, _, remote, remote_end, local, local_end, protocol, protocol_end, near, near_end, far, far_end = mine
    for index, other in waiting:
        if (
            other[2] <= remote_end
            and remote <= other[3]
            and other[4] <= local_end
            and local <= other[5]
            and other[0] == version
            and other[6] <= protocol_end
            and protocol <= other[7]
            and other[8] <= near_end
            and near <= other[9]
            and other[10] <= far_end
            and far <= other[11]
        ):
            return index
    return None


def express(selector: SelectorPair, *, past: bool) -> list[KernelMatch]:
    """The selector as rules. Raises BadValueError for what no short list of them can say."""
    if selector.opaque:
        raise BadValueError("later fragments", "leave the ports out")
    if selector.icmp is not None:
        raise BadValueError("the ICMP type", "leave icmp_type out of it")
    pairs = len(selector.local.prefixes) * len(selector.remote.prefixes)
    if pairs > PREFIX_PAIRS_MAX:
        raise BadValueError(
            f"ranges of addresses that are {pairs} pairs of prefixes", f"write ranges that are {PREFIX_PAIRS_MAX} at the most"
        )
    ports = [None if each == ANY_PORT else each for each in (selector.local_ports, selector.remote_ports)]
    if selector.protocol.single in ICMP_PROTOCOLS:
        ports = [None, None]
    for bounds in ports:
        if bounds is not None and (bounds.low == 0 or bounds.high == 65535):
            raise BadValueError(
                f"ports {bounds} (its rules take 1 to 65534)", f"write {max(bounds.low, 1)}-{min(bounds.high, 65534)}"
            )
    return [
        KernelMatch(source, destination, selector.protocol.single, ports[0], ports[1], past)
        for source in selector.local.prefixes
        for destination in selector.remote.prefixes
    ]


def held_by(
    matches: Iterable[KernelMatch], source: Address, destination: Address, protocol: int, ports: tuple[int, int]
) -> KernelMatch | None:
    """The first rule that the kernel finds for a packet."""
    for match in matches:
        bounds = zip((match.source_ports, match.destination_ports), ports, strict=True)
        if (
            source in match.source
            and destination in match.destination
            and match.protocol in (None, protocol)
            and all(bound is None or bound.contains(port) for bound, port in bounds)
        ):
            return match
    return None
