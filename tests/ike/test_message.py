"""Header and chain: versions, lengths, critical and repeated payloads, protected payloads last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.errors import Ikev1MessageError, InvalidMajorVersionError, UnsupportedCriticalPayloadError, notify_of
from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_chain, parse_message
from ipsec_dp.ike.v2.wire import MAX_MESSAGE, ExchangeType, Flag, NotifyType, PayloadType

from . import strategies

HEADER = Header(b"\x01" * 8, b"\x02" * 8, ExchangeType.INFORMATIONAL, Flag.INITIATOR, 7)


def raw(chain: str, first: int, *, version: int = 0x20, spi_i: str = "01" * 8, extra: int = 0) -> bytes:
    octets = bytes.fromhex(chain)
    head = bytes.fromhex(spi_i) + b"\x02" * 8 + bytes([first, version, 37, 8]) + (7).to_bytes(4, "big")
    return head + (28 + len(octets) + extra).to_bytes(4, "big") + octets


@given(strategies.messages)
def test_what_is_built_parses_back_to_itself(message):
    assert parse_message(build_message(message)) == message


@given(st.binary(max_size=400))
def test_arbitrary_octets_raise_only_the_syntax_error(octets):
    with pytest.raises(IkeSyntaxError):
        parse_message(octets)


@given(strategies.messages, st.data())
def test_a_damaged_message_raises_only_the_syntax_error_and_parses_canonically_otherwise(message, data):
    octets = bytearray(build_message(message))
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(strategies.u8)
    try:
        parsed = parse_message(octets)
    except IkeSyntaxError:
        return
    if all(getattr(payload, "selectors", True) for payload in parsed.payloads):
        assert parse_message(build_message(parsed)) == parsed


@given(strategies.messages, st.data())
def test_every_truncation_is_refused(message, data):
    octets = build_message(message)
    with pytest.raises(IkeSyntaxError):
        parse_message(octets[: data.draw(st.integers(0, len(octets) - 1))])


def test_header_layout_and_roles():
    message = parse_message(raw("", 0))
    assert message == Message(HEADER, ())
    assert (message.header.from_initiator, message.header.is_response) == (True, False)
    assert build_message(message) == raw("", 0)


def test_ikev1_is_told_apart_and_not_answered():
    with pytest.raises(Ikev1MessageError) as caught:
        parse_message(raw("", 0, version=0x10))
    assert notify_of(caught.value) is None


def test_a_major_version_that_never_was_is_refused():
    with pytest.raises(IkeSyntaxError, match="major version 0"):
        parse_message(raw("", 0, version=0x00))


def test_a_newer_major_version_is_named_and_a_newer_minor_one_ignored():
    with pytest.raises(InvalidMajorVersionError) as caught:
        parse_message(raw("", 0, version=0x30))
    assert notify_of(caught.value) == p.Notify(NotifyType.INVALID_MAJOR_VERSION)
    assert parse_message(raw("", 0, version=0x2F)).header == HEADER


@pytest.mark.parametrize("extra", [-1, 1, 65_536])
def test_the_length_field_must_be_the_datagrams(extra):
    with pytest.raises(IkeSyntaxError, match="length field"):
        parse_message(raw("", 0, extra=extra))


def test_a_message_larger_than_a_datagram_is_refused():
    with pytest.raises(IkeSyntaxError, match="length field"):
        parse_message(raw("00" * MAX_MESSAGE, PayloadType.VENDOR_ID))


def test_an_initiator_spi_of_zero_is_refused():
    with pytest.raises(IkeSyntaxError, match="SPI is zero"):
        parse_message(raw("", 0, spi_i="00" * 8))


def test_an_unknown_payload_is_passed_over_or_refused_when_critical():
    nonce = "00 00 0014" + "aa" * 16
    assert parse_message(raw("28 00 0006 ffff" + nonce, 200)).payloads == (p.Nonce(b"\xaa" * 16),)
    with pytest.raises(UnsupportedCriticalPayloadError) as caught:
        parse_message(raw("28 80 0006 ffff" + nonce, 200))
    assert caught.value.payload_type == 200


def test_the_critical_bit_on_a_payload_we_know_is_ignored():
    assert parse_message(raw("00 80 0014" + "aa" * 16, 40)).payloads == (p.Nonce(b"\xaa" * 16),)


def test_reserved_bits_beside_the_critical_bit_are_ignored():
    assert parse_message(raw("28 7f 0004 00 7f 0014" + "aa" * 16, 200)).payloads == (p.Nonce(b"\xaa" * 16),)


@pytest.mark.parametrize("length", ["0000", "0003", "0015", "ffff"])
def test_a_payload_length_outside_the_message_is_refused(length):
    with pytest.raises(IkeSyntaxError):
        parse_message(raw("00 00" + length + "aa" * 16, 40))


def test_octets_after_the_last_payload_are_refused():
    with pytest.raises(IkeSyntaxError, match="too many"):
        parse_message(raw("00 00 0014" + "aa" * 17, 40))


def test_a_payload_that_may_stand_once_is_refused_twice_and_a_notify_is_not():
    nonce = p.Nonce(bytes(16))
    with pytest.raises(IkeSyntaxError, match="twice"):
        parse_message(build_message(Message(HEADER, (nonce, nonce))))
    notifies = (p.Notify(16388, bytes(20)), p.Notify(16388, bytes(20)))
    assert parse_message(build_message(Message(HEADER, notifies))).payloads == notifies


def test_an_endless_chain_of_empty_payloads_is_refused():
    with pytest.raises(IkeSyntaxError, match="more than 128 payloads"):
        parse_message(raw("2b 00 0004" * 10_000, PayloadType.VENDOR_ID))
    with pytest.raises(IkeSyntaxError, match="more than 128 payloads"):
        parse_message(raw("c8 00 0004" * 10_000, 200))


def test_a_protected_payload_is_last_and_never_inside_another():
    with pytest.raises(IkeSyntaxError, match="too many"):
        parse_message(raw("28 00 0008 01020304 00 00 0014" + "aa" * 16, PayloadType.SK))
    with pytest.raises(IkeSyntaxError, match="inside"):
        parse_chain(PayloadType.SK, Reader(bytes.fromhex("00 00 0004")), inside=True)


@pytest.mark.parametrize(
    ("first_inner", "number", "total"),
    [(35, 0, 1), (35, 1, 0), (0, 3, 2), (35, 2, 2), (0, 1, 2), (35, 1, 129), (0, 65_535, 65_535)],
)
def test_fragment_numbers_out_of_bounds_are_refused(first_inner, number, total):
    with pytest.raises(IkeSyntaxError, match="fragment"):
        parse_message(raw(f"{first_inner:02x} 00 0009 {number:04x} {total:04x} ff", PayloadType.SKF))


def test_payloads_are_found_by_class_and_notifies_by_type():
    message = Message(HEADER, (p.Notify(1), p.Nonce(bytes(16)), p.Notify(2)))
    assert message.get(p.Nonce) == p.Nonce(bytes(16))
    assert message.get(p.Delete) is None
    assert message.all(p.Notify) == (p.Notify(1), p.Notify(2))
    assert (message.notify(2), message.notify(3)) == (p.Notify(2), None)
