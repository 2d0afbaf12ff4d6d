"""Pairs of selectors that meet others: the index against a look at all of them, and what a search costs."""

from __future__ import annotations

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.ike.selector_index import SelectorIndex
from ipsec_dp.ike.traffic_selectors import ANY, OPAQUE, ProxyId, TrafficSelector

from . import growth
from .ladder import proxy_id

ENDS = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 63).map(lambda sixtyfourth: sixtyfourth << 26))
PORTS = st.one_of(st.just(OPAQUE), st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), st.just((0, 65535)))


def _selectors(version):
    def made(ends, ports):
        return TrafficSelector(version, min(ends), max(ends), 17, *ports)

    return st.builds(made, st.tuples(ENDS, ENDS), PORTS)


PAIRS = st.sampled_from([4, 6]).flatmap(lambda version: st.builds(ProxyId, _selectors(version), _selectors(version)))


ODD = st.builds(  # those too that no peer sends
    TrafficSelector,
    st.sampled_from([4, 6]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0, 6, 17]),
    st.sampled_from([0, 5, 65535]),
    st.sampled_from([0, 5, 65535]),
).filter(lambda one: one.start <= one.end)


@settings(deadline=None)
@given(ODD, ODD)
def test_a_selector_covers_another_where_both_hold_all_of_that(one, other):
    assert one.covers(other) is (one.intersection(other) == other)


class Thing:
    """Somebody who has a pair."""


def meet(one, other):
    return all(mine.intersection(its) is not None for mine, its in zip(one, other, strict=True))


@settings(deadline=None)
@given(st.lists(PAIRS, max_size=40), st.lists(st.integers(0, 39)), PAIRS)
def test_it_finds_all_that_meets(pairs, gone, asked):
    index: SelectorIndex[Thing] = SelectorIndex()
    left = [(pair, Thing()) for pair in pairs]
    for pair, thing in left:
        index.add(pair, thing)
    for pair, thing in [left[number] for number in dict.fromkeys(gone) if number < len(left)]:
        index.discard(pair, thing)
        left.remove((pair, thing))
    met = [thing for pair, thing in left if meet(pair, asked)]
    found = index.near(asked)
    assert [thing for thing in found if thing in met] == met, "in their order"
    assert set(found) <= {thing for _, thing in left}
    assert len(index) == len(left)
    assert set(index.meeting(asked)) == set(found), "one by one"
    for pair, thing in left:
        index.discard(pair, thing)
        index.discard(pair, thing)
    assert (len(index), index.near(asked)) == (0, [])


def many(count, pair):
    index: SelectorIndex[ProxyId] = SelectorIndex()
    for number in range(count):
        index.add(pair(number), pair(number))
    return index


def steps(operation):
    with growth.opcodes() as counted:
        operation()
    return counted.count


def test_a_search_does_not_look_at_all_of_them():
    def pair(number):
        return proxy_id("10.2.0.0/24", growth.net(number))

    cost = {}
    for count in (2_000, 16_000):
        index, asked = many(count, pair), pair(count // 2)
        assert index.near(asked) == [asked]
        cost[count] = steps(lambda index=index, asked=asked: index.near(asked))
    assert cost[16_000] <= cost[2_000] * 1.1


def test_where_all_meet_some_are_looked_at():
    cost = {}
    for count in (2_000, 16_000):
        index = many(count, lambda number: ProxyId(ANY[0], TrafficSelector(4, 0, (200 << 24) + number)))
        asked = proxy_id("10.0.0.0/8", "10.0.0.0/8")
        assert len(index.near(asked)) == count
        cost[count] = steps(lambda index=index, asked=asked: list(islice(index.meeting(asked), 100)))
    assert cost[16_000] <= cost[2_000] * 1.1
