"""No SK IV is used twice: whoever gave a key away seals nothing with it, or only what it had reserved (RFC 5282 §3)."""

from __future__ import annotations

import os

import pytest

from ipsec_dp.ike.carried.model import Exact, Reserved
from ipsec_dp.ike.errors import RetiredKeyError
from ipsec_dp.ike.v2.protect import seal_message
from ipsec_dp.ike.v2.sk_iv import FIRST_OF_NEXT, SkIvs
from tests.ike.test_protect import HEADER, INNER, SUITES, both_ends

IV = slice(32, 40)


def sealed(protection):
    return seal_message(protection, HEADER, INNER, os.urandom)


@pytest.mark.parametrize("name", SUITES)
def test_a_retired_key_seals_nothing_more(name):
    sealing, _ = both_ends(SUITES[name])
    assert sealed(sealing)
    sealing.ivs.retire()
    with pytest.raises(RetiredKeyError):
        sealed(sealing)


def test_an_iv_is_an_epoch_and_a_counter_behind_it():
    sealing, _ = both_ends(SUITES["aes128gcm16"])
    assert [sealed(sealing)[IV] for _ in range(2)] == [bytes(8), bytes(7) + b"\1"]
    sealing.ivs = SkIvs(7, epoch=0x1234)
    assert sealed(sealing)[IV].hex() == "1234000000000007"


def test_the_counter_does_not_reach_into_the_epoch():
    ivs = SkIvs(FIRST_OF_NEXT - 1, epoch=1)
    assert ivs.take() == 0x1_FFFF_FFFF_FFFF
    with pytest.raises(OverflowError):
        ivs.take()


@pytest.mark.parametrize(("first", "epoch"), [(-1, 0), (FIRST_OF_NEXT + 1, 0), (0, -1), (0, 1 << 16)])
def test_what_does_not_fit_is_no_iv(first, epoch):
    with pytest.raises(ValueError, match="an SK IV of"):
        SkIvs(first, epoch)


def test_who_has_reserved_a_stride_goes_on_in_it_and_no_further():
    ivs = SkIvs()
    ivs.take()
    begins = ivs.reserve(3)
    other = SkIvs(begins)
    ours = [ivs.take() for _ in range(3)]
    with pytest.raises(OverflowError):
        ivs.take()
    assert ours == [1, 2, 3]
    assert [other.take() for _ in range(2)] == [4, 5]


def test_a_second_stride_begins_behind_what_was_taken():
    ivs = SkIvs()
    assert ivs.reserve(2) == 2
    assert [ivs.take(), ivs.reserve(4), ivs.take()] == [0, 5, 1]


@pytest.mark.parametrize("stride", [0, -1])
def test_a_stride_of_nothing_is_refused(stride):
    with pytest.raises(ValueError, match="a stride of"):
        SkIvs().reserve(stride)


def test_a_stride_that_leaves_nothing_behind_it_is_refused():
    ivs = SkIvs(FIRST_OF_NEXT - 10)
    with pytest.raises(OverflowError):
        ivs.reserve(10)
    assert ivs.reserve(9) == FIRST_OF_NEXT - 1


def test_a_retired_key_reserves_nothing():
    ivs = SkIvs()
    ivs.retire()
    with pytest.raises(RetiredKeyError):
        ivs.reserve(1)


def test_both_forms_are_values():
    assert (Exact(next=3).next, Reserved(begins=9, stride=4).begins) == (3, 9)
