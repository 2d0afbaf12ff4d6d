"""Proxy IDs as ID payloads: each form there and back, what lies, and how both sides' pairs are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v1.payloads import IdPayload
from ipsec_dp.ike.v1.proxy import ProxyIdError, explain, id_of, is_expressible, pair_of, selector_of
from tests.ike.ladder import proxy_id

of = TrafficSelector.from_prefix


@pytest.mark.parametrize(
    ("selector", "payload"),
    [
        (of("10.1.0.0/24"), IdPayload(4, 0, 0, bytes([10, 1, 0, 0, 255, 255, 255, 0]))),
        (of("0.0.0.0/0"), IdPayload(4, 0, 0, bytes(8))),
        (of("10.1.0.9"), IdPayload(1, 0, 0, bytes([10, 1, 0, 9]))),
        (of("10.1.0.9", 6, (443, 443)), IdPayload(1, 6, 443, bytes([10, 1, 0, 9]))),
        (TrafficSelector(4, 0x0A010001, 0x0A010009), IdPayload(7, 0, 0, bytes([10, 1, 0, 1, 10, 1, 0, 9]))),
        (of("2001:db8::/32"), IdPayload(6, 0, 0, bytes.fromhex("20010db8") + bytes(12) + b"\xff" * 4 + bytes(12))),
        (of("2001:db8::1"), IdPayload(5, 0, 0, bytes.fromhex("20010db8") + bytes(11) + b"\1")),
    ],
)
def test_each_form(selector, payload):
    assert id_of(selector) == payload
    assert selector_of(payload) == selector


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 255), st.integers(0, 65535))
def test_any_range_comes_back(one, other, protocol, port):
    ports = (port, port) if port else (0, 65535)
    selector = TrafficSelector(4, min(one, other), max(one, other), protocol, *ports)
    assert selector_of(id_of(selector)) == selector


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (IdPayload(4, 0, 0, bytes(7)), "7 octets"),
        (IdPayload(1, 0, 0, bytes(8)), "8 octets"),
        (IdPayload(2, 0, 0, b"gw.example"), "type 2"),
        (IdPayload(99, 0, 0, b""), "type 99"),
        (IdPayload(7, 0, 0, bytes([10, 0, 0, 9, 10, 0, 0, 1])), "backwards"),
        (IdPayload(4, 0, 0, bytes([10, 0, 0, 0, 255, 0, 255, 0])), "holes"),
        (IdPayload(1, 0, 80, bytes(4)), "no protocol"),
    ],
)
def test_one_that_lies_is_refused(payload, said):
    with pytest.raises(ProxyIdError, match=said):
        selector_of(payload)


def test_a_pair_is_seen_from_each_side():
    ids = id_of(of("10.1.0.0/24")), id_of(of("10.2.0.0/24"))
    assert pair_of(*ids, initiator=True) == proxy_id("10.1.0.0/24", "10.2.0.0/24")
    assert pair_of(*ids, initiator=False) == proxy_id("10.2.0.0/24", "10.1.0.0/24")


OURS = (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.0.0/24", "10.3.0.0/24"))


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (proxy_id("10.1.0.0/24", "10.2.0.0/16"), "differs from 10.1.0.0/24 <-> 10.2.0.0/24 in remote addresses"),
        (proxy_id("10.9.0.0/24", "10.3.0.0/24"), "differs from 10.1.0.0/24 <-> 10.3.0.0/24 in local addresses"),
        (proxy_id("10.1.0.0/24", "10.2.0.0/24", 6), "in remote protocol"),
        (proxy_id("10.2.0.0/24", "10.1.0.0/24"), "local and remote are exchanged on one side"),
    ],
)
def test_a_mismatch_names_both_and_the_part(theirs, said):
    text = explain(OURS, theirs)
    assert text.startswith(f"ours: {OURS[0]}, {OURS[1]}; the peer's: {theirs}; ")
    assert said in text


def test_what_ikev1_cannot_say():
    assert is_expressible(OURS[0])
    assert is_expressible(ProxyId(of("10.1.0.0/24", 6), of("10.2.0.0/24", 6, (443, 443))))
    assert not is_expressible(ProxyId(of("10.1.0.0/24", 6), of("10.2.0.0/24", 6, (5000, 5010))))
    assert not is_expressible(ProxyId(*(TrafficSelector(4, 0, 9, 6, 65535, 0),) * 2))
