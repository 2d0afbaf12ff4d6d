"""Bursts of one SA by itself: what is given, what comes back, what of each row, and what is refused before the core sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ipsec_dp.dataplane import GROWTH, TAILROOM, Batch
from ipsec_dp.rig.security_association import Burst
from tests.unit.lone_sas import PACKETS, reasons, sa_of
from tests.unit.sites import to_b


@pytest.fixture
def sa():
    with sa_of() as made:
        yield made


@pytest.mark.parametrize("suite", ["aes128gcm16", "chacha20poly1305-esn", "aes128-sha1", "aes256-sha512-esn"])
@pytest.mark.parametrize("form", ["list", "batch", "array", "array in place", "read-only array"])
def test_a_burst_is_its_packets_one_by_one_however_it_is_given(suite, form):
    batch = Batch.of(PACKETS)
    array = batch.data.copy()
    array.flags.writeable = form != "read-only array"
    given: tuple[Any, ...] = {"list": (PACKETS,), "batch": (batch,)}.get(form, (array, batch.octets))
    with sa_of(suite, seed=7) as one, sa_of(suite, seed=7) as other:
        sealed = one.seal_burst(*given, pad_in_place="place" in form)
        assert sealed.packets() == [other.seal(packet) for packet in PACKETS]
        assert sealed.sequences.tolist() == list(range(1, 1 + len(PACKETS)))
        opened = one.open_burst(sealed.data, sealed.octets)
        assert opened.packets() == PACKETS
        assert (opened.sequences.tolist(), set(opened.next_headers.tolist())) == (sealed.sequences.tolist(), {4})


def test_arrays_are_only_read_unless_they_may_be_written_to(sa):
    array, lengths = np.full((2, 28 + TAILROOM), 0x5A, np.uint8), np.full(2, 28, np.uint32)
    array[:, :28] = np.frombuffer(to_b(), np.uint8)
    before = array.copy()
    sa.seal_burst(array, lengths)
    assert (array == before).all()
    sa.seal_burst(array, lengths, pad_in_place=True)
    assert (array[:, :28] == before[:, :28]).all()
    assert not (array == before).all()


def test_whole_rows_need_no_lengths(sa):
    array = np.frombuffer(to_b() * 5, np.uint8).reshape(5, 28)
    assert sa.open_burst(sa.seal_burst(array)).packets() == [to_b()] * 5


def test_the_same_arrays_again_are_read_again(sa):
    array, lengths, out = np.zeros((2, 100), np.uint8), np.zeros(2, np.uint32), Burst(2, 100 + GROWTH)
    for packet in (to_b(b"first"), to_b(b"the second")):
        array[:, : len(packet)] = np.frombuffer(packet, np.uint8)
        lengths[:] = len(packet)
        assert sa.seal_burst(array, lengths, out=out) is out
        assert sa.open_burst(out.data, out.octets).packets() == [packet] * 2


def test_each_row_has_its_own_reason_number_and_next_header(sa):
    good = sa.seal(to_b(), sequence=5)
    opened = sa.open_burst([good, good, sa.craft(b"", next_header=59), sa.seal(to_b(version=6), sequence=6)])
    assert reasons(opened) == ["ok", "replay", "dummy", "ok"]
    assert (opened.sequences.tolist(), opened.next_headers.tolist()) == ([5, 0, 0, 6], [4, 0, 0, 41])
    assert opened.packets() == [to_b(), b"", b"", to_b(version=6)]


def test_explicit_numbers_of_a_burst(sa):
    numbers = np.array([9, 3, 2**32 - 1], np.uint64)
    assert sa.open_burst(sa.seal_burst([to_b()] * 3, sequences=numbers), look=True).sequences.tolist() == numbers.tolist()
    assert sa.sequence == 0


def test_rows_too_short_are_refused_one_by_one(sa):
    assert reasons(sa.seal_burst(PACKETS[:2], out=Burst(2, 40))) == ["too_big"] * 2
    assert reasons(sa.open_burst([sa.seal(to_b())], out=Burst(1, 40))) == ["too_big"]
    batch = Batch.of(PACKETS[:2])
    batch.octets[:] = batch.stride + 1, 2**32 - 1
    assert reasons(sa.seal_burst(batch)) == reasons(sa.open_burst(batch)) == ["too_big"] * 2
    assert sa.sequence == 1, "the one packet that was sealed to be opened"


def test_no_packets_are_a_burst_too(sa):
    assert sa.seal_burst([]).packets() == sa.open_burst(np.zeros((0, 10), np.uint8)).packets() == []


@pytest.mark.parametrize(
    ("packets", "lengths", "says"),
    [
        (np.zeros(28, np.uint8), None, r"packets of shape \(28,\)"),
        (np.zeros((2, 28), np.int8), None, "type int8"),
        (np.zeros((2, 56), np.uint8)[:, ::2], None, "C-contiguous"),
        (np.zeros((2, 28), np.uint8), np.zeros(3, np.uint32), r"lengths of shape \(3,\)"),
        (np.zeros((2, 28), np.uint8), np.zeros(2, np.int64), "type int64"),
        (np.zeros((2, 28), np.uint8), np.zeros(4, np.uint32)[::2], "C-contiguous"),
        ([b""], np.zeros(1, np.uint32), "lengths go with an array"),
        (Batch(1, 28), np.zeros(1, np.uint32), "lengths go with an array"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(sa, packets, lengths, says):
    for call in (sa.seal_burst, sa.open_burst):
        with pytest.raises(ValueError, match=says):
            call(packets, lengths)


def test_numbers_and_rows_of_another_shape_are_refused(sa):
    array, out = np.zeros((2, 28), np.uint8), Burst(2, 100)
    for numbers in (np.zeros(3, np.uint64), np.zeros(2, np.int64)):
        with pytest.raises(ValueError, match="sequences of shape"):
            sa.seal_burst(array, sequences=numbers)
    for call in (sa.seal_burst, sa.open_burst):
        for packets in (array, Batch(2, 28)):
            with pytest.raises(ValueError, match="2 packets into 3 rows"):
                call(packets, out=Burst(3, 100))
        for packets in (out, out.data):
            with pytest.raises(ValueError, match="where it lies"):
                call(packets, out=out)
