"""SAs that go on, and promise not to go beyond a bound: who takes over begins behind it, should they be lost."""

from __future__ import annotations

import errno

import pytest

from ipsec_dp.dataplane import Limits, MemoryDatagram
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import pair
from tests.unit.successors import iv_of, number_of, replica, send


@pytest.mark.parametrize(("suite", "used"), [("aes128gcm16", 0), ("aes128gcm16-esn", 2**32 - 6), ("aes128-sha1", 0)])
def test_a_successor_seals_behind_what_was_reserved(suite, used):
    with pair(suite, sequence=used) as site:
        handle = site.outbound("a")
        sent = send(site.a, 3)
        with pytest.raises(DataPlaneError, match="exporting"):
            site.a.plane.snapshot_sa(handle, site.suite)  # nothing is promised yet
        site.a.plane.reserve(handle, used + 10)
        state = site.a.plane.snapshot_sa(handle, site.suite, most=1500)
        assert (state.exact, state.sequence, state.octets) == (False, used + 10, 300 + 7 * 1500)
        sent += send(site.a, 10)
        assert site.a.drops == {"unreserved": 3}
        with replica(site, "a", state) as after:
            sent += send(after, 5)
        site.a.plane.reserve(handle, used + 11)
        assert len(sent) == 15
        assert len({number_of(each) for each in sent}) == len({iv_of(each) for each in sent}) == 15
        assert len(send(site.a, 2)) == 1  # the control: more was reserved


def test_a_successor_opens_above_what_was_published_alone():
    with pair() as site:
        handle = site.inbound("b")
        sent = [MemoryDatagram(each.data, each.remote, each.local) for each in send(site.a, 20)]
        site.b.arrive(sent[0])
        site.b.plane.publish(handle, 10)
        site.b.arrive(*sent[1:15])
        site.b.step()
        assert (len(site.b.pulled()), site.b.drops) == (10, {"unpublished": 5})
        state = site.b.plane.snapshot_sa(handle, site.suite)
        with replica(site, "b", state) as after:
            after.arrive(*sent)
            after.step()
            assert (len(after.pulled()), after.drops) == (10, {"replay": 10})
        site.b.plane.publish(handle, 12)
        site.b.arrive(*sent)
        site.b.step()
        assert len(site.b.pulled()) == 2


@pytest.mark.parametrize("limits", [Limits(hard_packets=12), Limits(hard_octets=1200)])
def test_a_reserve_counts_against_the_limits(limits):
    with pair(limits=limits) as site:
        send(site.a, 3)
        site.a.plane.reserve(site.outbound("a"), 10)
        with replica(site, "a", site.a.plane.snapshot_sa(site.outbound("a"), site.suite, most=100)) as after:
            assert len(send(after, 5)) == 2
            assert after.drops == {"hard_limit": 3}


def test_without_extended_numbers_no_reserve_reaches_beyond_the_last():
    with pair(sequence=2**32 - 5) as site:
        handle = site.outbound("a")
        with pytest.raises(DataPlaneError) as refused:
            site.a.plane.reserve(handle, 2**32)
        assert refused.value.errno == errno.ERANGE
        site.a.plane.reserve(handle, 2**32 - 1)
        with replica(site, "a", site.a.plane.snapshot_sa(handle, site.suite)) as after:
            assert send(after) == []
            assert after.drops == {"sequence_exhausted": 1}
