"""Traffic selectors: text, intersection, narrowing (RFC 7296 §2.9)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.traffic_selectors import ANY, MAX_PORT, ProxyId, TrafficSelector
from ipsec_dp.ike.v2.ts import explain_mismatch, is_narrowing, narrow, permitted

from . import strategies


def ts(prefix, protocol=0, low=0, high=MAX_PORT):
    return TrafficSelector.from_prefix(prefix, protocol, (low, high))


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (ts("10.1.0.0/24"), "10.1.0.0/24"),
        (ts("::/0"), "::/0"),
        (ts("10.1.0.0/24", 6, 443, 443), "10.1.0.0/24[tcp/443]"),
        (ts("10.1.0.0/24", 17, 5000, 5010), "10.1.0.0/24[udp/5000-5010]"),
        (ts("10.1.0.1/32", 89), "10.1.0.1/32[89]"),
        (TrafficSelector(4, 0x0A010001, 0x0A010009), "10.1.0.1-10.1.0.9"),
        (ts("10.1.0.0/24", 1, 0x0800, 0x08FF), "10.1.0.0/24[icmp/type 8]"),
        (ts("2001:db8::/32", 58, 0x8000, 0x8000), "2001:db8::/32[ipv6-icmp/type 128 code 0]"),
        (ts("10.1.0.0/24", 1, 0x0300, 0x05FF), "10.1.0.0/24[icmp/type 3-5]"),
        (ts("10.1.0.0/24", 1), "10.1.0.0/24[icmp]"),
        (TrafficSelector(4, 0, 0, 6, MAX_PORT, 0), "0.0.0.0/32[tcp/opaque]"),
    ],
)
def test_text(selector, text):
    assert str(selector) == text


@pytest.mark.parametrize(
    ("ours", "offered", "answer"),
    [
        (["10.1.0.0/24"], ["10.1.0.0/24"], ["10.1.0.0/24"]),
        (["10.1.0.0/24"], ["0.0.0.0/0"], ["10.1.0.0/24"]),
        (["0.0.0.0/0"], ["10.1.0.0/24"], ["10.1.0.0/24"]),
        (["10.1.0.0/24", "10.2.0.0/24"], ["10.0.0.0/8"], ["10.1.0.0/24", "10.2.0.0/24"]),
        (["10.1.0.0/24"], ["10.1.0.7/32", "10.0.0.0/8"], ["10.1.0.0/24"]),
        (["10.1.0.0/24"], ["10.0.0.0/8", "10.1.0.7/32"], ["10.1.0.0/24"]),
        (["10.1.0.0/24"], ["192.168.0.0/16"], []),
        (["10.1.0.0/24"], ["2001:db8::/32"], []),
        (["10.1.0.0/24"], [], []),
    ],
)
def test_narrowing(ours, offered, answer):
    assert narrow([ts(o) for o in ours], [ts(o) for o in offered]) == tuple(ts(a) for a in answer)


def test_unset_proxy_ids_narrow_to_whatever_is_offered_in_both_families():
    offered = (ts("10.1.0.0/24"), ts("2001:db8::/32", 6, 80, 80))
    assert narrow(ANY, offered) == offered


def test_protocol_and_ports_narrow_too():
    assert narrow([ts("10.1.0.0/24", 6, 0, 1023)], [ts("10.1.0.7/32", 0, 443, 2000)]) == (ts("10.1.0.7/32", 6, 443, 1023),)
    assert narrow([ts("10.1.0.0/24", 6)], [ts("10.1.0.0/24", 17)]) == ()


def hidden(prefix, protocol):
    """Later fragments of a protocol."""
    return replace(ts(prefix, protocol), start_port=MAX_PORT, end_port=0)


def test_opaque_ports_meet_opaque_ones_alone():
    """RFC 4301 §7.2: an SA for later fragments is one apart, which one for any ports does not need."""
    opaque, part = TrafficSelector(4, 0, 0xFFFFFFFF, 6, MAX_PORT, 0), hidden("10.1.0.0/24", 6)
    assert opaque.opaque
    assert narrow([opaque], [part]) == narrow([part], [opaque]) == (part,)
    assert narrow([opaque], [replace(part, protocol=0)]) == (part,)
    assert narrow(ANY, [opaque]) == narrow([opaque], ANY) == narrow([opaque], [replace(part, protocol=17)]) == ()
    assert narrow([opaque], [ts("10.1.0.0/24", 6, MAX_PORT, MAX_PORT), ts("10.1.0.0/24", 6, 0, 0)]) == ()


def test_one_end_with_ports_and_the_other_opaque_is_no_pair():
    shown, later = ts("10.1.0.0/24", 17, 53, 53), hidden("10.1.0.0/24", 17)
    ours = [ProxyId(shown, shown), ProxyId(later, later)]
    assert permitted(ours, [shown, later], [shown, later], 8) == tuple(ours)
    assert permitted([ProxyId(shown, later)], [shown], [later], 8) == ()


@given(st.lists(strategies.selectors(), max_size=4), st.lists(strategies.selectors(), max_size=4))
def test_the_answer_is_a_subset_of_both_sides(ours, offered):
    for both in narrow(ours, offered):
        assert any(mine.covers(both) for mine in ours)
        assert any(theirs.covers(both) for theirs in offered)


@given(strategies.selectors(), strategies.selectors())
def test_intersection_is_symmetric(one, other):
    assert one.intersection(other) == other.intersection(one)


def test_the_answer_to_a_flood_of_selectors_is_bounded():
    single = [ts(f"10.0.{n}.1/32") for n in range(255)]
    assert narrow([ts("10.0.0.0/8")], single) == tuple(single[:64])


def test_an_answer_that_is_empty_or_wider_than_the_offer_is_no_narrowing():
    offered = (ts("10.1.0.0/24"),)
    assert is_narrowing(offered, (ts("10.1.0.0/25"),))
    assert not is_narrowing(offered, ())
    assert not is_narrowing(offered, (ts("10.1.0.0/25"), ts("10.0.0.0/8")))


def test_a_mismatch_prints_both_sides_and_what_differs():
    said = explain_mismatch(([ts("10.1.0.0/24")], [ts("10.2.0.0/24")]), ([ts("10.1.0.0/24")], [ts("0.0.0.0/32", 6)]))
    assert said == (
        "ours: local 10.1.0.0/24 remote 10.2.0.0/24; peer's: local 10.1.0.0/24 remote 0.0.0.0/32[tcp]; no common remote selector"
    )


def test_a_prefix_with_host_bits_or_ports_out_of_order_is_refused():
    with pytest.raises(ValueError, match="host bits"):
        ts("10.1.0.1/24")
    with pytest.raises(ValueError, match="ports"):
        ts("10.1.0.0/24", 6, 9, 8)
