"""The encoding of strongSwan's control protocol."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.rig.peers.vici import Message, Vici, ViciError, decode, encode

# The example of the protocol's description: key1 = value1, section1 { sub-section { key2 = value2 } list1 = [item1 item2] }.
EXAMPLE = (
    b"\x03\x04key1\x00\x06value1\x01\x08section1\x01\x0bsub-section\x03\x04key2\x00\x06value2\x02"
    b"\x04\x05list1\x05\x00\x05item1\x05\x00\x05item2\x06\x02"
)
MESSAGE: Message = {"key1": "value1", "section1": {"sub-section": {"key2": "value2"}, "list1": ["item1", "item2"]}}

NAMES = st.text(st.characters(codec="ascii"), max_size=20)
MESSAGES = st.recursive(
    st.dictionaries(NAMES, st.text(max_size=20) | st.lists(st.text(max_size=9), max_size=3), max_size=4),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def test_the_example_of_the_protocol():
    assert encode(MESSAGE) == EXAMPLE
    assert decode(EXAMPLE) == MESSAGE


@settings(max_examples=50)
@given(MESSAGES)
def test_what_is_encoded_is_decoded(message):
    assert decode(encode(message)) == message


def test_no_truncated_message_is_taken_for_a_shorter_one():
    boundaries = [len(encode({})), len(encode({"key1": "value1"}))]  # where the outermost section may end
    for octets in range(len(EXAMPLE)):
        if octets not in boundaries:
            with pytest.raises(ViciError):
                decode(EXAMPLE[:octets])


@pytest.mark.parametrize("octets", [b"\x00", b"\x02", b"\x05\x00\x01x", b"\x06", b"\x07\x01x", b"\x04\x01l\x03"])
def test_elements_out_of_place_are_refused(octets):
    with pytest.raises(ViciError):
        decode(octets)


@given(st.binary(max_size=60))
def test_any_octets_decode_or_raise(octets):
    with contextlib.suppress(ViciError):
        decode(octets)


def test_nobody_there(tmp_path):
    with pytest.raises(ViciError, match=r"charon\.vici: No such file"):
        Vici(tmp_path / "charon.vici")
