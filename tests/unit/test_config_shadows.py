"""The search for shadowed rules against its definition: try every packet."""

from __future__ import annotations

import ipaddress
import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.config.shadows import find_shadowed
from ipsec_dp.ipsec.addresses import AddressRange
from ipsec_dp.ipsec.rules import Rule
from ipsec_dp.ipsec.selectors import ANY_PORT, ANY_PROTOCOL, Range, SelectorPair


def addresses(version: int) -> st.SearchStrategy[AddressRange]:
    """Prefixes and ranges of few enough sixteenths of the address space that they often hold each other."""
    width = 28 if version == 4 else 124
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return st.tuples(st.integers(0, 15), st.integers(0, 15)).map(
        lambda ends: AddressRange(kind(min(ends) << width), kind((max(ends) + 1 << width) - 1))
    )


TCP, UDP = Range(6, 6), Range(17, 17)
PORTS = st.one_of(st.just(ANY_PORT), st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda pair: Range(*sorted(pair))))
SELECTORS = st.sampled_from([4, 6]).flatmap(
    lambda version: st.builds(
        SelectorPair, addresses(version), addresses(version), st.sampled_from([ANY_PROTOCOL, TCP, UDP]), PORTS, PORTS
    )
)
RULES = st.lists(st.builds(Rule, SELECTORS, st.just("discard"), st.sampled_from([None, "a", "b"]), st.none()), max_size=12)


def cells(
    rule: Rule, protocols: tuple[int, ...] = (1, 6, 17), ports: tuple[int, ...] = (0, 1, 2, 3, 65536)
) -> set[tuple[int, ...]]:
    """What a rule holds, one packet of each kind that the rules here tell apart."""
    selector = rule.selector
    width = selector.local.low.max_prefixlen - 4
    ends = [range(int(each.low) >> width, (int(each.high) >> width) + 1) for each in (selector.local, selector.remote)]
    sides = [[port for port in ports if bounds.contains(port)] for bounds in (selector.local_ports, selector.remote_ports)]
    return set(itertools.product([selector.version], *ends, *sides, filter(selector.protocol.contains, protocols)))


def holds_some(earlier: Rule, rule: Rule) -> bool:
    return earlier.interface in (None, rule.interface)


@settings(deadline=None)
@given(RULES)
def test_the_search_finds_what_trying_every_packet_finds(rules):
    found = {id(rule): earlier for rule, earlier in find_shadowed(rules)}
    for index, rule in enumerate(rules):
        before = [other for other in rules[:index] if holds_some(other, rule)]
        mine = cells(rule)
        alone = [other for other in before if mine <= cells(other)]
        together = mine <= set().union(*map(cells, before))
        if alone:
            assert found[id(rule)] == (alone[0],)
        else:
            assert (id(rule) in found) == together
        if together and not alone:
            assert mine <= set().union(*map(cells, found[id(rule)]))


ALL = AddressRange.of("0.0.0.0/0")


def rule(local: str, remote: str = "10.0.0.0/8", protocol: Range = ANY_PROTOCOL) -> Rule:
    return Rule(SelectorPair(AddressRange.of(local), AddressRange.of(remote), protocol), "discard", None, None)


def test_two_halves_shadow_the_whole():
    halves = [rule("10.1.0.0/25"), rule("10.1.0.128-10.1.0.255")]
    assert list(find_shadowed([*halves, rule("10.1.0.0/24")])) == [(rule("10.1.0.0/24"), tuple(halves))]
    assert list(find_shadowed([rule("10.1.0.0/25"), rule("10.1.0.129-10.1.0.255"), rule("10.1.0.0/24")])) == []


def test_all_ports_hold_what_shows_none_and_all_in_parts_do_not():
    """A later fragment of TCP is held by "any" alone (RFC 4301 §7)."""
    ports = [Range(0, 1000), Range(1001, 65535), ANY_PORT]
    rules = [Rule(SelectorPair(ALL, ALL, TCP, remote_ports=bounds), "discard", None, None) for bounds in ports]
    assert list(find_shadowed(rules)) == []


def seconds(rules: list[Rule]) -> float:
    """The least of three, of this thread's processor time: others on the machine do not count."""
    taken = []
    for _ in range(3):
        before = time.thread_time()
        list(find_shadowed(rules))
        taken.append(time.thread_time() - before)
    return min(taken)


@pytest.mark.measure
def test_ten_thousand_tunnels_are_searched_within_two_seconds():
    rules = [rule(str(ipaddress.IPv4Network((index << 8, 24)))) for index in range(10_000)]
    assert list(find_shadowed(rules)) == []
    assert seconds(rules) < 2


@pytest.mark.measure
def test_ten_thousand_overlapping_ranges_are_searched_within_two_seconds():
    draw = random.Random(1)

    def addresses() -> AddressRange:
        ends = sorted(draw.randrange(1 << 32) for _ in range(2))
        return AddressRange(*map(ipaddress.IPv4Address, ends))

    def ports() -> Range:
        return Range(*sorted(draw.randrange(65536) for _ in range(2)))

    rules = [
        Rule(SelectorPair(addresses(), addresses(), draw.choice([TCP, UDP]), ports(), ports()), "discard", None, None)
        for _ in range(10_000)
    ]
    assert seconds(rules) < 2
