"""Ranges that meet others: the index against a look at all of them, and what a search costs."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.ipsec.overlaps import Addresses, Overlaps

ENDS = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 63).map(lambda sixtyfourth: sixtyfourth << 26))
RANGES = st.builds(lambda version, ends: Addresses(version, min(ends), max(ends)), st.sampled_from([4, 6]), st.tuples(ENDS, ENDS))


@settings(deadline=None)
@given(st.lists(RANGES, max_size=30), st.lists(st.integers(0, 29)), RANGES)
def test_it_finds_what_meets_and_nothing_else(ranges, gone, asked):
    index: Overlaps[int] = Overlaps()
    for number, addresses in enumerate(ranges):
        index.add(addresses, number)
    left = dict(enumerate(ranges))
    for number in gone:
        if number in left:
            index.discard(left.pop(number), number)
    assert sorted(index.meeting(asked)) == [number for number, addresses in left.items() if addresses.meet(asked)]
    for number, addresses in left.items():
        index.discard(addresses, number)
        index.discard(addresses, number)
    assert len(index) == 0
    assert list(index.meeting(asked)) == []


def test_a_search_does_not_look_at_all_of_them():
    took = {}
    for count in (2_000, 16_000):
        index: Overlaps[int] = Overlaps()
        for number in range(count):
            index.add(Addresses(4, number << 8, (number << 8) + 255), number)
        times = []
        for number in range(0, count, count // 200):
            began = time.perf_counter()
            assert list(index.meeting(Addresses(4, (number << 8) + 7, (number << 8) + 9))) == [number]
            times.append(time.perf_counter() - began)
        took[count] = sorted(times)[len(times) // 2]
    assert took[16_000] < 4 * took[2_000]
