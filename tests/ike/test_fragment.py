"""Fragmentation (RFC 7383): sizes, order, loss, duplicates, and the bounds on what is kept."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.pieces import message_room
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2 import protect
from ipsec_dp.ike.v2.errors import IntegrityError
from ipsec_dp.ike.v2.fragment import Reassembler, seal_datagrams
from ipsec_dp.ike.v2.message import parse_message

from .test_protect import HEADER, SUITES, any_suite, both_ends

LARGE = (p.IdentificationInitiator(2, b"gw.example"), p.Certificate(4, os.urandom(5_000)))


def reassemble(opening, datagrams, reassembler, now=0.0):
    """Feeds datagrams; the payloads of the message that became whole, or None."""
    whole = None
    for datagram in datagrams:
        message = parse_message(datagram)
        piece = message.payloads[-1]
        assert isinstance(piece, p.EncryptedFragment)
        done = reassembler.add(message.header.message_id, piece, protect.open_payload(opening, datagram, piece), now)
        whole = protect.parse_inner(*done) if done else whole
    return whole


def fragments(name="aes128gcm16", payloads=LARGE, room=1232):
    sealing, opening = both_ends(SUITES[name])
    return opening, seal_datagrams(sealing, HEADER, payloads, os.urandom, room=room, fragment=True)


@pytest.mark.parametrize(("ip_version", "marker", "room"), [(4, False, 1252), (4, True, 1248), (6, False, 1232), (6, True, 1228)])
def test_a_datagram_of_1280_octets_counts_its_headers(ip_version, marker, room):
    assert message_room(ip_version, marker=marker) == room


@given(suite=any_suite, octets=st.integers(1, 9_000), room=st.integers(200, 1_300), seed=st.randoms())
def test_fragments_fit_and_become_whole_in_any_order(suite, octets, room, seed):
    sealing, opening = both_ends(suite)
    payloads = (p.VendorId(bytes(octets)),)
    datagrams = list(seal_datagrams(sealing, HEADER, payloads, os.urandom, room=room, fragment=True))
    assert all(len(datagram) <= room for datagram in datagrams)
    if len(datagrams) == 1:
        assert protect.open_message(opening, datagrams[0], parse_message(datagrams[0])).payloads == payloads
        return
    assert len(datagrams[0]) > room - 16  # as large as blocks allow
    seed.shuffle(datagrams)
    assert reassemble(opening, datagrams, Reassembler()) == payloads


def test_a_message_that_fits_or_a_peer_that_takes_no_fragments_gets_one_datagram():
    sealing, _ = both_ends(SUITES["aes128gcm16"])
    small = seal_datagrams(sealing, HEADER, (p.Notify(1),), os.urandom, room=1232, fragment=True)
    large = seal_datagrams(sealing, HEADER, LARGE, os.urandom, room=1232, fragment=False)
    assert [parse_message(d).payloads[-1].type for d in (*small, *large)] == [p.Encrypted.type] * 2


def test_only_the_first_fragment_names_the_first_payload():
    _, datagrams = fragments()
    shells = [parse_message(datagram).payloads[-1] for datagram in datagrams]
    assert [(s.first_inner, s.number, s.total) for s in shells if isinstance(s, p.EncryptedFragment)] == [
        (35 if number == 1 else 0, number, 5) for number in range(1, 6)
    ]


def test_a_message_beyond_the_largest_number_of_fragments_is_not_sent():
    with pytest.raises(ValueError, match="does not fit"):
        fragments(payloads=(p.VendorId(bytes(60_000)),), room=300)
    with pytest.raises(ValueError, match="does not fit"):
        fragments(room=40)


def test_duplicates_count_once():
    opening, datagrams = fragments()
    reassembler = Reassembler()
    assert reassemble(opening, datagrams[:-1] * 3, reassembler) is None
    assert reassemble(opening, datagrams[-1:], reassembler) == LARGE
    assert reassembler.octets == 0


def test_a_missing_fragment_keeps_the_message_from_becoming_whole():
    opening, datagrams = fragments()
    for missing in range(len(datagrams)):
        assert reassemble(opening, datagrams[:missing] + datagrams[missing + 1 :], Reassembler()) is None


def test_a_fragment_whose_icv_fails_is_never_collected():
    """Bug class: fragment reassembly state made by strangers."""
    opening, datagrams = fragments()
    forged = datagrams[1][:-1] + bytes([datagrams[1][-1] ^ 1])
    reassembler = Reassembler()
    with pytest.raises(IntegrityError):
        reassemble(opening, [forged], reassembler)
    assert reassembler.octets == 0


def piece(number, total, first=35):
    return p.EncryptedFragment(first if number == 1 else 0, number, total, b"")


def test_smaller_fragments_replace_larger_ones_and_not_the_other_way_round():
    """RFC 7383 §2.6: the peer has found that its first size does not get through."""
    reassembler = Reassembler()
    assert reassembler.add(1, piece(1, 2), b"AAAA", 0) is None
    for number in (1, 2):
        assert reassembler.add(1, piece(number, 3), b"aa", 0) is None
    assert reassembler.add(1, piece(2, 2), b"BBBB", 0) is None
    assert reassembler.add(1, piece(3, 3), b"aa", 0) == (35, b"aaaaaa")


def test_a_new_message_replaces_an_unfinished_one_and_an_old_one_changes_nothing():
    reassembler = Reassembler()
    assert reassembler.add(4, piece(1, 2), b"old", 0) is None
    assert reassembler.add(5, piece(1, 2), b"new", 0) is None
    assert reassembler.add(4, piece(2, 2), b"old", 0) is None
    assert reassembler.add(5, piece(2, 2), b"er", 0) == (35, b"newer")


def test_fragments_that_do_not_all_come_in_time_are_forgotten():
    reassembler = Reassembler()
    reassembler.add(1, piece(1, 2), b"x", 10.0)
    reassembler.expire(10.0 + LIMITS.fragment_seconds - 0.001)
    assert reassembler.octets == 1
    assert reassembler.add(1, piece(2, 2), b"y", 10.0 + LIMITS.fragment_seconds) is None
    assert reassembler.octets == 1


def test_memory_stays_bounded_whatever_an_authenticated_peer_sends():
    """Bug class: fragment reassembly bounds."""
    reassembler = Reassembler()
    source = random.Random(1)
    for _ in range(20_000):
        total = source.randint(2, LIMITS.fragments)
        reassembler.add(source.randint(0, 3), piece(source.randint(1, total), total), bytes(source.randint(0, 4_000)), 0.0)
        assert reassembler.octets <= LIMITS.fragment_octets


def test_what_is_not_whole_is_bounded():
    """Whoever has made a key exchange, and shown nothing else, can have us hold it."""
    reassembler, large = Reassembler(), bytes(LIMITS.fragment_most)
    most = LIMITS.fragment_octets // LIMITS.fragment_most
    for number in range(1, 1 + most):
        assert reassembler.add(1, piece(number, 9), large, 0) is None
    assert reassembler.octets == most * LIMITS.fragment_most
    assert reassembler.add(1, piece(1 + most, 9), large, 0) is None
    assert reassembler.octets == 0


def test_a_fragment_that_no_path_could_need_is_ignored():
    reassembler = Reassembler()
    assert reassembler.add(1, piece(1, 2), bytes(LIMITS.fragment_most + 1), 0) is None
    assert reassembler.octets == 0
    assert reassembler.add(1, piece(1, 2), b"x", 0) is None
    assert reassembler.add(1, piece(2, 2), b"y", 0) is not None
