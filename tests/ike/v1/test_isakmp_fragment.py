"""Fragments of IKEv1's messages by themselves: what they are made of, how they become whole, what is kept until then."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1.fragment import IsakmpFragments
from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, parse_fragment
from ipsec_dp.ike.v1.payloads import FragmentPayload
from ipsec_dp.ike.v1.wire import HEADER

RANDOM = random.Random(7)
CLEAR = IsakmpHeader(b"i" * 8, b"r" * 8, 2, 0, 0)


def anything(_octets):
    return True


def message(octets, fill=b"\0"):
    """One of so many octets, as its header says."""
    return fill * 24 + octets.to_bytes(4, "big") + fill * (octets - 28)


def pieces(whole, size, identifier=1):
    cut = [whole[at : at + size] for at in range(0, len(whole), size)]
    return [FragmentPayload(identifier, number, number == len(cut), part) for number, part in enumerate(cut, 1)]


def given_all(reassembler, parts, now=0.0, whose="one"):
    """What became whole on the way."""
    found = [reassembler.add(whose, one, now, anything) for one in parts]
    return [whole for whole in found if whole is not None]


def test_the_octets_of_a_fragment():
    """Identifier 7, number 2, the last one."""
    datagram = build_clear(CLEAR, [FragmentPayload(7, 2, True, b"data")])
    assert datagram[16] == 132
    assert datagram[HEADER:] == bytes.fromhex("0000000c 0007 02 01") + b"data"
    assert parse_fragment(datagram[HEADER:]) == FragmentPayload(7, 2, True, b"data")


@pytest.mark.parametrize(
    "body",
    [
        "0000000c 0001 00 01 61626364",  # number 0
        "0000000c 0001 ff 01 61626364",  # a number that no message needs
        "0d00000c 0001 01 01 61626364",  # another payload behind it
        "0000000b 0001 01 01 61626364",  # shorter than it is
        "0000000d 0001 01 01 61626364",  # longer
        "00000008 0001 01 01",  # empty
        "00000007 0001 01",
        "",
    ],
)
def test_what_is_no_fragment_is_refused(body):
    with pytest.raises(IkeSyntaxError):
        parse_fragment(bytes.fromhex(body))


@given(st.binary(max_size=60))
def test_nothing_but_an_error_comes_of_octets(body):
    with contextlib.suppress(IkeError):
        parse_fragment(body)


@given(octets=st.integers(28, 5000), size=st.integers(40, 1300), seed=st.randoms(), doubled=st.booleans())
def test_they_become_whole_once_in_any_order(octets, size, seed, doubled):
    whole = seed.randbytes(24) + octets.to_bytes(4, "big") + seed.randbytes(octets - 28)
    parts = pieces(whole, size) * (2 if doubled else 1)
    seed.shuffle(parts)
    found = given_all(IsakmpFragments(), parts)
    assert found in ([whole], [whole, whole]), "a second time by its first fragment, which is a repetition"
    assert found[1:] == [] or doubled


def test_a_missing_one_keeps_it_from_becoming_whole():
    parts = pieces(message(256), 60)
    for missing in range(len(parts)):
        assert given_all(IsakmpFragments(), parts[:missing] + parts[missing + 1 :]) == []


def test_what_got_there_of_a_first_attempt_counts_when_it_is_sent_again():
    whole = RANDOM.randbytes(24) + (256).to_bytes(4, "big") + RANDOM.randbytes(228)
    parts, reassembler = pieces(whole, 60), IsakmpFragments()
    assert given_all(reassembler, [parts[0], parts[2], parts[4]]) == []
    assert given_all(reassembler, [parts[0], parts[1], parts[3]]) == [whole]


def test_a_message_that_comes_again_is_whole_by_its_first_part_and_leaves_nothing_behind():
    """Most send each message by one identifier: parts of the message before must not become parts of the next."""
    first, second = message(200), message(110, b"x")
    reassembler = IsakmpFragments()
    assert given_all(reassembler, pieces(first, 60)) == [first]
    assert given_all(reassembler, pieces(first, 60)) == [first]
    assert not reassembler.collecting
    assert given_all(reassembler, pieces(first, 60)[2:]) == []
    assert given_all(reassembler, pieces(second, 60)) == [second]


@pytest.mark.parametrize("left", [[0], [1], [2], [3], [0, 2], [1, 3], [0, 1, 2]])
@pytest.mark.parametrize("octets", [50, 110, 180, 300])
def test_an_unfinished_message_gives_way_to_the_next_of_the_same_identifier(left, octets):
    """At once where a part contradicts it, else when that one is sent again."""
    reassembler, parts, following = IsakmpFragments(), pieces(message(200), 60), message(octets, b"x")
    given_all(reassembler, [parts[number] for number in left])
    found = given_all(reassembler, pieces(following, 60) * 2)
    assert following in found
    assert set(found) <= {following}


@pytest.mark.parametrize("other", [("elsewhere", 1), ("one", 2)], ids=["from elsewhere", "another identifier"])
def test_parts_of_one_message_come_from_one_place_by_one_identifier(other):
    whose, identifier = other
    reassembler = IsakmpFragments()
    one, two = pieces(message(100, b"a"), 60), pieces(message(100, b"b"), 60, identifier)
    assert reassembler.add(("one", 1), one[0], 0.0, anything) is None
    assert reassembler.add((whose, identifier), two[1], 0.0, anything) is None
    assert reassembler.add((whose, identifier), two[0], 0.0, anything) == message(100, b"b")


def test_what_is_not_whole_in_time_is_forgotten():
    parts, reassembler = pieces(message(100), 60), IsakmpFragments()
    given_all(reassembler, parts[:1], now=10.0)
    assert reassembler.deadline == 10.0 + LIMITS.fragment_seconds
    reassembler.expire(reassembler.deadline - 0.001)
    assert reassembler.octets == 60
    assert given_all(reassembler, parts[1:], now=10.0 + LIMITS.fragment_seconds) == []
    assert reassembler.octets == 40


def test_memory_stays_bounded_whatever_comes():
    """CVE-2013-6076 and its class: numbers, sizes and ends at random, of several messages at once."""
    reassembler, source = IsakmpFragments(), random.Random(1)
    for _ in range(20_000):
        number = source.randint(1, LIMITS.fragments)
        piece = FragmentPayload(source.randint(1, 2), number, source.random() < 0.02, bytes(source.randint(1, 4000)))
        reassembler.add(piece.id, piece, 0.0, anything)
        assert reassembler.octets <= 2 * LIMITS.fragment_octets, "the one that is collected, and the last one that was whole"


def test_one_message_has_so_many_octets():
    reassembler, most = IsakmpFragments(), LIMITS.fragment_octets // LIMITS.fragment_most
    for number in range(1, 1 + most):
        assert reassembler.add("one", FragmentPayload(1, number, False, bytes(LIMITS.fragment_most)), 0.0, anything) is None
    assert reassembler.octets == most * LIMITS.fragment_most
    reassembler.add("one", FragmentPayload(1, 1 + most, False, bytes(LIMITS.fragment_most)), 0.0, anything)
    assert reassembler.octets == 0
    reassembler.add("one", FragmentPayload(1, 1, True, bytes(LIMITS.fragment_most + 1)), 0.0, anything)
    assert reassembler.octets == 0, "one that no path could need"


def test_nothing_is_kept_beyond_what_may_be():
    asked = []

    def may(octets):
        asked.append(octets)
        return octets <= 100

    reassembler, parts = IsakmpFragments(), pieces(bytes(150), 60)
    for one in parts:
        assert reassembler.add("one", one, 0.0, may) is None
    assert (reassembler.octets, asked) == (90, [60, 120, 90])
