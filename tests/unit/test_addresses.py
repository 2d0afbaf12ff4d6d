"""Ranges of addresses: how they are written, what is inside, and their arithmetic."""

from __future__ import annotations

import ipaddress
import itertools
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ipsec.addresses import AddressRange, merge, subtract

R = AddressRange.of


def addresses(low, high):
    return AddressRange(ipaddress.ip_address(low), ipaddress.ip_address(high))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (AddressRange.of(ipaddress.ip_network("10.1.0.0/24")), "10.1.0.0/24"),
        (AddressRange.of(ipaddress.ip_network("0.0.0.0/0")), "0.0.0.0/0"),
        (AddressRange.of(ipaddress.ip_network("2001:db8::/32")), "2001:db8::/32"),
        (addresses("10.1.0.0", "10.1.0.255"), "10.1.0.0/24"),
        (addresses("10.1.0.5", "10.1.0.5"), "10.1.0.5/32"),
        (addresses("10.1.0.5", "10.1.0.9"), "10.1.0.5-10.1.0.9"),
        (addresses("2001:db8::1", "2001:db8::3"), "2001:db8::1-2001:db8::3"),
    ],
)
def test_a_range_is_written_as_a_prefix_where_it_is_one(written, text):
    assert written.prefix_text == text


def test_two_ip_versions_make_no_range():
    with pytest.raises(ValueError, match="not a range of addresses"):
        addresses("10.0.0.1", "2001:db8::1")


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.0.5", True),
        ("10.1.0.9", True),
        ("10.1.0.4", False),
        ("10.1.0.10", False),
        ("::a01:5", False),  # the same number in the other IP version
    ],
)
def test_a_range_contains_both_its_ends_and_what_lies_between(address, inside):
    assert addresses("10.1.0.5", "10.1.0.9").contains(ipaddress.ip_address(address)) is inside


def spans(limit: int = 64) -> st.SearchStrategy[AddressRange]:
    base = int(ip_network("192.0.2.0/24").network_address)
    pair = st.tuples(st.integers(0, limit), st.integers(0, limit)).map(sorted)
    return pair.map(lambda p: R(f"{ip_network(base + p[0]).network_address}-{ip_network(base + p[1]).network_address}"))


def members(ranges: list[AddressRange]) -> set[int]:
    return {address for each in ranges for address in range(int(each.low), int(each.high) + 1)}


@given(spans(), st.lists(spans(), max_size=5))
def test_subtract_is_set_difference(whole, holes):
    assert members(subtract(whole, holes)) == members([whole]) - members(holes)


@given(st.lists(spans(), max_size=6))
def test_merge_keeps_the_addresses_in_separate_ordered_ranges(ranges):
    merged = merge(ranges)
    assert members(merged) == members(ranges)
    assert all(int(low.high) + 1 < int(high.low) for low, high in itertools.pairwise(merged))


@pytest.mark.parametrize("text", ["10.0.0.2-10.0.0.1", "10.0.0.1-::1"])
def test_range_in_disorder_is_refused(text):
    with pytest.raises(ValueError, match="not a range"):
        R(text)
