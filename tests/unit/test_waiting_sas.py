"""SAs that are installed before they may be used, and go on, many at once, in the little time that nobody forwards."""

from __future__ import annotations

import errno
import os
import sys

import pytest
from ipsec_dp._native import ffi

from ipsec_dp.dataplane import moving
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.rig.plane import OUTER, PlaneRig, pair, selectors_of
from tests.unit.sites import outbound
from tests.unit.successors import number_of, params_of, send

FLAGS_AT = ffi.sizeof("struct dp_sa_record") + ffi.offsetof("struct dp_sa_state", "flags")


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
    room = after.plane.arena().in_use
    assert (send(after), after.drops) == ([], {"retired": 1})
    records = site.a.plane.export_many(before)
    assert (send(site.a), site.a.drops, site.a.plane.arena().in_use) == ([], {"retired": 1}, 0)
    after.plane.pause_receiving()
    assert after.plane.go_on(handles, records) == {}
    after.plane.resume_receiving()
    assert not any(records)
    assert after.plane.arena().in_use == room, "they had their memory before"
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
    with pytest.raises(DataPlaneError) as refused:
        after.plane.go_on(handles, given := bytearray(records))
    assert (refused.value.errno, any(given)) == (errno.EBUSY, False), "devices are read"
    for rig in (site.a, after):
        rig.plane.pause_receiving()
    assert [*site.a.plane.go_on(before, bytearray(records))] == [0, 1], "they have left"
    assert send(site.a) == []
    assert after.plane.go_on(handles, records) == {}  # the control


@pytest.mark.parametrize("wrong", [lambda records: records[:-8], lambda records: records + bytes(8), lambda _: bytearray()])
def test_octets_that_are_no_records_of_so_many_sas_are_refused_as_a_whole(site, waiting, wrong):
    after, before, handles = waiting
    after.plane.pause_receiving()
    given = wrong(site.a.plane.export_many(before))
    with pytest.raises(DataPlaneError) as refused:
        after.plane.go_on(handles, given)
    assert (refused.value.errno, any(given)) == (errno.EINVAL, False)
    after.plane.resume_receiving()
    assert send(after) == []


def test_one_that_cannot_be_taken_waits_on_and_the_others_go_on(site, waiting):
    """The state of the receiver is none that it could have: flags that there are not."""
    after, before, handles = waiting
    after.plane.pause_receiving()
    receiver = before.index(site.inbound("a"))
    records = site.a.plane.export_many(before)
    at = 0 if receiver == 0 else int.from_bytes(records[:4], sys.byteorder)
    records[at + FLAGS_AT : at + FLAGS_AT + 4] = b"\xff" * 4
    assert after.plane.go_on(handles, records) == {receiver: os.strerror(errno.EINVAL)}
    assert not any(records)
    after.plane.resume_receiving()
    assert len(send(after)) == 1


def test_a_record_that_is_nobodys_is_passed_over(site, waiting):
    after, before, handles = waiting
    after.plane.pause_receiving()
    receiver = before.index(site.inbound("a"))
    handles[receiver] = 0
    assert after.plane.go_on(handles, site.a.plane.export_many(before)) == {}
    after.plane.resume_receiving()
    assert len(send(after)) == 1


def test_the_layout_of_records_is_one_value():
    assert len(record_layout()) == 32
    assert record_layout() == record_layout()


@pytest.mark.parametrize("name", ["RECORD_ENCODING", "SA_MODEL", "DROP_NAMES"])
def test_records_written_otherwise_have_another_layout(monkeypatch, name):
    before = record_layout()
    monkeypatch.setattr(moving, name, ("another",))
    assert record_layout() != before
