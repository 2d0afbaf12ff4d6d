"""Rules and flows for the policy benchmarks: what a look-up meets in the field, and what is hard for it.

Everything comes from a seeded generator, so that two runs measure the same.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import numpy as np

from ipsec_dp.dataplane import Action, PolicyRule
from ipsec_dp.dataplane.lookup import FLOW
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, Range, SelectorPair

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ANYWHERE = AddressRange.of(ipaddress.IPv4Network("0.0.0.0/0"))
WELL_KNOWN = (22, 25, 53, 80, 123, 143, 179, 443, 514, 993, 3306, 8080)
ACL_PREFIXES = (0, 8, 16, 21, 23, 24, 24, 24, 26, 28, 30, 32, 32, 32, 32)


def network(value: int, prefix: int) -> AddressRange:
    return AddressRange.of(ipaddress.IPv4Network((value >> (32 - prefix) << (32 - prefix), prefix)))


def some_range(random: np.random.Generator, limit: int) -> Range:
    low, high = sorted(int(x) for x in random.integers(0, limit, 2))
    return Range(low, high)


def addresses(ends: Range) -> AddressRange:
    return AddressRange(ipaddress.IPv4Address(ends.low), ipaddress.IPv4Address(ends.high))


def some_protocol(random: np.random.Generator) -> Range:
    return (Range(6, 6), Range(17, 17), ANY_PROTOCOL)[random.integers(0, 3)]


def overlapping(random: np.random.Generator, _: int) -> SelectorPair:
    """Networks of 10.0.0.0/8, /8 to /24, nested in each other, with port ranges."""
    local, remote = (network(10 << 24 | int(random.integers(0, 1 << 24)), int(random.integers(8, 25))) for _ in range(2))
    return SelectorPair(local, remote, some_protocol(random), some_range(random, 65536), some_range(random, 65536))


def rectangles(random: np.random.Generator, _: int) -> SelectorPair:
    """Any range in every dimension: everything overlaps everything."""
    local, remote = (addresses(some_range(random, 1 << 32)) for _ in range(2))
    return SelectorPair(local, remote, some_protocol(random), some_range(random, 65536), some_range(random, 65536))


def access_list(random: np.random.Generator, _: int) -> SelectorPair:
    """As packet filters are written: few sites, many prefix lengths, well-known ports."""
    local, remote = (
        network(site + (int(random.integers(0, 40)) << 16 | int(random.integers(0, 1 << 16))), int(random.choice(ACL_PREFIXES)))
        for site in (0x0A000000, 0xAC100000)
    )
    service = int(random.choice(WELL_KNOWN))
    ports = (ANY_PORT, Range(1024, 65535), Range(service, service), some_range(random, 65536))[random.integers(0, 4)]
    return SelectorPair(local, remote, some_protocol(random), ANY_PORT, ports)


def crossing(random: np.random.Generator, index: int) -> SelectorPair:
    """Narrow in one dimension and open in the others, in turns: no single tree parts these."""
    narrow = network(int(random.integers(0, 1 << 32)), int(random.integers(20, 33)))
    port = int(random.integers(0, 65000))
    return (
        SelectorPair(narrow, ANYWHERE, some_protocol(random)),
        SelectorPair(ANYWHERE, narrow, some_protocol(random)),
        SelectorPair(ANYWHERE, ANYWHERE, some_protocol(random), remote_ports=Range(port, port + 50)),
    )[index % 3]


def tunnels(_: np.random.Generator, index: int) -> SelectorPair:
    """One pair of /24 networks a tunnel."""
    return SelectorPair(network((10 << 24) + (index << 8), 24), network((20 << 24) + (index << 8), 24))


SHAPES: dict[str, Callable[[np.random.Generator, int], SelectorPair]] = {
    "overlapping": overlapping,
    "rectangles": rectangles,
    "access_list": access_list,
    "crossing": crossing,
    "tunnels": tunnels,
}


def rules(shape: str, count: int) -> list[PolicyRule]:
    """`count` rules of interface 0."""
    random = np.random.default_rng(count)
    return [PolicyRule(SHAPES[shape](random, i), Action.PROTECT, 0, i) for i in range(count)]


def uniform_flows(of: list[PolicyRule], count: int) -> NDArray[np.void]:
    """Flows at random, over all addresses that any of the rules is about."""
    random = np.random.default_rng(1)
    flows = np.zeros(count, FLOW)
    flows["family"] = 4
    flows["protocol"] = random.choice([6, 17], count)
    flows["local_port"] = random.integers(0, 65536, count)
    flows["remote_port"] = random.integers(0, 65536, count)
    for name in ("local", "remote"):
        ranges = [getattr(rule.selector, name) for rule in of]
        low, high = min(int(r.low) for r in ranges), max(int(r.high) for r in ranges)
        flows[name][:, :4] = random.integers(low, high + 1, count, np.uint64).astype(">u4").view(np.uint8).reshape(count, 4)
    return flows


def met_flows(of: list[PolicyRule], count: int) -> NDArray[np.void]:
    """Flows each of which lies in a rule taken at random, so that every rule is met; it may be an earlier one that decides."""
    random = np.random.default_rng(2)
    flows = uniform_flows(of, count)
    for row, index in zip(flows, random.integers(0, len(of), count), strict=True):
        pair = of[index].selector
        row["protocol"] = pair.protocol.low or 6
        row["local_port"] = random.integers(pair.local_ports.low, min(pair.local_ports.high, 65535) + 1)
        row["remote_port"] = random.integers(pair.remote_ports.low, min(pair.remote_ports.high, 65535) + 1)
        for name, ends in (("local", pair.local), ("remote", pair.remote)):
            address = int(random.integers(int(ends.low), int(ends.high) + 1))
            row[name][:4] = np.frombuffer(address.to_bytes(4), np.uint8)
    return flows
