"""The search for shadowed rules against its definition: compare every pair."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.config.selectors import ANY_PORTS, PortRange, Rule, Selector, find_shadowed


def prefixes(version: int) -> st.SearchStrategy[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Few enough prefixes that they often hold each other."""
    width = 32 if version == 4 else 128
    kind = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    return st.builds(
        lambda length, bits: kind(((bits >> (4 - length)) << (width - length), length)), st.integers(0, 4), st.integers(0, 15)
    )


PORTS = st.one_of(st.just(ANY_PORTS), st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda pair: PortRange(*sorted(pair))))
SELECTORS = st.sampled_from([4, 6]).flatmap(
    lambda version: st.builds(Selector, prefixes(version), prefixes(version), st.sampled_from([None, 6, 17]), PORTS, PORTS)
)
RULES = st.lists(st.builds(Rule, SELECTORS, st.just("discard"), st.sampled_from([None, "a", "b"]), st.none()), max_size=12)


def holds(earlier: Rule, rule: Rule) -> bool:
    one, other = earlier.selector, rule.selector
    return (
        earlier.interface in (None, rule.interface)
        and one.version == other.version
        and set(range(*bounds(other.local))) <= set(range(*bounds(one.local)))
        and set(range(*bounds(other.remote))) <= set(range(*bounds(one.remote)))
        and one.protocol in (None, other.protocol)
        and all(
            mine.low <= theirs.low and theirs.high <= mine.high
            for mine, theirs in [(one.local_ports, other.local_ports), (one.remote_ports, other.remote_ports)]
        )
    )


def bounds(prefix: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[int, int]:
    """The sixteenths of the address space that a prefix of at most four bits covers."""
    first = int(prefix.network_address) >> (prefix.max_prefixlen - 4)
    return first, first + 2 ** (4 - prefix.prefixlen)


@settings(deadline=None)
@given(RULES)
def test_the_search_finds_what_comparing_every_pair_finds(rules):
    expected = []
    for index, rule in enumerate(rules):
        earlier = next((other for other in rules[:index] if holds(other, rule)), None)
        if earlier is not None:
            expected.append((rule, earlier))
    assert list(find_shadowed(rules)) == expected


def test_ten_thousand_rules_take_no_ten_thousand_squared_steps():
    remote = ipaddress.ip_network("10.0.0.0/8")
    rules = [Rule(Selector(ipaddress.IPv4Network((index << 8, 24)), remote), "discard", None, None) for index in range(10_000)]
    assert list(find_shadowed(rules)) == []
