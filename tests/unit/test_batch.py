"""Whole batches in numpy arrays: the loops' own functions without devices."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from ipsec_dp.dataplane import GROWTH, TAILROOM, Batch, SaHandle
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.plane import pair
from tests.unit.sites import inbound, outbound, padded, seal, to_b

SIZES = (28, 29, 64, 65, 256, 1420, 9000)
PACKETS = [udp_of_size("10.1.0.1", "10.2.0.1", size) for size in SIZES]


@pytest.fixture
def site():
    with pair() as made:
        yield made


def reasons(batch):
    return [batch.reason(row) for row in range(batch.rows)]


def test_a_batch_holds_packets_in_rows_with_room_to_seal():
    batch = Batch.of(PACKETS)
    assert batch.packets() == PACKETS
    assert batch.data.shape == (len(PACKETS), max(SIZES) + GROWTH)
    assert batch.octets.tolist() == list(SIZES)
    assert GROWTH >= TAILROOM
    assert Batch.of([b"xy"], stride=10).stride == 10
    assert Batch.of([]).packets() == []


@pytest.mark.parametrize("suite", ["aes128gcm16", "chacha20poly1305-esn", "aes256-sha512-esn"])
def test_what_is_sealed_opens_and_both_sides_count_it(suite):
    with pair(suite) as site:
        sealed = site.seal(Batch.of(PACKETS))
        assert reasons(sealed) == ["ok"] * len(PACKETS)
        plain = site.open(sealed)
        assert plain.packets() == PACKETS
        for info in (outbound(site), inbound(site)):
            assert (info.packets, info.octets, info.sequence) == (len(PACKETS), sum(SIZES), len(PACKETS))
        assert site.a.plane.counters().packets_out == site.b.plane.counters().packets_in == len(PACKETS)


def test_a_batch_is_sealed_like_packets_through_the_devices():
    """The same key, the same counters, the same octets."""
    with pair() as first, pair() as second:
        first.a.push(*PACKETS)
        first.a.step()
        assert second.seal(Batch.of(PACKETS)).packets() == [datagram.data for datagram in first.a.sent()]


def test_numpy_fills_a_batch_in_place(site):
    batch = Batch(64, 100 + TAILROOM)
    batch.data[:, : len(to_b())] = np.frombuffer(to_b(), np.uint8)
    batch.octets[:] = len(to_b())
    assert site.open(site.seal(batch)).packets() == [to_b()] * 64


def test_each_row_has_its_own_reason(site):
    good = [seal(site, padded(to_b(), 4), number) for number in (1, 2)]
    sealed = Batch.of([good[0], good[0], good[1][:-1] + bytes(1), good[1], b"", b"\0" * 30])
    plain = site.open(sealed)
    assert reasons(plain) == ["ok", "replay", "icv", "ok", "runt", "unknown_spi"]
    assert plain.octets.tolist() == [28, 0, 0, 28, 0, 0]
    assert site.b.drops == {"replay": 1, "icv": 1, "runt": 1, "unknown_spi": 1}


def test_malformed_packets_are_not_sealed(site):
    sealed = site.seal(Batch.of([to_b(), b"", bytes(40), to_b()[:-1], to_b()]))
    assert reasons(sealed) == ["ok", "inner_length", "inner_version", "inner_length", "ok"]
    assert outbound(site).sequence == 2


def test_rows_too_short_to_seal_in_or_into_are_refused_one_by_one(site):
    packet = to_b(bytes(72))
    size = 8 + 8 + 100 + 4 + 16
    for stride, room, reason in ((100 + TAILROOM, size, "ok"), (100 + TAILROOM - 1, size, "too_big"), (200, size - 1, "too_big")):
        sealed = Batch(1, room)
        site.a.plane.seal(site.outbound("a"), Batch.of([packet], stride), sealed)
        assert reasons(sealed) == [reason]
    assert outbound(site).sequence == 1


def test_lengths_beyond_a_row_are_refused(site):
    batch = Batch.of([to_b(), to_b()])
    batch.octets[:] = batch.stride + 1, 2**32 - 1
    assert reasons(site.seal(batch)) == ["too_big", "too_big"]
    assert reasons(site.open(batch)) == ["too_big", "too_big"]


def test_rows_too_short_to_open_into_are_refused(site):
    sealed = site.seal(Batch.of([to_b()]))
    plain = Batch(1, int(sealed.octets[0]) - 1)
    assert site.b.plane.open(sealed, plain) == 0
    assert reasons(plain) == ["too_big"]
    assert inbound(site).sequence == 0


def test_tfc_padding_needs_its_room_in_the_row():
    with pair(tfc_octets=500) as site:
        short, wide = Batch.of([to_b()], stride=500 + TAILROOM - 1), Batch.of([to_b()], stride=500 + TAILROOM)
        sealed = Batch(1, 600)
        site.a.plane.seal(site.outbound("a"), short, sealed)
        assert reasons(sealed) == ["too_big"]
        site.a.plane.seal(site.outbound("a"), wide, sealed)
        assert reasons(sealed) == ["ok"]
        assert site.open(sealed).packets() == [to_b()]


def test_fewer_rows_than_packets_never_reach_the_core(site):
    three, two = Batch(3, 100), Batch(2, 100)
    with pytest.raises(ValueError, match="3 packets do not fit 2 rows"):
        site.a.plane.seal(site.outbound("a"), three, two)
    with pytest.raises(ValueError, match="3 packets do not fit 2 rows"):
        site.a.plane.open(three, two)


def test_only_an_outbound_sa_seals(site):
    batch, sealed = Batch.of([to_b()]), Batch(1, 200)
    for handle in (site.inbound("a"), SaHandle(0), SaHandle(2**40)):
        with pytest.raises(DataPlaneError) as caught:
            site.a.plane.seal(handle, batch, sealed)
        assert caught.value.errno == errno.ENOENT


def test_while_threads_run_the_loops_are_theirs(site):
    batch, sealed = Batch.of([to_b()]), Batch(1, 200)
    site.a.plane.start()
    for call in (lambda: site.a.plane.seal(site.outbound("a"), batch, sealed), lambda: site.a.plane.open(sealed, batch)):
        with pytest.raises(DataPlaneError) as caught:
            call()
        assert caught.value.errno == errno.EBUSY
    site.a.plane.stop()
    assert site.a.plane.seal(site.outbound("a"), batch, sealed) == 1


def test_times_of_use_are_those_the_caller_gives(site):
    sealed = Batch(1, 200)
    site.a.plane.seal(site.outbound("a"), Batch.of([to_b()]), sealed, now=12345)
    assert outbound(site).last_use == 12345
