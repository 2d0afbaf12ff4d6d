"""Policy look-up: whatever the rules, every answer is that of the first rule, in order, that holds the flow (RFC 4301 §4.4.1)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.dataplane import Action, Policy, PolicyRule
from ipsec_dp.dataplane.lookup import Flow, flow_array, lookup
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.addresses import Address, AddressRange
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, Range, SelectorPair

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERFACES = [0, 1, 4095]
BITS = {4: 32, 6: 128}


def address(version: int, value: int) -> Address:
    return ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value)


def ordered(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(values, values).map(lambda ends: (min(ends), max(ends)))


@st.composite
def address_ranges(draw: st.DrawFn, version: int) -> AddressRange:
    """Everything, a prefix, or any range; few distinct high bits, so that rules meet each other."""
    bits = BITS[version]
    values = st.one_of(
        st.integers(0, (1 << bits) - 1),
        st.builds(lambda high, low: high << (bits - 8) | low, st.integers(8, 11), st.integers(0, 1023)),
    )
    match draw(st.sampled_from(["any", "prefix", "range"])):
        case "any":
            low, high = 0, (1 << bits) - 1
        case "prefix":
            host = (1 << draw(st.integers(0, bits))) - 1
            low = draw(values) & ~host
            high = low | host
        case _:
            low, high = draw(ordered(values))
    return AddressRange(address(version, low), address(version, high))


PORTS = st.one_of(
    st.just(ANY_PORT),
    st.just(Range(65536, 65536)),
    st.builds(lambda ends: Range(*ends), ordered(st.integers(0, 65536))),
    st.integers(0, 65535).map(lambda port: Range(port, port)),
)
PROTOCOLS = st.one_of(
    st.just(ANY_PROTOCOL),
    st.sampled_from([1, 6, 17, 256]).map(lambda number: Range(number, number)),
    st.builds(lambda ends: Range(*ends), ordered(st.integers(0, 256))),
)


@st.composite
def rules(draw: st.DrawFn) -> PolicyRule:
    version = draw(st.sampled_from([4, 6]))
    pair = SelectorPair(draw(address_ranges(version)), draw(address_ranges(version)), draw(PROTOCOLS), draw(PORTS), draw(PORTS))
    return PolicyRule(pair, draw(st.sampled_from(list(Action))), draw(st.sampled_from(INTERFACES)))


def near(draw: st.DrawFn, low: int, high: int, top: int) -> int:
    """A bound, a number beside it, or one between: where a comparison may be off by one."""
    value = draw(st.sampled_from([low - 1, low, (low + high) // 2, high, high + 1]))
    return min(max(value, 0), top)


@st.composite
def flows_near(draw: st.DrawFn, given_rules: Sequence[PolicyRule]) -> Flow:
    pair = draw(st.sampled_from(given_rules)).selector
    version = pair.local.low.version
    top = (1 << BITS[version]) - 1
    return Flow(
        address(version, near(draw, int(pair.local.low), int(pair.local.high), top)),
        address(version, near(draw, int(pair.remote.low), int(pair.remote.high), top)),
        near(draw, *pair.protocol, 256),
        near(draw, *pair.local_ports, 65536),
        near(draw, *pair.remote_ports, 65536),
    )


@st.composite
def policies_and_flows(draw: st.DrawFn) -> tuple[list[PolicyRule], list[Flow]]:
    given_rules = draw(st.lists(rules(), min_size=1, max_size=40))
    return given_rules, draw(st.lists(flows_near(given_rules), min_size=1, max_size=20))


def holds(rule: PolicyRule, flow: Flow) -> bool:
    pair = rule.selector
    return (
        pair.local.low.version == flow.local.version
        and int(pair.local.low) <= int(flow.local) <= int(pair.local.high)
        and int(pair.remote.low) <= int(flow.remote) <= int(pair.remote.high)
        and pair.protocol.low <= flow.protocol <= pair.protocol.high
        and pair.local_ports.low <= flow.local_port <= pair.local_ports.high
        and pair.remote_ports.low <= flow.remote_port <= pair.remote_ports.high
    )


def first_that_holds(given_rules: Sequence[PolicyRule], interface: int, flow: Flow) -> int:
    return next((i for i, rule in enumerate(given_rules) if rule.interface == interface and holds(rule, flow)), -1)


@given(policies_and_flows())
def test_every_answer_is_the_first_rule_that_holds(case):
    given_rules, flows = case
    policy, array = Policy(given_rules), flow_array(flows)
    for interface in INTERFACES:
        expected = [first_that_holds(given_rules, interface, flow) for flow in flows]
        assert lookup(policy, interface, array).tolist() == expected
        assert lookup(policy, interface, array, linear=True).tolist() == expected


def random_range(random: np.random.Generator, limit: int) -> Range:
    low, high = sorted(int(x) for x in random.integers(0, limit, 2))
    return Range(low, high)


def random_prefix(random: np.random.Generator, version: int) -> AddressRange:
    """A network of 10.0.0.0/8 or fd00::/8: nested ones are common."""
    bits, head = BITS[version], {4: 0x0A, 6: 0xFD}[version] << (BITS[version] - 8)
    host = (1 << (bits - int(random.integers(8, 8 + 25)))) - 1
    low = (head | int(random.integers(0, 1 << 24)) << (bits - 32)) & ~host
    return AddressRange(address(version, low), address(version, low | host))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("count", [10, 100, 1000, 10_000])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.slow
def test_many_overlapping_rules_answer_as_a_linear_scan(version, count, seed):
    check_many(version, count, seed)


@pytest.mark.parametrize("version", [4, 6])
def test_a_thousand_overlapping_rules_answer_as_a_linear_scan(version):
    check_many(version, 1000, 1)


def check_many(version: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    policy = Policy(
        [
            PolicyRule(
                SelectorPair(
                    random_prefix(random, version),
                    random_prefix(random, version),
                    (Range(6, 6), Range(17, 17), ANY_PROTOCOL)[random.integers(0, 3)],
                    random_range(random, 65537),
                    random_range(random, 65537),
                ),
                Action.PROTECT,
                0,
            )
            for _ in range(count)
        ]
    )
    flows = flow_array(
        [
            Flow(
                random_prefix(random, version).low,
                random_prefix(random, version).low,
                int(random.choice([6, 17, 256])),
                int(random.integers(0, 65537)),
                int(random.integers(0, 65537)),
            )
            for _ in range(500)
        ]
    )
    assert lookup(policy, 0, flows).tolist() == lookup(policy, 0, flows, linear=True).tolist()


def test_no_rules_hold_nothing():
    flow = Flow(ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("10.0.0.2"), 6, 1, 2)
    assert lookup(Policy([]), 0, flow_array([flow])).tolist() == [-1]


def test_a_malformed_rule_is_named():
    whole = AddressRange.of(ipaddress.IPv4Network("10.0.0.0/8"))
    good, bad = SelectorPair(whole, whole), SelectorPair(whole, whole, remote_ports=Range(2, 1))
    with pytest.raises(DataPlaneError, match="rule 2 is malformed"):
        Policy([PolicyRule(pair, Action.PROTECT, 0) for pair in (good, good, bad)])


def test_ten_thousand_tunnels_take_little_memory():
    """Each with its own pair of /24 networks: the trees may take no more than the rules themselves."""
    octets = []
    for count in (1000, 10_000):
        networks = [AddressRange.of(ipaddress.IPv4Network((0x0A000000 + (i << 8), 24))) for i in range(count)]
        remote = [AddressRange.of(ipaddress.IPv4Network((0x14000000 + (i << 8), 24))) for i in range(count)]
        octets.append(
            Policy(
                [PolicyRule(SelectorPair(*pair), Action.PROTECT, 0, i) for i, pair in enumerate(zip(networks, remote, strict=True))]
            ).octets
        )
    assert octets[1] < 10_000 * 512
    assert octets[1] < 12 * octets[0]
