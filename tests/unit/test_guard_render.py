"""The guard's text: what is dropped and what is let through, from selectors alone. What the kernel makes of it: tests/netns."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.addresses import AddressRange, merge, subtract
from ipsec_dp.host.guard import Count, Selector, narrow, render, separate, table_name

R = AddressRange.of
LOCAL, REMOTE, ALL, ALL6 = R("10.1.0.0/24"), R("10.2.0.0/24"), R("0.0.0.0/0"), R("::/0")
A_TO_B = Selector(LOCAL, REMOTE)


def chain(text: str, name: str) -> list[str]:
    """The rules of one chain."""
    body = text.split(f"chain {name} {{\n")[1].split("}\n", maxsplit=1)[0]
    return [line.strip() for line in body.splitlines() if line.strip()]


def test_replaces_the_table_in_one_transaction():
    assert render("a", [], []).startswith("add table inet ipsec_dp_a\ndelete table inet ipsec_dp_a\ntable inet ipsec_dp_a {\n")


def test_drops_both_directions_of_a_pair():
    text = render("a", [A_TO_B], ["ipsec0"])
    assert chain(text, "out4") == [
        "jump exempt_out",
        "ip saddr 10.1.0.0-10.1.0.255 ip daddr 10.2.0.0-10.2.0.255 counter name cleartext_out4 drop",
    ]
    assert chain(text, "in4") == [
        "jump exempt_in",
        "ip daddr 10.1.0.0-10.1.0.255 ip saddr 10.2.0.0-10.2.0.255 counter name cleartext_in4 drop",
    ]
    assert chain(text, "out6") == ["jump exempt_out"]


def test_ports_change_sides_with_the_direction_and_later_fragments_go_with_the_protected():
    text = render("a", [replace(A_TO_B, protocol=6, local_ports=(1024, 2000), remote_ports=(443, 443))], [])
    addresses = "ip saddr 10.1.0.0-10.1.0.255 ip daddr 10.2.0.0-10.2.0.255"
    assert chain(text, "out4")[1:] == [
        f"{addresses} meta l4proto 6 th sport 1024-2000 th dport 443-443 counter name cleartext_out4 drop",
        f"{addresses} ip frag-off & 0x1fff != 0 counter name cleartext_out4 drop",
    ]
    assert "meta l4proto 6 th dport 1024-2000 th sport 443-443 counter" in chain(text, "in4")[1]


def test_icmp_type_and_codes_are_compared_and_later_fragments_go_with_them():
    text = render("a", [replace(A_TO_B, protocol=1, local_ports=(0x0301, 0x0303), remote_ports=(0x0301, 0x0303))], [])
    assert "meta l4proto 1 icmp type 3 icmp code 1-3 counter name cleartext_out4 drop" in chain(text, "out4")[1]
    assert "ip frag-off & 0x1fff != 0 counter name cleartext_out4 drop" in chain(text, "out4")[2]
    every_code = replace(A_TO_B, protocol=1, local_ports=(0x0800, 0x08FF), remote_ports=(0x0800, 0x08FF))
    assert "meta l4proto 1 icmp type 8 counter" in chain(render("a", [every_code], []), "in4")[1]


def test_policy_order_is_kept_and_bypass_lets_through():
    host = Selector(R("10.1.0.9"), R("10.2.0.9"), bypass=True)
    text = render("a", [host, A_TO_B], [])
    assert [rule.split()[-1] for rule in chain(text, "out4")[1:]] == ["accept", "drop"]
    assert "elements = { 10.2.0.0-10.2.0.255 }" in text


def test_ipv6_uses_its_own_chains():
    text = render("a", [Selector(R("fd00:1::/64"), R("fd00:2::/64"), 17, remote_ports=(53, 53))], [])
    assert chain(text, "out4") == ["jump exempt_out"]
    assert chain(text, "out6")[2].endswith("fd00:2::ffff:ffff:ffff:ffff exthdr frag exists counter name cleartext_out6 drop")


def test_counters_go_on():
    text = render("a", [], [], {"cleartext_in6": Count(7, 700)})
    assert "counter cleartext_in6 { packets 7 bytes 700 }" in text
    assert "counter cleartext_in4 { packets 0 bytes 0 }" in text


@pytest.mark.parametrize(
    ("gateway", "table"), [("site-a", "ipsec_dp_site-a"), ("a_b", "ipsec_dp_a_5fb"), ("a b;", "ipsec_dp_a_20b_3b")]
)
def test_table_name_takes_any_gateway_name_apart(gateway, table):
    assert table_name(gateway) == table


@pytest.mark.parametrize("gateway", ["", "x" * 201])
def test_table_name_has_bounds(gateway):
    with pytest.raises(ValueError, match="1 to 200"):
        table_name(gateway)


@pytest.mark.parametrize("name", ["", "two words", 'quote"', "a/b", "x" * 16, "star*"])
def test_interface_name_cannot_break_out(name):
    with pytest.raises(ValueError, match="not the name of an interface"):
        render("a", [A_TO_B], [name])


# Selectors of one pair, the networks inside, and the remote addresses that are left to protect.
SEPARATED = [
    ("10.1.0.0/24", "10.2.0.0/24", "10.2.0.0/24", ["10.2.0.0/24"]),  # no overlap: inside does not matter
    ("10.1.0.0/24", "0.0.0.0/0", "", ["0.0.0.0-10.0.255.255", "10.1.1.0-255.255.255.255"]),
    ("0.0.0.0/0", "0.0.0.0/0", "10.1.0.0/24", ["0.0.0.0-10.0.255.255", "10.1.1.0-255.255.255.255"]),
    ("0.0.0.0/0", "0.0.0.0/0", "", ["0.0.0.0/0"]),
    ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/16", ["10.1.0.0-10.255.255.255"]),
    ("0.0.0.0/0", "10.1.0.0/24", "10.9.0.0/24", ["10.1.0.0/24"]),
]


@pytest.mark.parametrize(("local", "remote", "inside", "left"), SEPARATED)
def test_separate(local, remote, inside, left):
    separated = separate([Selector(R(local), R(remote), 6)], [R(inside)] if inside else [])
    assert separated == [Selector(R(local), R(part), 6) for part in left]


def test_narrow_cuts_only_selectors_for_everything():
    named, everything, everything6 = Selector(LOCAL, REMOTE), Selector(ALL, ALL), Selector(ALL6, ALL6)
    routed = [R("10.3.0.0/24"), R("10.3.1.0/24"), R("fd00:2::/64")]
    assert narrow([named, everything, everything6], routed) == [
        named,
        Selector(ALL, R("10.3.0.0/23")),
        Selector(ALL6, R("fd00:2::/64")),
    ]
    assert narrow([everything], []) == []


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
