"""SAs that are installed before they may be used, and go on, many at once, in the little time that nobody forwards."""

from __future__ import annotations

import errno

import pytest

from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import OUTER, PlaneRig, pair, selectors_of
from tests.unit.sites import outbound
from tests.unit.successors import number_of, params_of, send


@pytest.fixture
def site():
    with pair("aes128gcm16-esn", sequence=2**32 - 3) as made:
        yield made


@pytest.fixture
def waiting(site):
    """A successor of gateway a, with all that can be there before, and the handles of both by their order."""
    before = list(site.a.sad.records)
    with PlaneRig("a", OUTER[4]["a"], clock=site.clock, encapsulation=site.a.encapsulation) as after:
        after.protect(selectors_of("a"))
        handles = [after.plane.install_waiting(params_of(site.a.sad.records[handle])) for handle in before]
        child = after.plane.add_child(0, selectors_of("a"))
        sender = next(new for old, new in zip(before, handles, strict=True) if old == site.outbound("a"))
        after.plane.switch(0, child, sender)
        yield after, before, handles


def test_they_go_on_where_the_others_stopped(site, waiting):
    after, before, handles = waiting
    sent = send(site.a, 2)
    was = outbound(site)
    assert (send(after), after.drops, after.plane.arena().in_use) == ([], {"retired": 1}, 0)
    records = site.a.plane.export_many(before)
    assert (send(site.a), site.a.drops, site.a.plane.arena().in_use) == ([], {"retired": 1}, 0)
    after.plane.pause_receiving()
    after.plane.go_on(handles, records)
    after.plane.resume_receiving()
    assert not any(records)
    sender = handles[before.index(site.outbound("a"))]
    now = after.plane.read_sa(sender)
    assert (now.packets, now.sequence, now.first_use) == (was.packets, was.sequence, was.first_use)
    sent += send(after, 3)
    assert [number_of(each) & 0xFFFFFFFF for each in sent] == [2**32 - 2, 2**32 - 1, 0, 1, 2]


def test_all_leave_or_none_does(site):
    inbound_handle, outbound_handle = site.inbound("a"), site.outbound("a")
    site.a.plane.export_sa(inbound_handle, site.suite)
    with pytest.raises(DataPlaneError) as refused:
        site.a.plane.export_many([outbound_handle, inbound_handle])
    assert refused.value.errno == errno.EALREADY
    assert len(site.a.plane.export_many([outbound_handle])) > 0  # the control: it had not left


def test_what_does_not_wait_is_refused(site, waiting):
    after, before, handles = waiting
    records = site.a.plane.export_many(before)
    for plane, wanted, given, number in (
        (after.plane, handles, records[:-1], errno.EINVAL),
        (after.plane, handles, bytearray(records), errno.EBUSY),
        (site.a.plane, before, bytearray(records), errno.EPERM),
    ):
        if number == errno.EPERM:
            plane.pause_receiving()
        with pytest.raises(DataPlaneError) as refused:
            plane.go_on(wanted, given)
        assert refused.value.errno == number
        assert not any(given)
    assert send(site.a) == []
    after.plane.pause_receiving()
    after.plane.go_on(handles, records)  # the control


def test_the_layout_of_records_is_one_value():
    assert len(record_layout()) == 32
    assert record_layout() == record_layout()
