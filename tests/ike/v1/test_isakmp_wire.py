"""ISAKMP's octets: what is built parses again, and nothing that lies about a length, a number or an end is taken."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, build_isakmp, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.sa_payload import SaAttribute, SaPayload, SaProposal, SaTransform
from ipsec_dp.ike.v1.wire import HEADER, PayloadKind

CLEAR = IsakmpHeader(b"i" * 8, b"r" * 8, 2, 0, 0)
octets = st.binary(max_size=40)
numbers = st.integers(0, 255)


def parse(datagram, *, padded=False):
    header, first = parse_isakmp_header(datagram)
    return parse_payloads(header, first, datagram[HEADER:], padded=padded)


attributes = st.one_of(
    st.builds(SaAttribute, st.integers(0, 0x7FFF), st.binary(min_size=2, max_size=2), st.just(True)),
    st.builds(SaAttribute, st.integers(0, 0x7FFF), octets, st.just(False)),
)
transforms = st.builds(SaTransform, numbers, numbers, st.lists(attributes, max_size=6).map(tuple))
proposals = st.builds(SaProposal, numbers, numbers, st.binary(max_size=16), st.lists(transforms, max_size=4).map(tuple))
any_payload = st.one_of(
    st.builds(SaPayload, st.lists(proposals, min_size=1, max_size=3).map(tuple)),
    st.builds(p.KePayload, octets),
    st.builds(p.NoncePayload, st.binary(min_size=8, max_size=256)),
    st.builds(p.HashPayload, st.binary(min_size=1, max_size=64)),
    st.builds(p.SignaturePayload, octets),
    st.builds(p.VendorIdPayload, octets),
    st.builds(p.NatDPayload, octets),
    st.builds(p.NatDDraftPayload, octets),
    st.builds(p.ConfigPayload, octets),
    st.builds(p.IdPayload, numbers, numbers, st.integers(0, 65535), octets),
    st.builds(p.CertPayload, numbers, octets),
    st.builds(p.CertRequestPayload, numbers, octets),
    st.builds(p.NotificationPayload, numbers, st.integers(0, 65535), st.binary(max_size=16), octets),
    st.builds(p.DeletePayload, numbers, st.lists(st.binary(min_size=4, max_size=4), max_size=5).map(tuple)),
)


@given(st.lists(any_payload, max_size=8, unique_by=lambda payload: payload.type))
def test_what_is_built_parses_again(payloads):
    datagram = build_clear(CLEAR, payloads)
    message = parse(datagram)
    assert message.payloads == tuple(payloads)
    assert message.header == CLEAR
    assert build_clear(message.header, message.payloads) == datagram


@given(st.binary(max_size=300), st.integers(0, 255))
def test_nothing_but_an_error_comes_of_octets(body, first):
    with contextlib.suppress(IkeError):
        parse(build_isakmp(CLEAR, first, body))


@given(st.lists(any_payload, min_size=1, max_size=4, unique_by=lambda payload: payload.type), st.data())
def test_nor_of_a_message_that_was_altered_or_cut(payloads, data):
    datagram = bytearray(build_clear(CLEAR, payloads))
    place = data.draw(st.integers(HEADER, len(datagram) - 1))
    datagram[place] ^= data.draw(st.integers(1, 255))
    cut = bytes(datagram[: data.draw(st.integers(HEADER, len(datagram)))])
    with contextlib.suppress(IkeError):
        header, first = parse_isakmp_header(bytes(datagram))
        parse_payloads(header, first, cut[HEADER:])


GOOD = build_clear(CLEAR, [p.NoncePayload(bytes(16))])


@pytest.mark.parametrize(
    ("place", "octet"),
    [(17, 0x20), (17, 0x11), (27, GOOD[27] + 1), (27, GOOD[27] - 1), (24, 1)],
    ids=["major version", "minor version", "longer than it is", "shorter", "much longer"],
)
def test_a_header_that_lies_is_refused(place, octet):
    altered = bytearray(GOOD)
    altered[place] = octet
    assert parse(GOOD).payloads
    with pytest.raises(IkeSyntaxError):
        parse(bytes(altered))


def test_an_initiators_cookie_is_never_zero():
    with pytest.raises(IkeSyntaxError, match="cookie is zero"):
        parse(bytes(8) + GOOD[8:])


def sa_of(octets_):
    return build_isakmp(CLEAR, PayloadKind.SA, b"\0\0" + (len(octets_) + 4).to_bytes(2, "big") + octets_)


SITUATION = (1).to_bytes(4, "big") * 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "octets wanted"),
        (SITUATION, "without a proposal"),
        ((2).to_bytes(4, "big") + SITUATION[4:], "DOI 2"),
        (SITUATION[:4] + (2).to_bytes(4, "big"), "situation 2"),
        (SITUATION + bytes.fromhex("0000000801010001"), "0 transforms where 1"),
        (SITUATION + bytes.fromhex("0200000801010000"), "announced and lacks"),
        (SITUATION + bytes.fromhex("0500000801010000"), "followed by 5"),
        (SITUATION + bytes.fromhex("000000ff01010000"), "octets wanted"),
        (SITUATION + bytes.fromhex("0000000001010000"), "octets wanted"),
        (SITUATION + bytes.fromhex("000000080101ff00"), "SPI of 255"),
        (SITUATION + bytes.fromhex("0000001001010001" + "0000000801010000") + b"x", "octets too many"),
        (SITUATION + bytes.fromhex("0000001401010001" + "0000000c01010000" + "000b0005"), "octets wanted"),
    ],
)
def test_an_sa_payload_that_lies_is_refused(body, said):
    with pytest.raises(IkeSyntaxError, match=said):
        parse(sa_of(body))


@pytest.mark.parametrize(
    "payload",
    [
        p.NoncePayload(bytes(7)),
        p.NoncePayload(bytes(257)),
        p.HashPayload(b""),
        p.HashPayload(bytes(65)),
        p.IdPayload(1, 0, 0, bytes(LIMITS.identity_octets + 1)),
    ],
    ids=lambda payload: f"{payload.type.name} {len(payload.data)}",
)
def test_a_payload_of_a_size_that_cannot_be_is_refused(payload):
    with pytest.raises(IkeSyntaxError):
        parse(build_clear(CLEAR, [payload]))


def test_a_delete_that_lies_about_its_number_is_refused():
    body = bytes.fromhex("00000001" + "03" + "04" + "0002" + "00001000")
    with pytest.raises(IkeSyntaxError, match="DELETE of 2"):
        parse(build_isakmp(CLEAR, PayloadKind.DELETE, b"\0\0" + (len(body) + 4).to_bytes(2, "big") + body))


def test_payloads_that_may_not_be_doubled():
    for payload, most in (
        (p.NoncePayload(bytes(8)), 1),
        (p.KePayload(b"k"), 1),
        (p.HashPayload(b"h"), 1),
        (p.IdPayload(1, 0, 0, b""), 2),
    ):
        assert len(parse(build_clear(CLEAR, [payload] * most)).payloads) == most
        with pytest.raises(IkeSyntaxError, match="more than"):
            parse(build_clear(CLEAR, [payload] * (most + 1)))


def test_a_chain_is_bounded():
    vendor = p.VendorIdPayload(b"v")
    assert len(parse(build_clear(CLEAR, [vendor] * LIMITS.payloads)).payloads) == LIMITS.payloads
    with pytest.raises(IkeSyntaxError, match=f"more than {LIMITS.payloads} payloads"):
        parse(build_clear(CLEAR, [vendor] * (LIMITS.payloads + 1)))


def test_padding_is_passed_over_only_where_there_may_be_some():
    datagram = build_isakmp(CLEAR, PayloadKind.HASH, bytes.fromhex("00000005") + b"h" + bytes(255))
    assert parse(datagram, padded=True).get(p.HashPayload) == p.HashPayload(b"h")
    with pytest.raises(IkeSyntaxError, match="behind the last payload"):
        parse(datagram)
    longer = build_isakmp(CLEAR, PayloadKind.HASH, bytes.fromhex("00000005") + b"h" + bytes(256))
    with pytest.raises(IkeSyntaxError, match="behind the last payload"):
        parse(longer, padded=True)


def test_what_the_hash_covers_ends_where_the_payloads_do():
    datagram = build_clear(CLEAR, [p.HashPayload(b"h"), p.NoncePayload(bytes(8))]) + bytes(7)
    message = parse(datagram[:24] + len(datagram).to_bytes(4, "big") + datagram[28:], padded=True)
    assert message.behind_hash == bytes.fromhex("0000000c") + bytes(8)


def test_a_reserved_octet_is_zero():
    altered = bytearray(GOOD)
    altered[29] = 1
    with pytest.raises(IkeSyntaxError, match="reserved"):
        parse(bytes(altered))


def test_kinds_that_nobody_knows_are_passed_over():
    datagram = build_isakmp(CLEAR, 200, bytes.fromhex("0a000005ff") + GOOD[28:])
    assert parse(datagram).payloads == (p.NoncePayload(bytes(16)),)


def test_a_number_of_nine_octets_is_none():
    assert SaAttribute(12, bytes(9), False).number is None
    assert SaAttribute(12, b"", False).number is None
    assert SaAttribute.of(12, 28800) == SaAttribute(12, b"\x70\x80", True)
    assert SaAttribute.of(12, 86400) == SaAttribute(12, b"\0\x01\x51\x80", False)
